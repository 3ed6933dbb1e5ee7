/** Shared memory of the load's clients: one POSIX object, a region of it per client. */

import type { InferParameters } from "../../../src/protocol/mod.ts";
import { sharedMemoryParameters } from "../../../src/protocol/mod.ts";

/** Bytes of each place in a slot: rows enough for the model's largest batch. */
const PLACE_BYTES = 4096;
/**
 * What a client abandons may still be written when it has gone on, so results nobody will look at have a
 * place of their own.
 */
const PLACES = ["a", "b", "sum", "difference", "abandoned"] as const;
export type Place = (typeof PLACES)[number];

/** Bytes of one client's region. */
export const SLOT_BYTES = PLACES.length * PLACE_BYTES;

/** The object; disposing it removes it. */
export class SharedObject implements Disposable {
  readonly key: string;
  readonly #path: string;
  readonly #file: Deno.FsFile;

  constructor(slots: number) {
    this.#path = Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "reactant-load-" });
    this.key = this.#path.replace("/dev/shm", "");
    this.#file = Deno.openSync(this.#path, { read: true, write: true });
    this.#file.truncateSync(slots * SLOT_BYTES);
  }

  slot(index: number): Slot {
    return new Slot(this.#file, `slot-${index}`, index * SLOT_BYTES);
  }

  [Symbol.dispose](): void {
    this.#file.close();
    Deno.removeSync(this.#path);
  }
}

/** One client's part. */
export class Slot {
  readonly region: string;
  /** Where the region begins in the object. */
  readonly start: number;
  readonly #file: Deno.FsFile;

  constructor(file: Deno.FsFile, region: string, start: number) {
    this.#file = file;
    this.region = region;
    this.start = start;
  }

  /** The parameters of a tensor that lies, or is to lie, in a place. */
  at(place: Place, byteSize: number): InferParameters {
    return sharedMemoryParameters({ region: this.region, offset: offsetOf(place), byteSize });
  }

  write(place: Place, data: Uint8Array): void {
    this.#file.seekSync(this.start + offsetOf(place), Deno.SeekMode.Start);
    if (this.#file.writeSync(data) !== data.length) throw new Error("short write");
  }

  read(place: Place, byteSize: number): Uint8Array {
    const data = new Uint8Array(byteSize);
    this.#file.seekSync(this.start + offsetOf(place), Deno.SeekMode.Start);
    if (this.#file.readSync(data) !== byteSize) throw new Error("short read");
    return data;
  }
}

function offsetOf(place: Place): number {
  return PLACES.indexOf(place) * PLACE_BYTES;
}

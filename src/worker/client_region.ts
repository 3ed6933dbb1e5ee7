/** One registered shared-memory region: the client's object, open, and mapped where that is safe. */

import { statfsSync } from "node:fs";
import {
  type Mapping,
  SHARED_OBJECT_FOLDER,
  SharedObject,
  SystemCallError,
} from "../../ffi/libc/mod.ts";
import { InvalidArgumentError, ResourceExhaustedError, type ServerError } from "../errors.ts";

/** One registration, as the status RPC reports it. */
export interface RegionStatus {
  readonly name: string;
  /** Name of the POSIX object, as the client gave it. */
  readonly key: string;
  readonly offset: number;
  readonly byteSize: number;
}

/** Bytes of a region, counted from its start. */
export interface RegionRange {
  readonly offset: number;
  readonly byteSize: number;
}

/** How many more regions may be mapped; shared by all of them. */
export interface MappingBudget {
  left: number;
}

/**
 * States: held, gone. The registry holds a region for as long as its name stands for it, and every request
 * for as long as anything may still read or write there; the last one to let go closes and unmaps it.
 */
export class ClientRegion implements RegionStatus {
  readonly name: string;
  readonly key: string;
  readonly offset: number;
  readonly byteSize: number;
  readonly #file: Deno.FsFile;
  readonly #identity: { readonly dev: number; readonly ino: number | null };
  readonly #mapping: Mapping | undefined;
  readonly #budget: MappingBudget;
  #holders = 1;

  /** Takes over the open file, and is held by its maker. */
  constructor(
    status: RegionStatus,
    { file, info, budget }: { file: Deno.FsFile; info: Deno.FileInfo; budget: MappingBudget },
  ) {
    this.name = status.name;
    this.key = status.key;
    this.offset = status.offset;
    this.byteSize = status.byteSize;
    this.#file = file;
    this.#identity = info;
    this.#budget = budget;
    if (budget.left > 0) this.#mapping = mapGuarded(status, info);
    if (this.#mapping) budget.left--;
  }

  /**
   * Whether its memory may be touched. Not where nothing would catch the fault when the client takes
   * memory away, and not after that has happened: what the mapping has lost it never gets back.
   */
  get isMapped(): boolean {
    return this.#mapping !== undefined && !this.#mapping.isTorn;
  }

  /** Keeps it open and mapped until `letGo`. */
  hold(): void {
    if (this.#holders === 0) throw new TypeError("this region is gone");
    this.#holders++;
  }

  /** Undoes one `hold`, or the maker's own. Views of the last holder become empty. */
  letGo(): void {
    if (--this.#holders > 0) return;
    this.#file.close();
    if (!this.#mapping) return;
    this.#mapping[Symbol.dispose]();
    this.#budget.left++;
  }

  /** Where a range begins in the object, which begins on a page. */
  positionOf({ offset }: RegionRange): number {
    return this.offset + offset;
  }

  /** Whether a range of this region has bytes in common with one of that. */
  overlaps(range: RegionRange, that: ClientRegion, thatRange: RegionRange): boolean {
    const { dev, ino } = this.#identity;
    if (dev !== that.#identity.dev || ino !== that.#identity.ino) return false;
    const [start, thatStart] = [this.positionOf(range), that.positionOf(thatRange)];
    return start < thatStart + thatRange.byteSize && thatStart < start + range.byteSize;
  }

  /**
   * The client's memory itself, of a region that is mapped. Whoever reads or writes it holds the region,
   * and asks `verify` afterwards whether it was there.
   */
  view({ offset, byteSize }: RegionRange): Uint8Array<ArrayBuffer> {
    return this.#mapping!.bytes(this.offset + offset, byteSize);
  }

  /** @throws {InvalidArgumentError} when the object ends before the range does */
  check(range: RegionRange, what: string): void {
    if (this.#reaches(range)) return;
    throw this.#shrunk(what);
  }

  /**
   * Whether the memory of a range was really the object's, all the time since `check`.
   * @throws {InvalidArgumentError} when the client has cut it off
   * @throws {ResourceExhaustedError} when the file system had no memory for it
   */
  verify(range: RegionRange, what: string): void {
    const isLongEnough = this.#reaches(range);
    if (isLongEnough && this.isMapped) return;
    throw isLongEnough && isFull() ? this.#full(what) : this.#shrunk(what);
  }

  /** Copies from `offset` on to all of `target`. @throws {InvalidArgumentError} */
  read(offset: number, target: Uint8Array, what: string): void {
    this.#file.seekSync(this.offset + offset, Deno.SeekMode.Start);
    for (let at = 0; at < target.length;) {
      const count = this.#file.readSync(target.subarray(at));
      if (count === null) throw this.#shrunk(what);
      at += count;
    }
  }

  /**
   * Copies `data` to `offset`.
   * @throws {InvalidArgumentError | ResourceExhaustedError} as `verify` does
   */
  write(offset: number, data: Uint8Array, what: string): void {
    const range = { offset, byteSize: data.length };
    // Writing to the file past its end would make the client's object grow back.
    this.check(range, what);
    if (this.isMapped) {
      this.view(range).set(data);
      this.verify(range, what);
      return;
    }
    this.#file.seekSync(this.offset + offset, Deno.SeekMode.Start);
    try {
      for (let at = 0; at < data.length;) at += this.#file.writeSync(data.subarray(at));
    } catch (error) {
      if ((error as { code?: unknown }).code === "ENOSPC") throw this.#full(what);
      throw error;
    }
  }

  #reaches({ offset, byteSize }: RegionRange): boolean {
    // A sixth of the time of `stat`: this is asked several times per request.
    const size = this.#file.seekSync(0, Deno.SeekMode.End);
    return this.offset + offset + byteSize <= size;
  }

  #shrunk(what: string): ServerError {
    return new InvalidArgumentError(
      `${what} lies beyond the end of shared-memory object ${quote(this.key)}, which has shrunk ` +
        "since it was registered",
    );
  }

  #full(what: string): ServerError {
    return new ResourceExhaustedError(
      `${what}: there is no memory for its part of shared-memory object ${quote(this.key)}, ` +
        "whose file system is full",
    );
  }
}

/**
 * Maps an object from its first page to the region's end. `undefined` where nothing would catch a fault,
 * or there is no room for it.
 */
function mapGuarded(
  { key, offset, byteSize }: RegionStatus,
  opened: Deno.FileInfo,
): Mapping | undefined {
  try {
    using object = SharedObject.open(`/${key.replace(/^\//, "")}`);
    const named = object.linked();
    // Opened by name a second time: it must be the very object that was looked at.
    if (named?.dev !== opened.dev || named.ino !== opened.ino) return undefined;
    using owned = new DisposableStack();
    const mapping = owned.use(object.map(offset + byteSize, true));
    if (!mapping.guard()) return undefined;
    owned.move();
    return mapping;
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return undefined;
  }
}

function isFull(): boolean {
  return statfsSync(SHARED_OBJECT_FOLDER).bavail === 0;
}

/** A client's text in a message: quoted, and cut when it is long. */
export function quote(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

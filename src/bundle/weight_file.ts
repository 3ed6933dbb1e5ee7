/**
 * The file behind a bundle's weights, mapped into memory: opening it reads nothing, and the pages of
 * weights that the device already has can be dropped by the kernel.
 *
 * A mapping has one danger. When another process shortens the file, touching a page behind its new end
 * raises SIGBUS. The mapping is guarded, so that such a page reads as zeros and is remembered, and what
 * was read is used only after a look at the file (`check`): one that has lost pages, or whose size or
 * modification time is no longer the one it was opened with, is refused. The same look precedes every
 * view, which is all there is where mappings cannot be guarded (`ffi/libc/bus_guard.ts` says where). All
 * this is about files overwritten in place; replacing a file by renaming a new one onto it is always safe,
 * as the mapping then keeps the old one.
 */
import { Mapping } from "../../ffi/libc/mod.ts";
import type { ByteSource } from "./safetensors.ts";

/** A mapped file. Views of it are valid until it is disposed, and empty afterwards. */
export class WeightFile implements ByteSource, Disposable {
  readonly byteLength: number;
  /** Differs from that of any other file, and of this one with other contents. */
  readonly identity: string;
  readonly #file: Deno.FsFile;
  readonly #mapping: Mapping;
  readonly #modifiedMs: number | undefined;

  private constructor(file: Deno.FsFile, mapping: Mapping, info: Deno.FileInfo) {
    this.#file = file;
    this.#mapping = mapping;
    this.byteLength = mapping.byteLength;
    this.#modifiedMs = info.mtime?.getTime();
    this.identity = identityOf(info);
  }

  /** Maps a file. @throws {Error} of Deno or of the mapping when it cannot be opened */
  static open(path: string): WeightFile {
    // Before opening: opening a named pipe would wait for its other end.
    if (!Deno.statSync(path).isFile) throw new Error("it is not a regular file");
    using owned = new DisposableStack();
    const file = owned.use(Deno.openSync(path));
    const mapping = owned.use(Mapping.readOnly(path));
    mapping.guard();
    // The two were opened by name, one after the other: they must be one and the same file.
    const [opened, named] = [file.statSync(), Deno.statSync(path)];
    const isSame = opened.dev === named.dev && opened.ino === named.ino;
    if (!isSame || opened.size !== mapping.byteLength) {
      throw new Error("it was replaced or changed while it was opened");
    }
    owned.move();
    return new WeightFile(file, mapping, opened);
  }

  /**
   * The bytes `[offset, offset + length)`, in the mapping. Writing to them would end the process. What was
   * made of them counts when `check` has passed afterwards.
   * @throws {Error} when the file was changed in place after it was opened
   */
  view(offset: number, length: number): Uint8Array<ArrayBuffer> {
    this.check();
    return this.#mapping.bytes(offset, length);
  }

  /** @throws {Error} when the file is not what it was opened as, or not all of it could be read */
  check(): void {
    const { size, mtime } = this.#file.statSync();
    if (size !== this.byteLength || mtime?.getTime() !== this.#modifiedMs) {
      throw new Error(
        "it was changed in place after it was loaded; write a new file and rename it onto the old one",
      );
    }
    if (!this.#mapping.isTorn) return;
    throw new Error(
      "a part of it was missing when it was read: it was cut short meanwhile, or its disk fails; " +
        "write a new file and rename it onto the old one",
    );
  }

  /** Unmaps and closes it; a second call does nothing. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#file[Symbol.dispose]();
  }
}

/** The identity that the file under a path would have now; `undefined` when there is none to be seen. */
export function weightFileIdentity(path: string): string | undefined {
  try {
    return identityOf(Deno.statSync(path));
  } catch {
    return undefined;
  }
}

function identityOf({ dev, ino, size, mtime, ctime }: Deno.FileInfo): string {
  return `${dev}:${ino}:${size}:${mtime?.getTime()}:${ctime?.getTime()}`;
}

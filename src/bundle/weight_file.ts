/** The file behind a bundle's weights. */
import type { ByteSource } from "./safetensors.ts";

/** A weights file that stays open; views of it are valid until it is disposed. */
export interface WeightFile extends ByteSource, Disposable {}

/** Opens a file for reading. @throws {Error} of Deno when it cannot be read */
export function openWeightFile(path: string): WeightFile {
  // Before opening: opening a named pipe would wait for its other end.
  if (!Deno.statSync(path).isFile) throw new Error("it is not a regular file");
  const bytes = Deno.readFileSync(path);
  return {
    byteLength: bytes.length,
    view: (offset, length) => bytes.subarray(offset, offset + length),
    [Symbol.dispose]: () => {},
  };
}

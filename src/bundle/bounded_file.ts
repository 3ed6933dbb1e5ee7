/** Small files of a bundle, read whole, never more of them than allowed. */
import { BundleError, messageOf } from "../errors.ts";

/**
 * Reads a file of at most `maxBytes`. What grows while it is read is cut off there, with an error.
 * @param label how messages call the file
 * @throws {BundleError}
 */
export async function readBoundedFile(
  bundle: string,
  path: string,
  label: string,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    // Before opening: opening a named pipe would wait for its other end.
    const { isFile } = await Deno.stat(path);
    if (!isFile) throw new BundleError(bundle, `${label} is not a regular file`);
    using file = await Deno.open(path);
    const { size } = await file.stat();
    if (size > maxBytes) {
      throw new BundleError(
        bundle,
        `${label} has ${size} bytes, more than the ${maxBytes} allowed`,
      );
    }
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const count = await file.read(bytes.subarray(at));
      if (count === null) {
        throw new BundleError(bundle, `${label} was truncated while it was read`);
      }
      at += count;
    }
    return bytes;
  } catch (error) {
    if (error instanceof BundleError) throw error;
    if (error instanceof Deno.errors.NotFound) {
      throw new BundleError(bundle, `${label} is missing`, { cause: error });
    }
    throw new BundleError(bundle, `${label} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** UTF-8 text of such a file. @throws {BundleError} when it is not UTF-8 */
export async function readBoundedText(
  bundle: string,
  path: string,
  label: string,
  maxBytes: number,
): Promise<string> {
  const bytes = await readBoundedFile(bundle, path, label, maxBytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new BundleError(bundle, `${label} is not UTF-8 text`, { cause: error });
  }
}

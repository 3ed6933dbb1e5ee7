/** The text of a configuration file. */

/** Far more than the largest node has to say. What is longer is some other file, or a device without end. */
const MAX_BYTES = 8 << 20;

/**
 * Reads it whole, also from a pipe, but never more of it than a configuration may have.
 *
 * @throws {Error} when it cannot be read or is too long; the message does not name it
 */
export function readConfigText(path: string): string {
  using file = Deno.openSync(path);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const chunk = new Uint8Array(64 << 10);
    const count = file.readSync(chunk);
    if (count === null) break;
    length += count;
    if (length > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES} bytes`);
    chunks.push(chunk.subarray(0, count));
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return new TextDecoder().decode(bytes);
}

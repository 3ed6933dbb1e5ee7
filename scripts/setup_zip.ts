/**
 * Just enough of the ZIP format (PKWARE APPNOTE 6.3) to take single files out of a wheel as a stream:
 * the central directory, stored and deflated entries, no ZIP64 (a wheel that size is not ours).
 */

/** One file of an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly compressedBytes: number;
  readonly bytes: number;
  /** Where its local header starts. */
  readonly offset: number;
}

const END_SIGNATURE = 0x06054b50;
const DIRECTORY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const MAX_COMMENT_BYTES = 0xffff;

/**
 * The entries of an archive, by name.
 *
 * @throws {Error} when the file is no archive of the kind described above
 */
export function readDirectory(file: Deno.FsFile): Map<string, ZipEntry> {
  const size = file.statSync().size;
  const tail = readAt(
    file,
    Math.max(0, size - END_BYTES - MAX_COMMENT_BYTES),
    Math.min(size, END_BYTES + MAX_COMMENT_BYTES),
  );
  let end = tail.byteLength - END_BYTES;
  while (end >= 0 && tail.getUint32(end, true) !== END_SIGNATURE) end--;
  if (end < 0) throw new Error("not a ZIP archive");
  const count = tail.getUint16(end + 10, true);
  const directory = readAt(file, tail.getUint32(end + 16, true), tail.getUint32(end + 12, true));
  const entries = new Map<string, ZipEntry>();
  for (let index = 0, at = 0; index < count; index++) {
    if (directory.getUint32(at, true) !== DIRECTORY_SIGNATURE) {
      throw new Error("damaged ZIP directory");
    }
    const nameBytes = directory.getUint16(at + 28, true);
    const name = new TextDecoder().decode(
      new Uint8Array(directory.buffer, directory.byteOffset + at + 46, nameBytes),
    );
    entries.set(name, {
      name,
      method: directory.getUint16(at + 10, true),
      compressedBytes: directory.getUint32(at + 20, true),
      bytes: directory.getUint32(at + 24, true),
      offset: directory.getUint32(at + 42, true),
    });
    at += 46 + nameBytes + directory.getUint16(at + 30, true) + directory.getUint16(at + 32, true);
  }
  return entries;
}

/** The contents of an entry, inflated as they are read. The file is closed when the stream ends. */
export function openEntry(path: string, entry: ZipEntry): ReadableStream<Uint8Array<ArrayBuffer>> {
  const file = Deno.openSync(path);
  const header = readAt(file, entry.offset, 30);
  if (header.getUint32(0, true) !== LOCAL_SIGNATURE || ![0, 8].includes(entry.method)) {
    file.close();
    throw new Error(`damaged or unsupported ZIP entry ${entry.name}`);
  }
  const start = entry.offset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  file.seekSync(start, Deno.SeekMode.Start);
  const raw = limited(file.readable, entry.compressedBytes);
  return entry.method === 0 ? raw : raw.pipeThrough(new DecompressionStream("deflate-raw"));
}

function limited(
  source: ReadableStream<Uint8Array<ArrayBuffer>>,
  bytes: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let left = bytes;
  const reader = source.getReader();
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = left > 0 ? await reader.read() : { value: undefined, done: true };
      if (done || value === undefined) {
        await reader.cancel();
        controller.close();
        return;
      }
      controller.enqueue(value.subarray(0, left));
      left -= Math.min(left, value.length);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

function readAt(file: Deno.FsFile, offset: number, length: number): DataView<ArrayBuffer> {
  file.seekSync(offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) throw new Error("the ZIP archive is cut short");
    at += count;
  }
  return new DataView(bytes.buffer);
}

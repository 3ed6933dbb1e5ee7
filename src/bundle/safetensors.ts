/** The safetensors container: where each tensor of a file lies, after every check of the format. */
import { type Datatype, datatypeFromSafetensors } from "../tensor/mod.ts";
import { MAX_HEADER_BYTES } from "./limits.ts";
import { quote } from "./manifest_reader.ts";
import { parseHeader, SafetensorsError } from "./safetensors_header.ts";

/** A tensor in the file. */
export interface StoredTensor {
  readonly name: string;
  readonly datatype: Datatype;
  /** As the header gives it; the bytes are row-major for this shape. */
  readonly shape: readonly number[];
  /** Position in the file, in bytes. */
  readonly offset: number;
  readonly byteLength: number;
}

/** The contents list of a file. */
export interface SafetensorsIndex {
  readonly metadata: ReadonlyMap<string, string>;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** Something bytes can be taken from; `view` may throw when the file has changed. */
export interface ByteSource {
  readonly byteLength: number;
  /** The bytes `[offset, offset + length)`. */
  view(offset: number, length: number): Uint8Array;
}

/**
 * Reads and checks the container: header length, header, datatypes, and that the tensors fill the data
 * section exactly, without gap or overlap.
 * @throws {SafetensorsError}
 */
export function readSafetensors(source: ByteSource): SafetensorsIndex {
  if (source.byteLength < 8) {
    throw new SafetensorsError(
      `the file has ${source.byteLength} bytes, fewer than a header length`,
    );
  }
  const prefix = source.view(0, 8);
  const headerBytes = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (headerBytes > BigInt(MAX_HEADER_BYTES)) {
    throw new SafetensorsError(
      `the header claims ${headerBytes} bytes, more than the ${MAX_HEADER_BYTES} allowed`,
    );
  }
  const dataStart = 8 + Number(headerBytes);
  if (dataStart > source.byteLength) {
    throw new SafetensorsError(
      `the header claims ${headerBytes} bytes where ${
        source.byteLength - 8
      } remain: the file is truncated`,
    );
  }
  const header = parseHeader(source.view(8, Number(headerBytes)));
  const sorted = [...header.tensors].sort((a, b) => a.begin - b.begin || a.end - b.end);
  const dataBytes = source.byteLength - dataStart;
  const tensors = new Map<string, StoredTensor>();
  let expectedBegin = 0;
  for (const { name, dtype, shape, begin, end } of sorted) {
    const info = datatypeFromSafetensors(dtype);
    if (info === undefined) {
      throw new SafetensorsError(`tensor ${quote(name)} has the unsupported type ${quote(dtype)}`);
    }
    const byteLength = sizeInBytes(shape, info.byteSize);
    if (end < begin || end - begin !== byteLength) {
      throw new SafetensorsError(
        `tensor ${quote(name)} has the byte range ${begin} to ${end}, but ${dtype}[${shape}] ` +
          `takes ${byteLength} bytes`,
      );
    }
    if (begin !== expectedBegin) {
      throw new SafetensorsError(
        begin < expectedBegin
          ? `tensor ${
            quote(name)
          } starts at ${begin}, inside the tensor before it, which ends at ${expectedBegin}`
          : `tensor ${quote(name)} starts at ${begin}, leaving a gap after byte ${expectedBegin}`,
      );
    }
    if (end > dataBytes) {
      throw new SafetensorsError(
        `tensor ${quote(name)} ends at ${end}, but the file has ${dataBytes} bytes of data: ` +
          "it is truncated",
      );
    }
    tensors.set(name, {
      name,
      datatype: info.datatype,
      shape,
      offset: dataStart + begin,
      byteLength,
    });
    expectedBegin = end;
  }
  if (expectedBegin !== dataBytes) {
    throw new SafetensorsError(
      `the tensors end at byte ${expectedBegin} of the data, but the file has ${dataBytes} bytes of data`,
    );
  }
  return { metadata: header.metadata, tensors };
}

/** `Infinity` where the count cannot be represented exactly. */
function sizeInBytes(shape: readonly number[], byteSize: number): number {
  if (shape.includes(0)) return 0;
  let bytes = byteSize;
  for (const extent of shape) {
    bytes *= extent;
    if (bytes > Number.MAX_SAFE_INTEGER) return Infinity;
  }
  return bytes;
}

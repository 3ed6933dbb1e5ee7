/**
 * What a shared region begins with: whose weights it has, and that it has all of them. The magic number
 * is written last, so a region whose writer did not live to the end says so by not having one.
 */

/** Bytes before the first tensor: a page, so that those begin on one. */
export const HEADER_BYTES = 4096;

/** "RWGT", little-endian. */
const MAGIC = 0x54475752;
const VERSION = 1;
const DIGEST_BYTES = 32;
const TEXT_AT = 96;

/** Positions: magic 0, version 4, size 8, key 16, contents 48, text length 80, text 96. */
export interface RegionHeader {
  /** Bytes of all tensors with the gaps between them. */
  readonly byteLength: number;
  /** SHA-256 of what the contents follow from. */
  readonly key: Uint8Array;
  /** SHA-256 over the digests of the contents' slices. */
  readonly contents: Uint8Array;
  readonly source: RegionSource;
}

/** The file that was copied. */
export interface RegionSource {
  /** Of the model it was first loaded for; for people. */
  readonly model: string;
  readonly path: string;
  /** `weightFileIdentity` of it, then. */
  readonly identity: string;
}

/** Writes everything but the magic number, then that: from here on the region is complete. */
export function writeHeader(page: Uint8Array, header: RegionHeader): void {
  const text = new TextEncoder().encode(JSON.stringify(header.source));
  const view = viewOf(page);
  page.fill(0, 0, HEADER_BYTES);
  view.setUint32(4, VERSION, true);
  view.setBigUint64(8, BigInt(header.byteLength), true);
  page.set(header.key, 16);
  page.set(header.contents, 48);
  // A path too long to be kept leaves a region that nobody can trace, and so sweeps when it is free.
  const isKept = text.length <= HEADER_BYTES - TEXT_AT;
  view.setUint32(80, isKept ? text.length : 0, true);
  if (isKept) page.set(text, TEXT_AT);
  view.setUint32(0, MAGIC, true);
}

/** The header of a complete region; `undefined` for anything else. */
export function readHeader(page: Uint8Array): RegionHeader | undefined {
  const view = viewOf(page);
  if (page.length < HEADER_BYTES || view.getUint32(0, true) !== MAGIC) return undefined;
  if (view.getUint32(4, true) !== VERSION) return undefined;
  const textLength = view.getUint32(80, true);
  if (textLength > HEADER_BYTES - TEXT_AT) return undefined;
  return {
    byteLength: Number(view.getBigUint64(8, true)),
    key: page.slice(16, 16 + DIGEST_BYTES),
    contents: page.slice(48, 48 + DIGEST_BYTES),
    source: parseSource(new TextDecoder().decode(page.slice(TEXT_AT, TEXT_AT + textLength))),
  };
}

function parseSource(text: string): RegionSource {
  try {
    const { model, path, identity } = JSON.parse(text);
    return { model: String(model), path: String(path), identity: String(identity) };
  } catch {
    return { model: "", path: "", identity: "" };
  }
}

function viewOf(page: Uint8Array): DataView {
  return new DataView(page.buffer, page.byteOffset, page.byteLength);
}

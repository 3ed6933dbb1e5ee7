/**
 * The file of one cached executable: a header of fixed size, then what the plugin serialized. All
 * numbers are little-endian.
 *
 * | bytes   | content                                   |
 * | ------- | ----------------------------------------- |
 * | 0–7     | `RXEXEC01`: the format and its version    |
 * | 8–39    | key                                       |
 * | 40–71   | SHA-256 of the backend's fingerprint      |
 * | 72–79   | length of the payload                     |
 * | 80–111  | SHA-256 of the payload                    |
 * | 112–143 | SHA-256 of the 112 bytes before           |
 *
 * A damaged executable aborts the process inside LLVM, so nothing goes to a plugin before every one of
 * these has been checked. The digests detect damage, not malice: who may write the files is the
 * folder's business.
 */

import { sha256 } from "./key.ts";

export const HEADER_BYTES = 144;

const MAGIC = new TextEncoder().encode("RXEXEC01");
const encoder = new TextEncoder();

/** What an entry must have been written for. */
export interface EntryIdentity {
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** `Backend.fingerprint`. */
  readonly fingerprint: string;
}

/** The file is not the entry it should be; the message says in what. */
export class DamagedEntryError extends Error {
  override readonly name = "DamagedEntryError";
}

/** What a header says of the payload behind it. */
export interface PayloadClaim {
  readonly byteLength: number;
  readonly digest: Uint8Array;
}

/** The header of `payload`. */
export async function encodeHeader(
  { key, fingerprint }: EntryIdentity,
  payload: Uint8Array,
): Promise<Uint8Array> {
  const header = new Uint8Array(HEADER_BYTES);
  header.set(MAGIC, 0);
  header.set(key, 8);
  header.set(await sha256(encoder.encode(fingerprint)), 40);
  new DataView(header.buffer).setBigUint64(72, BigInt(payload.length), true);
  header.set(await sha256(payload), 80);
  header.set(await sha256(header.subarray(0, 112)), 112);
  return header;
}

/**
 * Checks a header against the entry that is wanted and the size of its file.
 * @throws {DamagedEntryError}
 */
export async function checkHeader(
  header: Uint8Array,
  { key, fingerprint }: EntryIdentity,
  fileBytes: number,
): Promise<PayloadClaim> {
  if (header.length !== HEADER_BYTES) {
    throw new DamagedEntryError(`its header has ${header.length} of ${HEADER_BYTES} bytes`);
  }
  if (!isSame(header.subarray(0, 8), MAGIC)) {
    throw new DamagedEntryError("it is no executable of this format");
  }
  if (!isSame(header.subarray(112), await sha256(header.subarray(0, 112)))) {
    throw new DamagedEntryError("its header is damaged");
  }
  if (!isSame(header.subarray(8, 40), key)) {
    throw new DamagedEntryError("it holds another program");
  }
  if (!isSame(header.subarray(40, 72), await sha256(encoder.encode(fingerprint)))) {
    throw new DamagedEntryError("it was written by another build of the plugin");
  }
  const view = new DataView(header.buffer, header.byteOffset);
  const byteLength = Number(view.getBigUint64(72, true));
  if (fileBytes !== HEADER_BYTES + byteLength) {
    throw new DamagedEntryError(
      `it has ${fileBytes} bytes, not the ${HEADER_BYTES + byteLength} it was written with`,
    );
  }
  return { byteLength, digest: header.subarray(80, 112) };
}

/** @throws {DamagedEntryError} unless the payload is the one the header was written for */
export async function checkPayload(payload: Uint8Array, claim: PayloadClaim): Promise<void> {
  if (payload.length !== claim.byteLength || !isSame(await sha256(payload), claim.digest)) {
    throw new DamagedEntryError("its content is damaged");
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** The few words of an ELF file that tell whether, and as what, it can be loaded here. */

import { allocate } from "../pointer.ts";

/** Deno's names for the machines it runs on, by `e_machine`. */
const MACHINES: Readonly<Record<number, string>> = { 62: "x86_64", 183: "aarch64" };

export interface ElfHeader {
  /** `x86_64`, `aarch64`, or `ELF machine N` for others. */
  readonly machine: string;
  /** The linker's build id in hexadecimal, where there is one: it changes with every build. */
  readonly buildId: string | undefined;
}

/** Reads the header of a 64-bit little-endian shared object; `undefined` when the file is none. */
export function readElfHeader(path: string): ElfHeader | undefined {
  using file = Deno.openSync(path, { read: true });
  const head = readAt(file, 0, 64);
  if (head === undefined || head.getUint32(0) !== 0x7f454c46) return undefined;
  const isClass64 = head.getUint8(4) === 2;
  const isLittleEndian = head.getUint8(5) === 1;
  const isSharedObject = head.getUint16(16, true) === 3;
  if (!isClass64 || !isLittleEndian || !isSharedObject) return undefined;
  const machine = head.getUint16(18, true);
  return { machine: MACHINES[machine] ?? `ELF machine ${machine}`, buildId: buildId(file, head) };
}

const PT_NOTE = 4;
const NT_GNU_BUILD_ID = 3;
/** Bounds what a damaged header can make us read; real note segments are below a kilobyte. */
const MAX_NOTE_BYTES = 65_536;

function buildId(file: Deno.FsFile, head: DataView): string | undefined {
  const tableOffset = Number(head.getBigUint64(32, true));
  const entrySize = head.getUint16(54, true);
  const entries = head.getUint16(56, true);
  const table = readAt(file, tableOffset, entrySize * entries);
  if (table === undefined || entrySize < 56) return undefined;
  for (let entry = 0; entry < entries; entry++) {
    const at = entry * entrySize;
    if (table.getUint32(at, true) !== PT_NOTE) continue;
    const length = Number(table.getBigUint64(at + 32, true));
    if (length > MAX_NOTE_BYTES) continue;
    const notes = readAt(file, Number(table.getBigUint64(at + 8, true)), length);
    const id = notes && buildIdNote(notes);
    if (id) return id;
  }
  return undefined;
}

/** Notes are (name length, value length, type, name, value), the last two padded to four bytes. */
function buildIdNote(notes: DataView): string | undefined {
  for (let at = 0; at + 12 <= notes.byteLength;) {
    const nameLength = notes.getUint32(at, true);
    const valueLength = notes.getUint32(at + 4, true);
    const value = at + 12 + Math.ceil(nameLength / 4) * 4;
    if (value + valueLength > notes.byteLength) return undefined;
    if (notes.getUint32(at + 8, true) === NT_GNU_BUILD_ID) {
      const bytes = new Uint8Array(notes.buffer, value, valueLength);
      return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    at = value + Math.ceil(valueLength / 4) * 4;
  }
  return undefined;
}

function readAt(file: Deno.FsFile, offset: number, length: number): DataView | undefined {
  const bytes = allocate(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < length;) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) return undefined;
    at += count;
  }
  return new DataView(bytes.buffer, 0, length);
}

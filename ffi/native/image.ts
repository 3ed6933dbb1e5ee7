/**
 * Writes a shared object: the least that the dynamic loader takes (System V gABI, chapters 4 and 5). One
 * segment to read and run with the headers, the symbols and the text, one to write with the dynamic
 * section (some loaders relocate it in place) and the data.
 */

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const SYMBOL_BYTES = 24;

/** Offsets are addresses too. A multiple of the page size. */
const WRITABLE_OFFSET = 0x1000;

const PT = { LOAD: 1, DYNAMIC: 2, GNU_STACK: 0x6474e551 } as const;
const PF = { X: 1, W: 2, R: 4 } as const;
const DT = { NULL: 0, HASH: 4, STRTAB: 5, SYMTAB: 6, STRSZ: 10, SYMENT: 11 } as const;
const ET_DYN = 3;
const EM_X86_64 = 62;
/** Any section but 0, which would make a symbol undefined; there are no section headers. */
const SOME_SECTION = 1;
const GLOBAL_FUNCTION = 0x12;

export interface ImageContents {
  readonly text: Uint8Array;
  /** Behind all tables, below `WRITABLE_OFFSET`. */
  readonly textOffset: number;
  /** End of the zeroed data behind the dynamic section. */
  readonly dataEnd: number;
  /** Symbols by name, with their offsets in the image. */
  readonly symbols: ReadonlyMap<string, number>;
}

/** The bytes of the file. @throws {RangeError} when the tables reach the text or it the data */
export function writeImage(contents: ImageContents): Uint8Array<ArrayBuffer> {
  const { text, textOffset } = contents;
  const names = [...contents.symbols.keys()];
  const strings = new TextEncoder().encode(`\0${names.map((name) => `${name}\0`).join("")}`);
  const programHeaders = HEADER_BYTES;
  const hash = programHeaders + 4 * PROGRAM_HEADER_BYTES;
  const symbolCount = names.length + 1;
  const symbolTable = align(hash + 4 * (3 + symbolCount), 8);
  const stringTable = symbolTable + symbolCount * SYMBOL_BYTES;
  if (stringTable + strings.length > textOffset || textOffset + text.length > WRITABLE_OFFSET) {
    throw new RangeError("the image's parts overlap");
  }
  const dynamic: readonly (readonly [number, number])[] = [
    [DT.HASH, hash],
    [DT.SYMTAB, symbolTable],
    [DT.SYMENT, SYMBOL_BYTES],
    [DT.STRTAB, stringTable],
    [DT.STRSZ, strings.length],
    [DT.NULL, 0],
  ];
  const dynamicBytes = dynamic.length * 16;
  const bytes = new Uint8Array(WRITABLE_OFFSET + dynamicBytes);
  const words = new DataView(bytes.buffer);

  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  words.setUint16(16, ET_DYN, true);
  words.setUint16(18, EM_X86_64, true);
  words.setUint32(20, 1, true);
  words.setUint32(32, programHeaders, true);
  words.setUint16(52, HEADER_BYTES, true);
  words.setUint16(54, PROGRAM_HEADER_BYTES, true);
  words.setUint16(56, 4, true);

  const segment = (index: number, type: number, flags: number, offset: number, sizes: number[]) => {
    const at = programHeaders + index * PROGRAM_HEADER_BYTES;
    words.setUint32(at, type, true);
    words.setUint32(at + 4, flags, true);
    for (const [word, value] of [offset, offset, offset, ...sizes].entries()) {
      words.setBigUint64(at + 8 + word * 8, BigInt(value), true);
    }
  };
  const page = WRITABLE_OFFSET;
  const dataBytes = contents.dataEnd - WRITABLE_OFFSET;
  segment(0, PT.LOAD, PF.R | PF.X, 0, [textOffset + text.length, textOffset + text.length, page]);
  segment(1, PT.LOAD, PF.R | PF.W, WRITABLE_OFFSET, [dynamicBytes, dataBytes, page]);
  segment(2, PT.DYNAMIC, PF.R | PF.W, WRITABLE_OFFSET, [dynamicBytes, dynamicBytes, 8]);
  // Without it the loader would make every thread's stack executable.
  segment(3, PT.GNU_STACK, PF.R | PF.W, 0, [0, 0, 16]);

  // One bucket, in which every symbol is chained to the next.
  words.setUint32(hash, 1, true);
  words.setUint32(hash + 4, symbolCount, true);
  words.setUint32(hash + 8, 1, true);
  let nameOffset = 1;
  for (const [index, name] of names.entries()) {
    const symbol = index + 1;
    words.setUint32(hash + 12 + symbol * 4, symbol < names.length ? symbol + 1 : 0, true);
    const at = symbolTable + symbol * SYMBOL_BYTES;
    words.setUint32(at, nameOffset, true);
    words.setUint8(at + 4, GLOBAL_FUNCTION);
    words.setUint16(at + 6, SOME_SECTION, true);
    words.setBigUint64(at + 8, BigInt(contents.symbols.get(name)!), true);
    nameOffset += name.length + 1;
  }
  bytes.set(strings, stringTable);
  bytes.set(text, textOffset);
  for (const [index, [tag, value]] of dynamic.entries()) {
    words.setBigUint64(WRITABLE_OFFSET + index * 16, BigInt(tag), true);
    words.setBigUint64(WRITABLE_OFFSET + index * 16 + 8, BigInt(value), true);
  }
  return bytes;
}

function align(offset: number, to: number): number {
  return Math.ceil(offset / to) * to;
}

/**
 * HPACK's Huffman code, both ways (RFC 7541 section 5.2). Decoding goes a byte at a time through a
 * table of 256 tree nodes × 256 input bytes; the shortest code has five bits, so one byte finishes at
 * most two symbols. The tables are built on first use (a few milliseconds, 256 KiB).
 */

import { ConnectionError, ErrorCode } from "./error_codes.ts";
import { CODE_LENGTHS } from "./huffman_table.ts";

const EOS = 256;

/** Codes by symbol, right-aligned. The longest has 30 bits. */
let codes: Uint32Array | undefined;

function codeTable(): Uint32Array {
  if (codes !== undefined) return codes;
  const table = new Uint32Array(EOS + 1);
  const order = CODE_LENGTHS.map((_, symbol) => symbol)
    .sort((a, b) => CODE_LENGTHS[a]! - CODE_LENGTHS[b]! || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of order) {
    code <<= CODE_LENGTHS[symbol]! - length;
    length = CODE_LENGTHS[symbol]!;
    table[symbol] = code++;
  }
  return codes = table;
}

/**
 * One transition: next node in bits 0–7, number of symbols in bits 8–9, the symbols in bits 10–17 and
 * 18–25. `INVALID` where the byte runs into EOS.
 */
const INVALID = 0xffff_ffff;

interface Decoder {
  readonly transitions: Uint32Array;
  /** Whether the input may end at a node: at most seven one-bits after the last symbol. */
  readonly accepting: Uint8Array;
}

let decoder: Decoder | undefined;

function buildDecoder(): Decoder {
  const table = codeTable();
  // Child of node n for bit b at [2n + b]: >= 0 an inner node, < 0 the symbol ~child.
  const children = new Int32Array(512);
  let nodes = 1;
  for (let symbol = 0; symbol <= EOS; symbol++) {
    let node = 0;
    for (let bit = CODE_LENGTHS[symbol]! - 1; bit > 0; bit--) {
      const slot = 2 * node + ((table[symbol]! >>> bit) & 1);
      if (children[slot] === 0) children[slot] = nodes++;
      node = children[slot]!;
    }
    children[2 * node + (table[symbol]! & 1)] = ~symbol;
  }
  const transitions = new Uint32Array(256 * 256);
  for (let start = 0; start < 256; start++) {
    for (let byte = 0; byte < 256; byte++) {
      transitions[start * 256 + byte] = transition(children, start, byte);
    }
  }
  const accepting = new Uint8Array(256);
  for (let node = 0, depth = 0; depth < 8; depth++, node = children[2 * node + 1]!) {
    accepting[node] = 1;
  }
  return { transitions, accepting };
}

function transition(children: Int32Array, start: number, byte: number): number {
  let node = start;
  let symbols = 0;
  let count = 0;
  for (let bit = 7; bit >= 0; bit--) {
    const child = children[2 * node + ((byte >>> bit) & 1)]!;
    if (child >= 0) {
      node = child;
      continue;
    }
    if (~child === EOS) return INVALID;
    symbols |= ~child << (10 + 8 * count++);
    node = 0;
  }
  return (symbols | (count << 8) | node) >>> 0;
}

/**
 * Decodes `bytes[start, end)` into `into` from `at`, which must have room for 8/5 of the input.
 * Returns the end of the output. Throws `ConnectionError` (COMPRESSION_ERROR) on EOS or bad padding.
 */
export function huffmanDecode(
  bytes: Uint8Array,
  start: number,
  end: number,
  into: Uint8Array,
  at: number,
): number {
  const { transitions, accepting } = decoder ??= buildDecoder();
  let node = 0;
  for (let i = start; i < end; i++) {
    const step = transitions[node * 256 + bytes[i]!]!;
    if (step === INVALID) {
      throw new ConnectionError(ErrorCode.COMPRESSION_ERROR, "Huffman string contains EOS");
    }
    node = step & 0xff;
    const count = (step >>> 8) & 3;
    if (count > 0) {
      into[at++] = (step >>> 10) & 0xff;
      if (count > 1) into[at++] = (step >>> 18) & 0xff;
    }
  }
  if (accepting[node] === 0) {
    throw new ConnectionError(ErrorCode.COMPRESSION_ERROR, "Huffman string has invalid padding");
  }
  return at;
}

/** Length in bytes of the Huffman form of a string of char codes 0–255. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += CODE_LENGTHS[text.charCodeAt(i)]!;
  return (bits + 7) >>> 3;
}

/** Encodes `text` (char codes 0–255) into `into` from `at`; returns the end. */
export function huffmanEncode(text: string, into: Uint8Array, at: number): number {
  const table = codeTable();
  // At most 7 bits are left over between symbols, and 7 + 30 bits do not fit 32: long codes are
  // fed in two halves.
  let pending = 0;
  let bits = 0;
  const feed = (code: number, length: number) => {
    pending = (pending << length) | code;
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      into[at++] = (pending >>> bits) & 0xff;
    }
    pending &= (1 << bits) - 1;
  };
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    const code = table[symbol]!;
    const length = CODE_LENGTHS[symbol]!;
    if (length > 16) {
      feed(code >>> 16, length - 16);
      feed(code & 0xffff, 16);
    } else {
      feed(code, length);
    }
  }
  if (bits > 0) into[at++] = ((pending << (8 - bits)) | (0xff >>> bits)) & 0xff;
  return at;
}

/**
 * The JSON header of a safetensors file, read byte by byte. A general JSON parser would silently keep
 * the last of two equal names, accept floats as extents, and need gigabytes for a hostile header;
 * this one accepts exactly the header's grammar and holds nothing else.
 *
 * Format: https://github.com/huggingface/safetensors, README section "Format".
 */
import { MAX_FILE_TENSORS, MAX_METADATA_ENTRIES, MAX_WEIGHT_RANK } from "./limits.ts";

/** A tensor as the header describes it; nothing checked beyond the types of the fields. */
export interface HeaderTensor {
  readonly name: string;
  /** For example `F32`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte range in the data section. */
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: readonly HeaderTensor[];
}

/** What is wrong with a safetensors file, without the file's name. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
}

/**
 * Parses a header, given as exactly its bytes.
 * @throws {SafetensorsError}
 */
export function parseHeader(bytes: Uint8Array): SafetensorsHeader {
  if (bytes[0] !== OPEN_BRACE) throw new SafetensorsError('the header does not start with "{"');
  const cursor = new Cursor(bytes, "the header");
  const metadata = new Map<string, string>();
  const tensors: HeaderTensor[] = [];
  const names = new Set<string>();
  cursor.object((name) => {
    if (names.has(name)) throw cursor.error(`has two entries named ${show(name)}`);
    names.add(name);
    if (name === "__metadata__") readMetadata(cursor, metadata);
    else {
      if (tensors.length === MAX_FILE_TENSORS) {
        throw cursor.error(`has more than ${MAX_FILE_TENSORS} tensors`);
      }
      tensors.push(readTensor(cursor, name));
    }
  });
  cursor.end();
  return { metadata, tensors };
}

/**
 * Parses a JSON array of strings, the form of `__metadata__.argument_order`.
 * @throws {SafetensorsError} naming `what`
 */
export function parseStringArray(text: string, what: string): string[] {
  const cursor = new Cursor(new TextEncoder().encode(text), what);
  const strings: string[] = [];
  cursor.array(() => {
    if (strings.length === MAX_FILE_TENSORS) {
      throw cursor.error(`has more than ${MAX_FILE_TENSORS} entries`);
    }
    strings.push(cursor.string());
  });
  cursor.end();
  return strings;
}

function readMetadata(cursor: Cursor, metadata: Map<string, string>): void {
  cursor.object((key) => {
    if (metadata.has(key)) throw cursor.error(`has the metadata key ${show(key)} twice`);
    if (metadata.size === MAX_METADATA_ENTRIES) {
      throw cursor.error(`has more than ${MAX_METADATA_ENTRIES} metadata entries`);
    }
    metadata.set(key, cursor.string());
  });
}

function readTensor(cursor: Cursor, name: string): HeaderTensor {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  cursor.object((field) => {
    const repeated = { dtype, shape, data_offsets: offsets }[field] !== undefined;
    if (repeated) throw cursor.error(`gives tensor ${show(name)} the field ${show(field)} twice`);
    if (field === "dtype") dtype = cursor.string();
    else if (field === "shape") shape = cursor.integers(MAX_WEIGHT_RANK, `shape of ${show(name)}`);
    else if (field === "data_offsets") offsets = cursor.integers(2, `offsets of ${show(name)}`);
    else throw cursor.error(`gives tensor ${show(name)} an unknown field ${show(field)}`);
  });
  if (dtype === undefined || shape === undefined || offsets?.length !== 2) {
    const missing = dtype === undefined ? "dtype" : shape === undefined ? "shape" : "data_offsets";
    throw cursor.error(`gives tensor ${show(name)} no proper ${missing}`);
  }
  return { name, dtype, shape, begin: offsets[0]!, end: offsets[1]! };
}

const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A position in JSON text. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  error(problem: string): SafetensorsError {
    return new SafetensorsError(`${this.#what} ${problem}`);
  }

  /** Reads an object; `member` reads each value. */
  object(member: (key: string) => void): void {
    this.#sequence(OPEN_BRACE, CLOSE_BRACE, () => {
      const key = this.string();
      this.#expect(COLON);
      member(key);
    });
  }

  /** Reads an array; `element` reads each value. */
  array(element: () => void): void {
    this.#sequence(OPEN_BRACKET, CLOSE_BRACKET, element);
  }

  /** Reads at most `limit` non-negative integers. */
  integers(limit: number, what: string): number[] {
    const values: number[] = [];
    this.array(() => {
      if (values.length === limit) {
        throw this.error(`has more than ${limit} numbers as the ${what}`);
      }
      values.push(this.#integer(what));
    });
    return values;
  }

  string(): string {
    this.#expect(QUOTE);
    const start = this.#at;
    let escaped = false;
    for (;; this.#at++) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw this.#syntaxError("the closing quote of a string");
      if (byte === QUOTE) break;
      if (byte < 0x20) throw this.error(`has a control character in a string, byte ${this.#at}`);
      if (byte === BACKSLASH) {
        escaped = true;
        this.#at++;
      }
    }
    const raw = this.#bytes.subarray(start, this.#at++);
    let text: string;
    try {
      text = decoder.decode(raw);
    } catch {
      throw this.error(`is not UTF-8 near byte ${start}`);
    }
    if (!escaped) return text;
    try {
      return JSON.parse(`"${text}"`);
    } catch {
      throw this.error(`has a bad escape in a string, near byte ${start}`);
    }
  }

  /** Only padding may follow. */
  end(): void {
    this.#skipSpace();
    if (this.#at < this.#bytes.length) throw this.#syntaxError("nothing more");
  }

  #integer(what: string): number {
    this.#skipSpace();
    if (this.#bytes[this.#at] === MINUS) throw this.error(`has a negative number as the ${what}`);
    const start = this.#at;
    let value = 0;
    for (;; this.#at++) {
      const digit = (this.#bytes[this.#at] ?? 0) - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) throw this.error(`has a huge number as the ${what}`);
    }
    const next = this.#bytes[this.#at];
    if (this.#at === start || next === 0x2e || next === 0x65 || next === 0x45) {
      throw this.error(`has something other than integers as the ${what}`);
    }
    return value;
  }

  #sequence(open: number, close: number, element: () => void): void {
    this.#expect(open);
    if (this.#peek() === close) {
      this.#at++;
      return;
    }
    for (;;) {
      element();
      if (this.#peek() === close) {
        this.#at++;
        return;
      }
      this.#expect(COMMA);
    }
  }

  #peek(): number | undefined {
    this.#skipSpace();
    return this.#bytes[this.#at];
  }

  #expect(byte: number): void {
    if (this.#peek() !== byte) {
      throw this.#syntaxError(byte === QUOTE ? "a string" : `"${String.fromCharCode(byte)}"`);
    }
    this.#at++;
  }

  #skipSpace(): void {
    for (;; this.#at++) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    }
  }

  #syntaxError(wanted: string): SafetensorsError {
    const where = this.#at >= this.#bytes.length ? "its end" : `byte ${this.#at}`;
    return this.error(`is not valid JSON of a safetensors file: expected ${wanted} at ${where}`);
  }
}

function show(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 57)}...` : name);
}

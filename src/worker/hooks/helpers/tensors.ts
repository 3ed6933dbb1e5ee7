/** Between a hook's named tensors and what its code computes with: typed arrays and strings. */

/** A tensor as hooks see it: little-endian, row-major bytes; BYTES elements are length-prefixed. */
export interface HookTensor {
  name: string;
  datatype: string;
  /** Extents in wire order. */
  shape: number[];
  data: Uint8Array;
}

/** A tensor that is only read. */
export interface ReadableTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** The typed arrays that tensors are read into and made from. */
export type TensorValues =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float16Array
  | Float32Array
  | Float64Array;

/** What `makeTensor` takes: a typed array, plain numbers, or the elements of a BYTES tensor. */
export type TensorSource =
  | TensorValues
  | Uint8ClampedArray
  | readonly (number | bigint | boolean)[]
  | readonly (string | Uint8Array)[];

interface Element {
  readonly array: {
    readonly BYTES_PER_ELEMENT: number;
    new (length: number): TensorValues;
    new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TensorValues;
  };
  /** Least and greatest value; only integers have a range that is checked. */
  readonly range?: readonly [low: bigint, high: bigint];
}

const integer = (bits: number, signed: boolean): Element["range"] =>
  signed
    ? [-(1n << BigInt(bits - 1)), (1n << BigInt(bits - 1)) - 1n]
    : [0n, (1n << BigInt(bits)) - 1n];

/** JavaScript has no BF16: such tensors are read as their bits, and converted by `asFloat32`. */
const ELEMENTS: ReadonlyMap<string, Element> = new Map<string, Element>([
  ["BOOL", { array: Uint8Array, range: [0n, 1n] }],
  ["UINT8", { array: Uint8Array, range: integer(8, false) }],
  ["UINT16", { array: Uint16Array, range: integer(16, false) }],
  ["UINT32", { array: Uint32Array, range: integer(32, false) }],
  ["UINT64", { array: BigUint64Array, range: integer(64, false) }],
  ["INT8", { array: Int8Array, range: integer(8, true) }],
  ["INT16", { array: Int16Array, range: integer(16, true) }],
  ["INT32", { array: Int32Array, range: integer(32, true) }],
  ["INT64", { array: BigInt64Array, range: integer(64, true) }],
  ["FP16", { array: Float16Array }],
  ["BF16", { array: Uint16Array }],
  ["FP32", { array: Float32Array }],
  ["FP64", { array: Float64Array }],
]);

const encoder = new TextEncoder();
// A byte order mark is text like any other here; whoever tokenizes drops it.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The tensor of a name. @throws {TypeError} naming the tensors there are */
export function findTensor<T extends { readonly name: string }>(
  tensors: readonly T[],
  name: string,
): T {
  const found = tensors.find((tensor) => tensor.name === name);
  if (found !== undefined) return found;
  const names = tensors.map((tensor) => JSON.stringify(tensor.name)).join(", ");
  throw new TypeError(`no tensor ${JSON.stringify(name)} among ${names || "none"}`);
}

/**
 * A tensor's elements in the typed array of its datatype: BOOL as 0 and 1, BF16 as its bits. A view of
 * `data` where its alignment allows one, else a copy.
 * @throws {TypeError} for BYTES; {RangeError} when the bytes do not fit the shape
 */
export function valuesOf(tensor: ReadableTensor): TensorValues {
  const element = ELEMENTS.get(tensor.datatype);
  if (element === undefined) {
    throw new TypeError(`${label(tensor)} is ${tensor.datatype}, not numbers`);
  }
  const size = element.array.BYTES_PER_ELEMENT;
  const count = countOf(tensor.name, tensor.shape);
  const { data } = tensor;
  if (data.byteLength !== count * size) {
    throw new RangeError(
      `${label(tensor)} has ${data.byteLength} bytes where [${tensor.shape}] takes ${count * size}`,
    );
  }
  return data.byteOffset % size === 0
    ? new element.array(data.buffer, data.byteOffset, count)
    : new element.array(data.slice().buffer, 0, count);
}

/**
 * Elements of any numeric tensor as float32: FP32 itself (a view where alignment allows), every other
 * type rounded to the nearest.
 */
export function asFloat32(tensor: ReadableTensor): Float32Array {
  const values = valuesOf(tensor);
  if (values instanceof Float32Array) return values;
  return tensor.datatype === "BF16" ? fromBfloat16(values as Uint16Array) : convert(values, {
    into: new Float32Array(values.length),
  });
}

/** Elements of any numeric tensor as float64; FP64 is a view where alignment allows. */
export function asFloat64(tensor: ReadableTensor): Float64Array {
  const values = valuesOf(tensor);
  if (values instanceof Float64Array) return values;
  const numbers = tensor.datatype === "BF16" ? fromBfloat16(values as Uint16Array) : values;
  return convert(numbers, { into: new Float64Array(numbers.length) });
}

/**
 * Elements of an integer or BOOL tensor as int32; INT32 is a view where alignment allows.
 * @throws {RangeError} for a value beyond 32 bits; {TypeError} for floating-point tensors
 */
export function asInt32(tensor: ReadableTensor): Int32Array {
  const values = integersOf(tensor);
  if (values instanceof Int32Array) return values;
  const into = new Int32Array(values.length);
  for (let at = 0; at < into.length; at++) {
    const value = Number(values[at]);
    if (value !== (value | 0)) throw outOfRange(tensor.name, "INT32", at, value);
    into[at] = value;
  }
  return into;
}

/**
 * Elements of an integer or BOOL tensor as int64; INT64 is a view where alignment allows.
 * @throws {RangeError} for a UINT64 value beyond it; {TypeError} for floating-point tensors
 */
export function asInt64(tensor: ReadableTensor): BigInt64Array {
  const values = integersOf(tensor);
  if (values instanceof BigInt64Array) return values;
  const into = new BigInt64Array(values.length);
  for (let at = 0; at < into.length; at++) {
    const value = BigInt(values[at]!);
    into[at] = value;
    if (into[at] !== value) throw outOfRange(tensor.name, "INT64", at, value);
  }
  return into;
}

/**
 * The elements of a BYTES tensor, as views of its bytes.
 * @throws {RangeError} when the lengths in it do not add up to the shape and the bytes
 */
export function bytesOf(tensor: ReadableTensor): Uint8Array[] {
  if (tensor.datatype !== "BYTES") {
    throw new TypeError(`${label(tensor)} is ${tensor.datatype}, not BYTES`);
  }
  const { data } = tensor;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const elements: Uint8Array[] = [];
  for (let at = 0; at < data.length;) {
    const end = at + 4 > data.length ? Infinity : at + 4 + view.getUint32(at, true);
    if (end > data.length) {
      throw new RangeError(`${label(tensor)}: element ${elements.length} runs past the end`);
    }
    elements.push(data.subarray(at + 4, end));
    at = end;
  }
  const count = countOf(tensor.name, tensor.shape);
  if (elements.length !== count) {
    throw new RangeError(`${label(tensor)} has ${elements.length} elements, not ${count}`);
  }
  return elements;
}

/** The elements of a BYTES tensor as text; bytes that are no UTF-8 become U+FFFD. */
export function stringsOf(tensor: ReadableTensor): string[] {
  return bytesOf(tensor).map((element) => decoder.decode(element));
}

/**
 * Makes a tensor. A typed array of the datatype's own kind is taken as it is, without a copy (for BF16: a
 * Uint16Array of its bits); everything else is converted, integers with a check of their range. BYTES
 * takes strings and byte strings.
 * @throws {RangeError} when the values do not fill the shape, or one does not fit the datatype
 */
export function makeTensor(
  name: string,
  datatype: string,
  shape: readonly number[],
  values: TensorSource,
): HookTensor {
  const count = countOf(name, shape);
  if (values.length !== count) {
    throw new RangeError(
      `tensor ${JSON.stringify(name)}: ${values.length} values where [${shape}] takes ${count}`,
    );
  }
  const data = datatype === "BYTES"
    ? encodeElements(name, values)
    : encodeNumbers(name, datatype, values);
  return { name, datatype, shape: [...shape], data };
}

function encodeNumbers(name: string, datatype: string, values: TensorSource): Uint8Array {
  const element = ELEMENTS.get(datatype);
  if (element === undefined) {
    throw new TypeError(`tensor ${JSON.stringify(name)}: unknown datatype ${datatype}`);
  }
  if (
    ArrayBuffer.isView(values) &&
    // By prototype: in the sealed realm of hooks, constructors are replaced by counting ones.
    (Object.getPrototypeOf(values) === element.array.prototype ||
      values instanceof Uint8ClampedArray && element.array === Uint8Array)
  ) {
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const numbers = values as ArrayLike<number | bigint | boolean>;
  if (datatype === "BF16") return bytesOfArray(toBfloat16(numbers));
  const into = new element.array(numbers.length);
  if (element.range === undefined) {
    return bytesOfArray(convert(numbers, { into: into as Float32Array }));
  }
  const [low, high] = element.range;
  for (let at = 0; at < numbers.length; at++) {
    const value = numbers[at]!;
    if (typeof value !== "bigint" && !Number.isInteger(Number(value))) {
      throw outOfRange(name, datatype, at, value);
    }
    const exact = BigInt(value);
    if (exact < low || exact > high) throw outOfRange(name, datatype, at, value);
    (into as { [at: number]: number | bigint })[at] = into instanceof BigInt64Array ||
        into instanceof BigUint64Array
      ? exact
      : Number(exact);
  }
  return bytesOfArray(into);
}

function encodeElements(name: string, values: TensorSource): Uint8Array {
  const parts = Array.from(values as ArrayLike<unknown>, (element, at) => {
    if (typeof element === "string") return encoder.encode(element);
    if (element instanceof Uint8Array) return element;
    throw new TypeError(
      `tensor ${JSON.stringify(name)}: element ${at} is neither a string nor a Uint8Array`,
    );
  });
  const data = new Uint8Array(parts.reduce((total, part) => total + 4 + part.length, 0));
  const view = new DataView(data.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    data.set(part, at + 4);
    at += 4 + part.length;
  }
  return data;
}

function integersOf(tensor: ReadableTensor): Exclude<TensorValues, Float32Array> {
  if (ELEMENTS.get(tensor.datatype)?.range === undefined) {
    throw new TypeError(`${label(tensor)} is ${tensor.datatype}, not integers`);
  }
  return valuesOf(tensor) as Exclude<TensorValues, Float32Array>;
}

function convert<T extends Float32Array | Float64Array>(
  values: ArrayLike<number | bigint | boolean>,
  { into }: { into: T },
): T {
  for (let at = 0; at < into.length; at++) into[at] = Number(values[at]);
  return into;
}

/** BF16 is the upper half of a float32. */
function fromBfloat16(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let at = 0; at < words.length; at++) words[at] = bits[at]! << 16;
  return new Float32Array(words.buffer);
}

/** Rounds float32 to the nearest BF16, ties to even; a NaN keeps its sign and stays quiet. */
function toBfloat16(values: ArrayLike<number | bigint | boolean>): Uint16Array {
  const floats = convert(values, { into: new Float32Array(values.length) });
  const words = new Uint32Array(floats.buffer);
  const bits = new Uint16Array(words.length);
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    bits[at] = Number.isNaN(floats[at]!)
      ? word >>> 16 | 0x40
      : word + 0x7fff + (word >>> 16 & 1) >>> 16;
  }
  return bits;
}

function bytesOfArray(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function countOf(name: string, shape: readonly number[]): number {
  let count = 1;
  for (const extent of shape) {
    if (!Number.isInteger(extent) || extent < 0) {
      throw new RangeError(`tensor ${JSON.stringify(name)} has the impossible shape [${shape}]`);
    }
    count *= extent;
  }
  return count;
}

function label(tensor: ReadableTensor): string {
  return `tensor ${JSON.stringify(tensor.name)}`;
}

function outOfRange(name: string, datatype: string, at: number, value: unknown): RangeError {
  return new RangeError(
    `tensor ${JSON.stringify(name)}: element ${at}, ${value}, is no ${datatype} value`,
  );
}

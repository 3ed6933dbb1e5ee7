/**
 * Reversal of all axes of a tensor: `X[ik,…,i1] = W[i1,…,ik]`, both row-major. The weights of a
 * column-major bundle need it before they fit the program.
 *
 * Seen from memory it is a row of matrix transposes: the first source axis becomes the fastest target
 * axis and the last source axis the slowest, while the axes between are looped over. Each matrix is moved
 * in square tiles, so that the cache lines of its strided side are still there when they are needed again.
 * About 1 GB/s for 4-byte elements, 7 GB/s being a plain copy (4096 x 4096, one x86-64 server core).
 */
import { elementCount } from "../tensor/mod.ts";

/** Edge of a tile in elements. Of 8, 16, 32, 64 and 128, 64 was the fastest on the machine above. */
const TILE = 64;

/** Elements moved between two pauses: a few milliseconds of work. */
const STEP_ELEMENTS = 1 << 20;

/**
 * Writes the reversal of `source`, a tensor of `shape`, into `target`. A generator: it pauses after
 * every few milliseconds of work, so that the caller can let other work run.
 *
 * @param source row-major bytes of `shape`; copied first when not aligned to its elements
 * @param target receives as many bytes; must start on a multiple of `byteSize` (of 4, for 8)
 * @param byteSize bytes per element: 1, 2, 4 or 8
 * @throws {RangeError} when the sizes do not fit each other
 */
export function* reverseAxes(
  source: Uint8Array,
  target: Uint8Array,
  shape: readonly number[],
  byteSize: number,
): Generator<void, void, void> {
  if (source.length !== elementCount(shape) * byteSize || target.length !== source.length) {
    throw new RangeError(
      `a reversal of [${shape}] with ${byteSize}-byte elements cannot go from ${source.length} to ` +
        `${target.length} bytes`,
    );
  }
  if (target.byteOffset % Math.min(byteSize, 4) !== 0) {
    throw new RangeError(`a target at byte ${target.byteOffset} is not aligned to its elements`);
  }
  // Axes of extent 1 take no part in the order of elements.
  const extents = shape.filter((extent) => extent !== 1);
  if (extents.length < 2) target.set(source);
  else if (source.length > 0) yield* moveMatrices(tileMover(source, target, byteSize), extents);
}

/** `reverseAxes`, run to its end at once. */
export function reverseAxesNow(
  source: Uint8Array,
  target: Uint8Array,
  shape: readonly number[],
  byteSize: number,
): void {
  for (const _pause of reverseAxes(source, target, shape, byteSize));
}

/** A part of a matrix, at most TILE by TILE elements. Positions and strides count elements. */
interface Tile {
  read: number;
  write: number;
  rows: number;
  columns: number;
  /** From one row to the next in the source, and from one column to the next in the target. */
  rowStride: number;
  columnStride: number;
}

/** `extents`: at least two, each of them 2 or more. */
function* moveMatrices(
  move: (tile: Tile) => void,
  extents: readonly number[],
): Generator<void, void, void> {
  const rows = extents[0]!;
  const columns = extents.at(-1)!;
  const between = extents.slice(1, -1);
  const matrices = elementCount(between);
  const index = between.map(() => 0);
  const tile: Tile = {
    read: 0,
    write: 0,
    rows: 0,
    columns: 0,
    rowStride: matrices * columns,
    columnStride: matrices * rows,
  };
  let moved = 0;
  for (let matrix = 0; matrix < matrices; matrix++) {
    // `matrix` is `index` read forwards, as in the source; the target has it backwards.
    const reversed = index.reduceRight((sum, at, axis) => sum * between[axis]! + at, 0);
    for (let row = 0; row < rows; row += TILE) {
      tile.rows = Math.min(TILE, rows - row);
      for (let column = 0; column < columns; column += TILE) {
        tile.columns = Math.min(TILE, columns - column);
        tile.read = matrix * columns + row * tile.rowStride + column;
        tile.write = reversed * rows + column * tile.columnStride + row;
        move(tile);
      }
      moved += tile.rows * columns;
      if (moved >= STEP_ELEMENTS) {
        moved = 0;
        yield;
      }
    }
    for (let axis = between.length - 1; axis >= 0; axis--) {
      if (++index[axis]! < between[axis]!) break;
      index[axis] = 0;
    }
  }
}

function tileMover(source: Uint8Array, target: Uint8Array, byteSize: number): (tile: Tile) => void {
  switch (byteSize) {
    case 1:
      return mover8(source, target);
    case 2:
      return mover16(elements(Uint16Array, source), elements(Uint16Array, target));
    case 4:
      return mover32(elements(Uint32Array, source), elements(Uint32Array, target));
    case 8:
      return mover64(elements(Uint32Array, source), elements(Uint32Array, target));
    default:
      throw new RangeError(`elements of ${byteSize} bytes cannot be transposed`);
  }
}

function elements<T>(
  type: {
    new (buffer: ArrayBufferLike, offset: number, length: number): T;
    BYTES_PER_ELEMENT: number;
  },
  bytes: Uint8Array,
): T {
  const size = type.BYTES_PER_ELEMENT;
  const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new type(buffer, byteOffset, bytes.length / size);
}

// One function per element size, on purpose: V8 compiles typed-array access well only where it sees one
// kind of array; a shared function ran at a third of the speed.

function mover8(source: Uint8Array, target: Uint8Array) {
  return ({ read, write, rows, columns, rowStride, columnStride }: Tile): void => {
    for (let column = 0; column < columns; column++, write += columnStride) {
      for (let row = 0, from = read + column; row < rows; row++, from += rowStride) {
        target[write + row] = source[from]!;
      }
    }
  };
}

function mover16(source: Uint16Array, target: Uint16Array) {
  return ({ read, write, rows, columns, rowStride, columnStride }: Tile): void => {
    for (let column = 0; column < columns; column++, write += columnStride) {
      for (let row = 0, from = read + column; row < rows; row++, from += rowStride) {
        target[write + row] = source[from]!;
      }
    }
  };
}

function mover32(source: Uint32Array, target: Uint32Array) {
  return ({ read, write, rows, columns, rowStride, columnStride }: Tile): void => {
    for (let column = 0; column < columns; column++, write += columnStride) {
      for (let row = 0, from = read + column; row < rows; row++, from += rowStride) {
        target[write + row] = source[from]!;
      }
    }
  };
}

/** 8-byte elements as pairs: a Float64Array could change NaN patterns, a BigUint64Array allocates. */
function mover64(source: Uint32Array, target: Uint32Array) {
  return ({ read, write, rows, columns, rowStride, columnStride }: Tile): void => {
    for (let column = 0; column < columns; column++, write += columnStride) {
      for (let row = 0, from = 2 * (read + column); row < rows; row++, from += 2 * rowStride) {
        target[2 * (write + row)] = source[from]!;
        target[2 * (write + row) + 1] = source[from + 1]!;
      }
    }
  };
}

/**
 * Small copies, carved one after the other out of larger arrays: to make and collect an `ArrayBuffer` for
 * each costs more than copying it. For what goes soon, as requests do: a copy keeps its slab alive.
 */

const SLAB_BYTES = 64 * 1024;
/** What is larger gets an array of its own. */
const MAX_CARVED_BYTES = 8 * 1024;
/** Copies begin at multiples of this, as those of the C allocator do. */
const ALIGNMENT = 16;

let slab = new Uint8Array(0);
let used = 0;

/** A copy of `bytes[start, end)` that nothing else will ever write to. */
export function copied(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length > MAX_CARVED_BYTES) return bytes.slice(start, end);
  if (used + length > slab.length) {
    slab = new Uint8Array(SLAB_BYTES);
    used = 0;
  }
  const copy = slab.subarray(used, used + length);
  copy.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end));
  used = (used + length + ALIGNMENT - 1) & -ALIGNMENT;
  return copy;
}

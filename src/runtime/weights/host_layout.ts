/**
 * How one host copy of a model's weights lies in memory: every tensor in program layout, in argument
 * order, each where the device's copy engines like it to begin.
 */

import type { Mapping } from "../../../ffi/libc/mod.ts";
import type { Weights } from "../../bundle/mod.ts";

/** XLA reads nothing wider at once. */
const ALIGNMENT = 64;

/**
 * Bytes copied before the source is looked at again: a file that is changed in place meanwhile is
 * noticed, and each piece still takes far longer than leaving the thread for it.
 */
const SLICE_BYTES = 32 * 2 ** 20;

/** Where each tensor begins, counted from the first. */
export interface HostLayout {
  readonly offsets: readonly number[];
  readonly byteLength: number;
}

export function layOut(weights: Pick<Weights, "specs">): HostLayout {
  const offsets: number[] = [];
  let at = 0;
  for (const { byteLength } of weights.specs) {
    offsets.push(at);
    at = Math.ceil((at + byteLength) / ALIGNMENT) * ALIGNMENT;
  }
  return { offsets, byteLength: at };
}

/**
 * Writes all weights into a mapping, from byte `start` on: copied by another thread where the file has
 * them in program layout, permuted here otherwise.
 * @throws {BundleError} when the file is changed meanwhile
 */
export async function fillLayout(
  weights: Weights,
  layout: HostLayout,
  target: Mapping,
  start: number,
): Promise<void> {
  for (const [index, { byteLength }] of weights.specs.entries()) {
    const offset = start + layout.offsets[index]!;
    if (!weights.isView(index)) await weights.read(index, target.bytes(offset, byteLength));
    else await copySlices(() => weights.read(index), target, offset);
  }
}

/**
 * Copies bytes to `offset` of a mapping on another thread, piece by piece.
 * @param look gives all of them; asked again before each piece and after the last, so that it can refuse
 */
export async function copySlices(
  look: () => Uint8Array | Promise<Uint8Array>,
  target: Mapping,
  offset: number,
): Promise<void> {
  for (let at = 0;; at += SLICE_BYTES) {
    const bytes = await look();
    if (at >= bytes.length) return;
    await target.copyFrom(bytes.subarray(at, at + SLICE_BYTES), offset + at);
  }
}

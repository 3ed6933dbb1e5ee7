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
    if (!weights.isView(index)) {
      await weights.read(index, target.bytes(offset, byteLength));
      continue;
    }
    for (let at = 0; at < byteLength; at += SLICE_BYTES) {
      const view = await weights.read(index);
      const slice = view.subarray(at, Math.min(byteLength, at + SLICE_BYTES));
      await target.copyFrom(slice, offset + at);
    }
    // The last piece may have been changed while it was copied.
    if (byteLength > 0) await weights.read(index);
  }
}

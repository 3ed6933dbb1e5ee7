/** Weights on their way to the device: one pass of copies, straight from where they lie in host memory. */

import type { Backend, DeviceBuffer } from "../backend.ts";
import type { TensorSpec } from "../../tensor/mod.ts";

/**
 * Tensors on their way at once: while one is copied, the next is being handed over. More would only
 * compete for the same memory bus.
 */
const LANES = 2;

/**
 * Uploads all tensors.
 * @param bytesOf the bytes of one, row-major for its spec; they may go when the result is there
 * @throws what the device or `bytesOf` throws, with nothing left on the device
 */
export async function uploadAll(
  backend: Backend,
  specs: readonly TensorSpec[],
  bytesOf: (index: number) => Uint8Array | Promise<Uint8Array>,
): Promise<readonly DeviceBuffer[]> {
  const buffers = new Array<DeviceBuffer>(specs.length);
  const failures: unknown[] = [];
  let next = 0;
  const lane = async () => {
    while (next < specs.length && failures.length === 0) {
      const index = next++;
      try {
        buffers[index] = await backend.upload(specs[index]!, await bytesOf(index));
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (failures.length === 0) return buffers;
  for (const buffer of buffers) buffer?.[Symbol.dispose]();
  throw failures[0];
}

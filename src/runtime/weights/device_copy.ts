/**
 * Weights on their way to the device: one pass of copies, straight from where they lie in host memory.
 */

import type { Mapping } from "../../../ffi/libc/mod.ts";
import type { Weights } from "../../bundle/mod.ts";
import type { AdoptedBuffer, Backend, DeviceBuffer } from "../backend.ts";
import type { HostArena } from "./host_arena.ts";
import { copySlices, fillLayout, layOut } from "./host_layout.ts";
import type { HostCopy } from "./host_store.ts";

/**
 * Tensors on their way at once: while one is copied, the next is being handed over. More would only
 * compete for the same memory bus.
 */
const LANES = 2;

/** Weights on the device, in argument order. Disposing them frees them when no dispatch uses them. */
export interface DeviceCopy extends Disposable {
  readonly buffers: readonly DeviceBuffer[];
}

export interface DeviceCopyOptions {
  readonly backend: Backend;
  readonly weights: Weights;
  /** Where they are in host memory, if they are: the file is read otherwise. */
  readonly host: HostCopy | undefined;
  /** Where a device that computes in host memory keeps them; `undefined`: it decides that itself. */
  readonly arena: HostArena | undefined;
}

/**
 * Brings weights to the device. Neither host copy nor file may go before the result is there. A file that
 * is cut short meanwhile is an error; a host copy that was (`HostCopy.isWhole`) makes the result worthless.
 * @throws what the device or the file throws, with nothing left on the device
 */
export function copyToDevice(options: DeviceCopyOptions): Promise<DeviceCopy> {
  const { arena } = options;
  return arena && options.backend.adopt ? place(options, arena) : upload(options);
}

async function upload({ backend, weights, host }: DeviceCopyOptions): Promise<DeviceCopy> {
  const { specs } = weights;
  const buffers = new Array<DeviceBuffer>(specs.length);
  const failures: unknown[] = [];
  let next = 0;
  const lane = async () => {
    while (next < specs.length && failures.length === 0) {
      const index = next++;
      try {
        const bytes = host?.bytes(index) ?? await weights.read(index);
        buffers[index] = await backend.upload(specs[index]!, bytes);
        if (!host) weights.check();
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  const dispose = () => {
    for (const buffer of buffers) buffer?.[Symbol.dispose]();
  };
  if (failures.length === 0) return { buffers, [Symbol.dispose]: dispose };
  dispose();
  throw failures[0];
}

/** Copies into a block of the arena, and gives that to the device as it is. */
async function place(
  { backend, weights, host }: DeviceCopyOptions,
  arena: HostArena,
): Promise<DeviceCopy> {
  const layout = layOut(weights);
  const block = await arena.take(layout.byteLength);
  try {
    if (host) await copySlices(() => host.contents, block, 0);
    else await fillLayout(weights, layout, block, 0);
  } catch (error) {
    arena.give(block);
    throw error;
  }
  return adoptAll(backend, weights, layout.offsets, block, arena);
}

function adoptAll(
  backend: Backend,
  { specs }: Weights,
  offsets: readonly number[],
  block: Mapping,
  arena: HostArena,
): DeviceCopy {
  const adopted: AdoptedBuffer[] = [];
  const giveBack = () => arena.giveWhen(block, Promise.all(adopted.map((one) => one.release())));
  try {
    for (const [index, spec] of specs.entries()) {
      adopted.push(backend.adopt!(spec, block.bytes(offsets[index]!, spec.byteLength)));
    }
  } catch (error) {
    giveBack();
    throw error;
  }
  return {
    buffers: adopted.map(({ buffer }) => buffer),
    [Symbol.dispose]: giveBack,
  };
}

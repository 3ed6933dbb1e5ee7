/** Memory for tensors on their way to a device. */

/** XLA's CPU client reads host memory in place only from addresses that are multiples of this. */
export const DEVICE_ALIGNMENT = 64;

/** What is smaller is copied by the device whatever its address: an ordinary array does. */
export const ALIGNED_FROM_BYTES = 16_384;

/**
 * New memory of `length` bytes, zeroed, at an address from which a device may read it in place. JavaScript
 * arrays lie where the C allocator puts them, which for large ones is 16 bytes past a page: one 16 MiB
 * input from there cost 14 ms more to run on, a second copy, than from an aligned address.
 */
export function alignedBytes(length: number): Uint8Array<ArrayBuffer> {
  if (length < ALIGNED_FROM_BYTES) return new Uint8Array(length);
  const memory = new Uint8Array(length + DEVICE_ALIGNMENT - 1);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory));
  const skip = Number(-address & BigInt(DEVICE_ALIGNMENT - 1));
  return memory.subarray(skip, skip + length);
}

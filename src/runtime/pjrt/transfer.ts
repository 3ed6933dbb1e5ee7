/** Tensors between host and device. */

import { addressOf, allocate, type ArgsOf, PJRT_HostBufferSemantics } from "../../../ffi/mod.ts";
import { datatypeInfo, type TensorSpec } from "../../tensor/mod.ts";
import { checkByteLength } from "../arguments.ts";
import type { AdoptedBuffer } from "../backend.ts";
import { PjrtBuffer } from "./buffer.ts";
import type { PjrtClient } from "./client.ts";

/**
 * Uploads from this size on start on another thread. The CPU plugin copies anything over 100 KiB in the
 * background (64 MiB: the call itself takes 0.1 ms), but a plugin may as well copy to pinned memory before
 * it returns; a hop is small next to the 100 microseconds that takes for a mebibyte.
 */
const HOP_FROM_BYTES = 1 << 20;

/** The arguments of an upload, but for `data`. */
export function uploadArgs(
  client: PjrtClient,
  spec: TensorSpec,
): ArgsOf<"PJRT_Client_BufferFromHostBuffer"> {
  const dims = BigInt64Array.from(spec.shape, BigInt);
  return client.api.args("PJRT_Client_BufferFromHostBuffer")
    .set("client", client.address)
    .set("type", datatypeInfo(spec.datatype).pjrtType)
    .point("dims", dims)
    .set("num_dims", dims.length)
    .set("device", client.device);
}

/** Copies `data` to the device; it may be reused when the promise settles. */
export async function upload(
  client: PjrtClient,
  spec: TensorSpec,
  data: Uint8Array,
): Promise<PjrtBuffer> {
  checkByteLength(spec, data, "tensor");
  const args = uploadArgs(client, spec).point("data", data).set(
    "host_buffer_semantics",
    PJRT_HostBufferSemantics.kImmutableUntilTransferCompletes,
  );
  if (data.byteLength < HOP_FROM_BYTES) client.api.call("PJRT_Client_BufferFromHostBuffer", args);
  else await client.api.callAsync("PJRT_Client_BufferFromHostBuffer", args);
  const buffer = new PjrtBuffer(client, spec, args.take("buffer"));
  client.handles.count("event", 1);
  try {
    await client.settle(args.take("done_with_host_buffer"));
  } catch (error) {
    buffer[Symbol.dispose]();
    throw error;
  } finally {
    // Until here the plugin may read the data: its arguments keep it alive.
    args.keep("data", undefined);
  }
  return buffer;
}

/**
 * Makes a device buffer of `data` as it lies, for a device that computes in host memory. `data` stays as
 * and where it is until `release` has settled.
 */
export function adopt(client: PjrtClient, spec: TensorSpec, data: Uint8Array): AdoptedBuffer {
  checkByteLength(spec, data, "tensor");
  const args = uploadArgs(client, spec)
    .point("data", data)
    .set("host_buffer_semantics", PJRT_HostBufferSemantics.kImmutableZeroCopy);
  client.api.call("PJRT_Client_BufferFromHostBuffer", args);
  const buffer = new PjrtBuffer(client, spec, args.take("buffer"));
  // Happens when the device has let go of the memory: with the last dispatch after `dispose`.
  const letGo = args.take("done_with_host_buffer");
  client.handles.count("event", 1);
  let released: Promise<void> | undefined;
  return {
    buffer,
    release: () => {
      buffer[Symbol.dispose]();
      released ??= client.track(() => client.settle(letGo)).finally(() =>
        args.keep("data", undefined)
      );
      return released;
    },
  };
}

/** Copies a buffer to the host: into `target` when given, which must have exactly its length. */
export async function download(
  client: PjrtClient,
  buffer: PjrtBuffer,
  target: Uint8Array | undefined,
): Promise<Uint8Array> {
  if (target !== undefined) checkByteLength(buffer, target, "buffer");
  const data = target ?? allocate(buffer.byteLength);
  const source = buffer.handle.borrow();
  try {
    const args = client.api.args("PJRT_Buffer_ToHostBuffer")
      .set("src", source)
      .set("dst", addressOf(data))
      .set("dst_size", data.byteLength);
    client.api.call("PJRT_Buffer_ToHostBuffer", args);
    client.handles.count("event", 1);
    await client.settle(args.take("event"));
  } finally {
    buffer.handle.release();
  }
  return data;
}

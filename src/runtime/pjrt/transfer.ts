/** Tensors between host and device. */

import {
  addressOf,
  allocate,
  type ArgsOf,
  newStruct,
  PJRT_Buffer_MemoryLayout,
  PJRT_Buffer_MemoryLayout_Tiled,
  PJRT_Buffer_MemoryLayout_Type,
  PJRT_HostBufferSemantics,
  Struct,
} from "../../../ffi/mod.ts";
import { datatypeInfo, type TensorSpec } from "../../tensor/mod.ts";
import { checkByteLength } from "../arguments.ts";
import { PjrtBuffer } from "./buffer.ts";
import type { PjrtClient } from "./client.ts";

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
  client.api.call("PJRT_Client_BufferFromHostBuffer", args);
  const buffer = new PjrtBuffer(client, spec, args.take("buffer"));
  client.handles.count("event", 1);
  try {
    await client.settle(args.take("done_with_host_buffer"));
  } catch (error) {
    buffer[Symbol.dispose]();
    throw error;
  }
  return buffer;
}

/**
 * A row-major host layout for a rank: results then arrive in wire order whatever layout the compiler
 * chose on the device.
 */
export function rowMajorLayout(rank: number): Struct<typeof PJRT_Buffer_MemoryLayout.fields> {
  const order = BigInt64Array.from({ length: rank }, (_, index) => BigInt(rank - 1 - index));
  const layout = newStruct(PJRT_Buffer_MemoryLayout)
    .set("type", PJRT_Buffer_MemoryLayout_Type.Tiled);
  const tiled = new Struct(PJRT_Buffer_MemoryLayout_Tiled, layout.get("layout"))
    .set("struct_size", PJRT_Buffer_MemoryLayout_Tiled.end)
    .set("minor_to_major_size", rank);
  tiled.point("minor_to_major", order);
  layout.keep("layout", tiled);
  return layout;
}

/** The arguments of a download, but for `src`, `dst` and `dst_size`. */
export function downloadArgs(
  client: PjrtClient,
  spec: TensorSpec,
): ArgsOf<"PJRT_Buffer_ToHostBuffer"> {
  return client.api.args("PJRT_Buffer_ToHostBuffer")
    .point("host_layout", rowMajorLayout(spec.shape.length));
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
    const args = downloadArgs(client, buffer)
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

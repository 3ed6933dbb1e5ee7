/** A tensor in device memory. */

import type { Address } from "../../../ffi/mod.ts";
import { byteLengthOf, type Datatype, type TensorSpec } from "../../tensor/mod.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { PjrtClient } from "./client.ts";
import type { Handle } from "./handle.ts";

/** Owns one `PJRT_Buffer` of `client`. */
export class PjrtBuffer implements DeviceBuffer {
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly client: PjrtClient;
  readonly handle: Handle<"PJRT_Buffer">;

  constructor(client: PjrtClient, spec: TensorSpec, address: Address<"PJRT_Buffer">) {
    this.datatype = spec.datatype;
    this.shape = spec.shape;
    this.byteLength = byteLengthOf(spec);
    this.client = client;
    this.handle = client.handles.own("buffer", address, (buffer) => client.destroyBuffer(buffer));
  }

  [Symbol.dispose](): void {
    this.handle[Symbol.dispose]();
  }
}

/**
 * The buffer as ours.
 * @throws {TypeError} when it belongs to another backend
 */
export function ownBuffer(client: PjrtClient, buffer: DeviceBuffer, what: string): PjrtBuffer {
  if (buffer instanceof PjrtBuffer && buffer.client === client) return buffer;
  throw new TypeError(`${what} is not a buffer of this device`);
}

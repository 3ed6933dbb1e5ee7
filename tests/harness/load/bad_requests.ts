/** Requests of the mixed load that no server can answer, each with the status it must end with. */

import { sharedMemoryParameters } from "../../../src/protocol/mod.ts";
import type { Random } from "../../../src/protocol/testing/random.ts";
import { float32Bytes } from "../bundle_builder.ts";
import type { Refusal } from "./models.ts";
import { type Slot, SLOT_BYTES } from "./regions.ts";

function dense(
  fields: { modelName?: string; datatype?: string; shape?: number[]; data?: Uint8Array },
) {
  const { modelName = "plain", datatype = "FP32", shape = [1, 3] } = fields;
  const data = fields.data ?? float32Bytes([1, 2, 3]);
  return { modelName, inputs: [{ name: "x", datatype, shape, data }] };
}

function shared(region: string, offset: number, byteSize: number) {
  const tensor = (name: string) => ({
    name,
    datatype: "INT32",
    shape: [1, 256],
    data: undefined,
    parameters: sharedMemoryParameters({ region, offset, byteSize }),
  });
  return { modelName: "shared", inputs: [tensor("a"), tensor("b")] };
}

const invalid = (request: Refusal["request"], says: RegExp): Refusal => ({
  request,
  status: "INVALID_ARGUMENT",
  says,
});

const KINDS: readonly ((random: Random, slot: Slot) => Refusal)[] = [
  () => ({ request: dense({ modelName: "nobody" }), status: "NOT_FOUND", says: /"nobody"/ }),
  () => invalid(dense({ datatype: "INT32" }), /must be FP32/),
  () => invalid(dense({ shape: [3] }), /got FP32\[3\]/),
  () => invalid(dense({ shape: [2, 3], data: new Uint8Array(24) }), /[Bb]atch/),
  () => invalid(dense({ data: float32Bytes([1, 2]) }), /8 bytes/),
  () => invalid({ modelName: "batched", inputs: [] }, /needs input "x"/),
  () =>
    invalid(
      dense({ modelName: "batched", shape: [33, 16], data: new Uint8Array(33 * 64) }),
      /33 .*32/,
    ),
  () => invalid(dense({ modelName: "variants" }), /3/),
  (random) => invalid(Uint8Array.of(0xff, ...random.bytes(60)), /Malformed/),
  () => ({
    request: shared("nowhere", 0, 1024),
    status: "FAILED_PRECONDITION",
    says: /unregistered shared memory region/,
  }),
  (_, slot) => invalid(shared(slot.region, SLOT_BYTES - 1000, 1024), /which has/),
];

/** One of them. */
export function badRequest(random: Random, slot: Slot): Refusal {
  return random.pick(KINDS)(random, slot);
}

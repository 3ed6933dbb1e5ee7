/** The serialized `CompileOptionsProto` of a program for one device. */

import { create, toBinary } from "@bufbuild/protobuf";
import type { CompileSettings } from "../backend.ts";
import {
  CompileOptionsProtoSchema,
  type OptionOverrideProto,
  OptionOverrideProtoSchema,
} from "./gen/xla/compile_options_pb.ts";

type OptionValue = string | number | boolean;

/**
 * One replica of one partition on the device with that global id. Never empty: XLA aborts the process on
 * empty options.
 */
export function encodeCompileOptions(deviceId: number, settings: CompileSettings): Uint8Array {
  const overrides: Record<string, OptionValue> = { ...settings.overrides };
  if (settings.autotuneLevel !== undefined) {
    overrides.xla_gpu_autotune_level = settings.autotuneLevel;
  }
  const message = create(CompileOptionsProtoSchema, {
    executableBuildOptions: {
      deviceOrdinal: -1n,
      numReplicas: 1n,
      numPartitions: 1n,
      deviceAssignment: {
        replicaCount: 1,
        computationCount: 1,
        computationDevices: [{ replicaDeviceIds: [BigInt(deviceId)] }],
      },
    },
    envOptionOverrides: Object.fromEntries(
      Object.entries(overrides).map(([name, value]) => [name, overrideOf(value)]),
    ),
  });
  return toBinary(CompileOptionsProtoSchema, message);
}

function overrideOf(value: OptionValue): OptionOverrideProto {
  return create(OptionOverrideProtoSchema, { value: overrideValue(value) });
}

function overrideValue(value: OptionValue): OptionOverrideProto["value"] {
  if (typeof value === "string") return { case: "stringField", value };
  if (typeof value === "boolean") return { case: "boolField", value };
  if (Number.isInteger(value)) return { case: "intField", value: BigInt(value) };
  return { case: "doubleField", value };
}

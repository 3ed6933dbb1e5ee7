/** What a compiled program takes, gives and needs, read from the executable itself. */

import { fromBinary } from "@bufbuild/protobuf";
import {
  type Address,
  allocate,
  copyBytes,
  copyString,
  copyWords,
  cString,
  newStruct,
  PJRT_Program,
  type PjrtApi,
  PjrtError,
} from "../../../ffi/mod.ts";
import {
  datatypeFromPjrt,
  datatypeFromXla,
  formatShape,
  type TensorSpec,
} from "../../tensor/mod.ts";
import type { ProgramMemory, ProgramSignature } from "../backend.ts";
import {
  HloModuleProtoWithConfigSchema,
  type ProgramShapeProto,
  type ShapeProto,
} from "./gen/xla/hlo_signature_pb.ts";

/** `xla.PrimitiveType.TUPLE`. */
const XLA_TUPLE = 13;

type Executable = Address<"PJRT_Executable">;

/** A program whose signature this server cannot serve; the message names the parameter or result. */
export class UnsupportedProgramError extends TypeError {
  override readonly name = "UnsupportedProgramError";
}

/**
 * Parameters and results of an executable, compiled or deserialized. Parameters come from the optimized
 * module, the one place PJRT shows them; results from PJRT's own calls, which must agree with it.
 */
export async function readSignature(
  api: PjrtApi,
  executable: Executable,
): Promise<ProgramSignature> {
  const shape = await readProgramShape(api, executable);
  const parameters = shape.parameters.map((parameter, index) =>
    specOf(parameter, `parameter ${index}`)
  );
  const results = readResults(api, executable);
  // Copies to the host keep the device's order, so results must be row-major as well.
  resultShapes(shape.result).forEach((result, index) => checkLayout(result, `result ${index}`));
  return { parameters, results };
}

/** A program with several results gives one tuple of them. */
function resultShapes(result: ShapeProto | undefined): readonly ShapeProto[] {
  if (result === undefined) return [];
  return result.elementType === XLA_TUPLE ? result.tupleShapes : [result];
}

async function readProgramShape(api: PjrtApi, executable: Executable): Promise<ProgramShapeProto> {
  const format = cString("");
  const program = newStruct(PJRT_Program).point("format", format);
  const args = api.args("PJRT_Executable_OptimizedProgram").set("executable", executable)
    .point("program", program);
  // Asked twice: for the size, then for the bytes. Constants are in there too, so it can be large.
  await api.callAsync("PJRT_Executable_OptimizedProgram", args);
  const code = allocate(program.get("code_size"));
  program.point("code", code);
  await api.callAsync("PJRT_Executable_OptimizedProgram", args);
  const found = copyString(program.get("format"), program.get("format_size"));
  if (found !== "hlo_with_config") {
    throw new UnsupportedProgramError(`the plugin describes programs as ${JSON.stringify(found)}`);
  }
  const module = fromBinary(HloModuleProtoWithConfigSchema, code, { readUnknownFields: false });
  const shape = module.hloModule?.hostProgramShape;
  if (shape === undefined) {
    throw new UnsupportedProgramError("the compiled program does not state its parameters");
  }
  return shape;
}

function specOf(shape: ShapeProto, what: string): TensorSpec {
  const info = datatypeFromXla(shape.elementType);
  if (info === undefined) {
    throw new UnsupportedProgramError(`${what} has XLA element type ${shape.elementType}`);
  }
  checkLayout(shape, what);
  return { datatype: info.datatype, shape: shape.dimensions.map(Number) };
}

/** @throws {UnsupportedProgramError} unless a shape is static and row-major */
function checkLayout(shape: ShapeProto, what: string): void {
  const dimensions = shape.dimensions.map(Number);
  if (shape.isDynamicDimension.includes(true)) {
    throw new UnsupportedProgramError(`${what} ${formatShape(dimensions)} has a dynamic dimension`);
  }
  const order = shape.layout?.minorToMajor.map(Number) ?? [];
  if (order.length > 0 && order.some((axis, index) => axis !== dimensions.length - 1 - index)) {
    throw new UnsupportedProgramError(
      `${what} ${formatShape(dimensions)} has the layout {${order}}, not the row-major one`,
    );
  }
}

function readResults(api: PjrtApi, executable: Executable): TensorSpec[] {
  const types = api.call(
    "PJRT_Executable_OutputElementTypes",
    api.args("PJRT_Executable_OutputElementTypes").set("executable", executable),
  );
  const count = types.get("num_output_types");
  const typeBytes = copyBytes(types.get("output_types"), count * 4);
  const elementTypes = new Int32Array(typeBytes.buffer, 0, count);
  const shapes = api.call(
    "PJRT_Executable_OutputDimensions",
    api.args("PJRT_Executable_OutputDimensions").set("executable", executable),
  );
  const ranks = Array.from(copyWords(shapes.get("dim_sizes"), count), Number);
  const extents = copyWords(shapes.get("dims"), ranks.reduce((sum, rank) => sum + rank, 0));
  let at = 0;
  return ranks.map((rank, index) => {
    const info = datatypeFromPjrt(elementTypes[index]!);
    if (info === undefined) {
      throw new UnsupportedProgramError(
        `result ${index} has PJRT element type ${elementTypes[index]}`,
      );
    }
    const shape = Array.from(extents.subarray(at, at += rank), Number);
    return { datatype: info.datatype, shape };
  });
}

/** Device memory an executable needs; `undefined` where the plugin does not say. */
export function readProgramMemory(api: PjrtApi, executable: Executable): ProgramMemory | undefined {
  if (!api.has("PJRT_Executable_GetCompiledMemoryStats")) return undefined;
  const args = api.args("PJRT_Executable_GetCompiledMemoryStats").set("executable", executable);
  try {
    api.call("PJRT_Executable_GetCompiledMemoryStats", args);
  } catch (error) {
    if (error instanceof PjrtError && error.code === "UNIMPLEMENTED") return undefined;
    throw error;
  }
  return {
    generatedCodeBytes: args.get("generated_code_size_in_bytes"),
    argumentBytes: args.get("argument_size_in_bytes"),
    outputBytes: args.get("output_size_in_bytes"),
    temporaryBytes: args.get("temp_size_in_bytes"),
  };
}

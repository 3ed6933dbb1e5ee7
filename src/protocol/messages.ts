/** The messages that are not on the hot path, through the generated code. */

import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { InternalError, InvalidArgumentError, messageOf } from "../errors.ts";
import type { Datatype } from "../tensor/mod.ts";
import { DataType } from "./gen/inference/model_config_pb.ts";

/** `/package.Service/Method`, as it stands in a gRPC request. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function parse<Schema extends DescMessage>(
  schema: Schema,
  chunks: readonly Uint8Array[],
): MessageShape<Schema> {
  if (chunks.length === 1) return fromBinary(schema, chunks[0]!);
  const joined = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return fromBinary(schema, joined);
}

/**
 * Decodes what a client sent.
 * @throws {InvalidArgumentError} when the bytes are not such a message
 */
export function decodeRequest<Schema extends DescMessage>(
  schema: Schema,
  chunks: readonly Uint8Array[],
): MessageShape<Schema> {
  try {
    return parse(schema, chunks);
  } catch (error) {
    throw new InvalidArgumentError(`Malformed ${schema.name}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Decodes what a server answered.
 * @throws {InternalError} when the bytes are not such a message
 */
export function decodeResponse<Schema extends DescMessage>(
  schema: Schema,
  chunks: readonly Uint8Array[],
): MessageShape<Schema> {
  try {
    return parse(schema, chunks);
  } catch (error) {
    throw new InternalError(`Malformed ${schema.name}: ${messageOf(error)}`, { cause: error });
  }
}

/** Encodes a message from its fields; what is left out has its default. */
export function encodeMessage<Schema extends DescMessage>(
  schema: Schema,
  fields: MessageInitShape<Schema>,
): Uint8Array[] {
  return [toBinary(schema, create(schema, fields))];
}

const CONFIG_DATATYPES: Record<Datatype, DataType> = {
  BOOL: DataType.TYPE_BOOL,
  UINT8: DataType.TYPE_UINT8,
  UINT16: DataType.TYPE_UINT16,
  UINT32: DataType.TYPE_UINT32,
  UINT64: DataType.TYPE_UINT64,
  INT8: DataType.TYPE_INT8,
  INT16: DataType.TYPE_INT16,
  INT32: DataType.TYPE_INT32,
  INT64: DataType.TYPE_INT64,
  FP16: DataType.TYPE_FP16,
  BF16: DataType.TYPE_BF16,
  FP32: DataType.TYPE_FP32,
  FP64: DataType.TYPE_FP64,
  BYTES: DataType.TYPE_STRING,
  FP8_E5M2: DataType.TYPE_INVALID,
  FP8_E4M3FN: DataType.TYPE_INVALID,
};

/** What ModelConfig calls a datatype; `TYPE_INVALID` for those clients cannot use. */
export function configDatatype(datatype: Datatype): DataType {
  return CONFIG_DATATYPES[datatype];
}

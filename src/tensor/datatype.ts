/**
 * One table for every name an element type goes by: KServe on the wire, the token in a manifest, the
 * tag in a safetensors header, the member of `PJRT_Buffer_Type`, XLA's `PrimitiveType`, and the field
 * of `InferTensorContents` that carries it.
 */

/** KServe names, plus the two FP8 kinds that exist only inside programs. */
export type Datatype =
  | "BOOL"
  | "UINT8"
  | "UINT16"
  | "UINT32"
  | "UINT64"
  | "INT8"
  | "INT16"
  | "INT32"
  | "INT64"
  | "FP16"
  | "BF16"
  | "FP32"
  | "FP64"
  | "BYTES"
  | "FP8_E5M2"
  | "FP8_E4M3FN";

/** Which `InferTensorContents` field holds values of a type; `null`: raw or shared memory only. */
export type ContentsField =
  | "boolContents"
  | "intContents"
  | "int64Contents"
  | "uintContents"
  | "uint64Contents"
  | "fp32Contents"
  | "fp64Contents"
  | "bytesContents";

export interface DatatypeInfo {
  readonly datatype: Datatype;
  /** Spelling in `manifest.yaml`. */
  readonly token: string;
  /** Bytes per element; 0 for BYTES, whose elements have their own lengths. */
  readonly byteSize: number;
  /** Tag in a safetensors header; `null` where weights cannot have the type. */
  readonly safetensors: string | null;
  /** `PJRT_Buffer_Type` of pjrt_c_api.h (C API 0.81); -1 where PJRT has no such buffer. */
  readonly pjrtType: number;
  /** `xla.PrimitiveType` of xla_data.proto; -1 where XLA has none. */
  readonly xlaType: number;
  readonly contents: ContentsField | null;
  /** Whether clients may send or receive it. */
  readonly onWire: boolean;
}

function row(
  datatype: Datatype,
  token: string,
  byteSize: number,
  safetensors: string | null,
  pjrtType: number,
  xlaType: number,
  contents: ContentsField | null,
  onWire = true,
): DatatypeInfo {
  return { datatype, token, byteSize, safetensors, pjrtType, xlaType, contents, onWire };
}

/** Every type, in the order of the manifest documentation. */
export const DATATYPES: readonly DatatypeInfo[] = [
  row("BOOL", "bool", 1, "BOOL", 1, 1, "boolContents"),
  row("UINT8", "u8", 1, "U8", 6, 6, "uintContents"),
  row("UINT16", "u16", 2, "U16", 7, 7, "uintContents"),
  row("UINT32", "u32", 4, "U32", 8, 8, "uintContents"),
  row("UINT64", "u64", 8, "U64", 9, 9, "uint64Contents"),
  row("INT8", "i8", 1, "I8", 2, 2, "intContents"),
  row("INT16", "i16", 2, "I16", 3, 3, "intContents"),
  row("INT32", "i32", 4, "I32", 4, 4, "intContents"),
  row("INT64", "i64", 8, "I64", 5, 5, "int64Contents"),
  row("FP16", "f16", 2, "F16", 10, 10, null),
  row("BF16", "bf16", 2, "BF16", 13, 16, null),
  row("FP32", "f32", 4, "F32", 11, 11, "fp32Contents"),
  row("FP64", "f64", 8, "F64", 12, 12, "fp64Contents"),
  row("BYTES", "bytes", 0, null, -1, -1, "bytesContents"),
  row("FP8_E5M2", "f8_e5m2", 1, "F8_E5M2", 16, 19, null, false),
  row("FP8_E4M3FN", "f8_e4m3", 1, "F8_E4M3", 17, 20, null, false),
];

const byDatatype = new Map<string, DatatypeInfo>(DATATYPES.map((info) => [info.datatype, info]));
const byToken = new Map(DATATYPES.map((info) => [info.token, info]));
const bySafetensors = new Map(
  DATATYPES.filter((info) => info.safetensors !== null).map((info) => [info.safetensors!, info]),
);
const byPjrt = new Map(
  DATATYPES.filter((info) => info.pjrtType >= 0).map((info) => [info.pjrtType, info]),
);
const byXla = new Map(
  DATATYPES.filter((info) => info.xlaType >= 0).map((info) => [info.xlaType, info]),
);

/** The row of a known type. */
export function datatypeInfo(datatype: Datatype): DatatypeInfo {
  return byDatatype.get(datatype)!;
}

/** The row for a wire `datatype` string, or `undefined` when clients may not use that name. */
export function datatypeFromWire(name: string): DatatypeInfo | undefined {
  const info = byDatatype.get(name);
  return info?.onWire ? info : undefined;
}

/** The row for a manifest token (case-sensitive). */
export function datatypeFromToken(token: string): DatatypeInfo | undefined {
  return byToken.get(token);
}

/** The row for a safetensors tag. */
export function datatypeFromSafetensors(tag: string): DatatypeInfo | undefined {
  return bySafetensors.get(tag);
}

/** The row for a `PJRT_Buffer_Type`. */
export function datatypeFromPjrt(type: number): DatatypeInfo | undefined {
  return byPjrt.get(type);
}

/** The row for an `xla.PrimitiveType`. */
export function datatypeFromXla(type: number): DatatypeInfo | undefined {
  return byXla.get(type);
}

/** The C enums of `pjrt_c_api.h` (C API 0.81) that calls pass or return. */

/** `PJRT_NamedValue_Type`. */
export const PJRT_NamedValue_Type = {
  kString: 0,
  kInt64: 1,
  kInt64List: 2,
  kFloat: 3,
  kBool: 4,
} as const;

/** `PJRT_Buffer_Type`: element types. `src/tensor` maps its datatypes to these numbers. */
export const PJRT_Buffer_Type = {
  INVALID: 0,
  PRED: 1,
  S8: 2,
  S16: 3,
  S32: 4,
  S64: 5,
  U8: 6,
  U16: 7,
  U32: 8,
  U64: 9,
  F16: 10,
  F32: 11,
  F64: 12,
  BF16: 13,
  C64: 14,
  C128: 15,
  F8E5M2: 16,
  F8E4M3FN: 17,
  F8E4M3B11FNUZ: 18,
  F8E5M2FNUZ: 19,
  F8E4M3FNUZ: 20,
  S4: 21,
  U4: 22,
  TOKEN: 23,
  S2: 24,
  U2: 25,
  F8E4M3: 26,
  F8E3M4: 27,
  F8E8M0FNU: 28,
  F4E2M1FN: 29,
} as const;

/** `PJRT_HostBufferSemantics`: how long the plugin may read the host memory of an upload. */
export const PJRT_HostBufferSemantics = {
  /** Copied before the call returns. */
  kImmutableOnlyDuringCall: 0,
  /** Until `done_with_host_buffer` is ready. */
  kImmutableUntilTransferCompletes: 1,
  /** For the life of the buffer, which may alias it; never written. */
  kImmutableZeroCopy: 2,
  /** For the life of the buffer, which may alias and write it. */
  kMutableZeroCopy: 3,
} as const;

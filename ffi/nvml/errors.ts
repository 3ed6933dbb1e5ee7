/** What the management library's calls fail with. */

/** The names behind `nvmlReturn_t` that are told apart here. */
export const NVML_ERRORS = { SUCCESS: 0, NOT_FOUND: 6, INSUFFICIENT_SIZE: 7 } as const;

/** A call that returned an error, or a library that cannot be used. The message says which and why. */
export class NvmlError extends Error {
  override readonly name = "NvmlError";
  /** `nvmlReturn_t` or `CUresult`; `undefined` where no call was made. */
  readonly code: number | undefined;

  constructor(message: string, code?: number, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What native calls fail with. `src/runtime`, `src/worker` and `src/bundle` translate them for callers. */

/** The canonical names behind `PJRT_Error_Code`, in numeric order from 0. */
export const PJRT_ERROR_CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type PjrtErrorCode = typeof PJRT_ERROR_CODES[number];

/** A PJRT call that returned an error. The message is the plugin's own. */
export class PjrtError extends Error {
  override readonly name = "PjrtError";
  /** The C function, for example `PJRT_Client_Compile`. */
  readonly call: string;
  /** Numbers this list does not know become `UNKNOWN`. */
  readonly code: PjrtErrorCode;

  constructor(call: string, code: number, message: string) {
    super(message);
    this.call = call;
    this.code = PJRT_ERROR_CODES[code] ?? "UNKNOWN";
  }
}

/** A plugin that cannot be used at all. The message names the path, what was found and the remedy. */
export class PluginError extends Error {
  override readonly name = "PluginError";
  readonly path: string;

  constructor(path: string, found: string, options?: ErrorOptions) {
    super(`Cannot use PJRT plugin ${JSON.stringify(path)}: ${found}; ${REMEDY}`, options);
    this.path = path;
  }
}

/** What an operator does about a plugin that does not load. */
export const REMEDY =
  "run scripts/setup, or name a plugin for this machine with --pjrt-plugin or REACTANT_PJRT_PLUGIN";

/** A C library call that failed. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  /** The function, for example `shm_open`. */
  readonly call: string;
  readonly errno: number;
  /** `ENOENT`, or the number as text where the name is not known. */
  readonly code: string;

  constructor(call: string, errno: number, code: string, subject: string) {
    super(`${call} of ${subject} failed: ${code} (errno ${errno})`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

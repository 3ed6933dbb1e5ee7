/**
 * The error classes every folder throws. An error carries a status *name*; only
 * `src/transport/status.ts` knows the gRPC number behind it. Messages of these classes are meant for
 * clients and operators: they name the thing and, where there is one, the remedy. Any other exception
 * is a defect: it is logged in full and leaves the process as a plain INTERNAL.
 */

/** The canonical gRPC status names, success excluded. */
export type StatusName =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** An error with a status that may be shown to the caller. */
export class ServerError extends Error {
  readonly status: StatusName;

  constructor(status: StatusName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.status = status;
  }
}

/** The caller sent something that can never work. */
export class InvalidArgumentError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("INVALID_ARGUMENT", message, options);
  }
}

/** The named thing does not exist here. */
export class NotFoundError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("NOT_FOUND", message, options);
  }
}

/** The system must change before the call can work (on ModelInfer: only a stale memory region). */
export class FailedPreconditionError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("FAILED_PRECONDITION", message, options);
  }
}

/** A configured cap was reached; the same call may work later. */
export class ResourceExhaustedError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("RESOURCE_EXHAUSTED", message, options);
  }
}

/** The caller's deadline passed. */
export class DeadlineExceededError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEADLINE_EXCEEDED", message, options);
  }
}

/** Not now: loading, not resident, shutting down, or the peer is gone. */
export class UnavailableError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNAVAILABLE", message, options);
  }
}

/** The caller went away. */
export class CancelledError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("CANCELLED", message, options);
  }
}

/** A failure of ours that has a bounded message worth showing. */
export class InternalError extends ServerError {
  constructor(message: string, options?: ErrorOptions) {
    super("INTERNAL", message, options);
  }
}

/** Start-up must not go on: a key, variable, flag or file is wrong. The message names it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** One bundle cannot be used; the others are unaffected. `bundle` is the model name. */
export class BundleError extends Error {
  readonly bundle: string;

  constructor(bundle: string, message: string, options?: ErrorOptions) {
    super(`Cannot load model ${JSON.stringify(bundle)}: ${message}`, options);
    this.name = new.target.name;
    this.bundle = bundle;
  }
}

/** A `BundleError` in `manifest.yaml`; the message names the key path. */
export class ManifestError extends BundleError {}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

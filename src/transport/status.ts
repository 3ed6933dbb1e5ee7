/**
 * The one place that knows gRPC status numbers: names to numbers and back, `grpc-message` as it travels,
 * and what a thrown value looks like to the caller.
 */

import {
  CancelledError,
  DeadlineExceededError,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  NotFoundError,
  ResourceExhaustedError,
  ServerError,
  type StatusName,
  UnavailableError,
} from "../errors.ts";

/** A status name, success included. */
export type CallStatus = "OK" | StatusName;

/** The number of each status (gRPC core, `doc/statuscodes.md`). */
export const STATUS_NUMBERS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const satisfies Record<CallStatus, number>;

const NAMES = Object.keys(STATUS_NUMBERS) as CallStatus[];

/** The name behind a number; numbers nobody defined are UNKNOWN, as the gRPC specification asks. */
export function statusName(number: number): CallStatus {
  return NAMES[number] ?? "UNKNOWN";
}

/**
 * The status of an HTTP response that carries no `grpc-status` (gRPC core,
 * `doc/http-grpc-status-mapping.md`): some proxy answered in the server's place.
 */
export function statusOfHttp(httpStatus: string): StatusName {
  switch (httpStatus) {
    case "400":
      return "INTERNAL";
    case "401":
      return "UNAUTHENTICATED";
    case "403":
      return "PERMISSION_DENIED";
    case "404":
      return "UNIMPLEMENTED";
    case "429":
    case "502":
    case "503":
    case "504":
      return "UNAVAILABLE";
    default:
      return "UNKNOWN";
  }
}

/** A status as it goes out: bounded and safe to show. */
export interface OutgoingStatus {
  readonly status: StatusName;
  readonly message: string;
  /** False for a defect of ours, which is to be logged in full. */
  readonly isExpected: boolean;
}

/**
 * What the caller is told of a thrown value. A `ServerError` speaks for itself; of anything else
 * nothing leaves the process.
 */
export function outgoingStatus(error: unknown): OutgoingStatus {
  if (error instanceof ServerError) {
    return { status: error.status, message: error.message, isExpected: true };
  }
  return { status: "INTERNAL", message: "Internal server error", isExpected: false };
}

/** The error a caller gets for a status that is not OK, in the class that stands for it. */
export function errorOfStatus(status: StatusName, message: string): ServerError {
  switch (status) {
    case "CANCELLED":
      return new CancelledError(message);
    case "INVALID_ARGUMENT":
      return new InvalidArgumentError(message);
    case "DEADLINE_EXCEEDED":
      return new DeadlineExceededError(message);
    case "NOT_FOUND":
      return new NotFoundError(message);
    case "RESOURCE_EXHAUSTED":
      return new ResourceExhaustedError(message);
    case "FAILED_PRECONDITION":
      return new FailedPreconditionError(message);
    case "UNAVAILABLE":
      return new UnavailableError(message);
    case "INTERNAL":
      return new InternalError(message);
    default:
      return new ServerError(status, message);
  }
}

/**
 * Longest `grpc-message` sent, in encoded bytes. Peers bound their header lists (gRPC core: 8 KiB soft)
 * and drop the whole status when the message breaks that bound.
 */
export const MAX_MESSAGE_BYTES = 4096;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const PLAIN = /^[\x20-\x24\x26-\x7e]*$/;

/** Percent-encodes a status message: everything outside printable ASCII, and `%`. Cut when too long. */
export function encodeStatusMessage(message: string): string {
  if (message.length <= MAX_MESSAGE_BYTES && PLAIN.test(message)) return message;
  let encoded = "";
  for (const character of message) {
    let piece = "";
    for (const byte of encoder.encode(character)) {
      piece += byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    }
    if (encoded.length + piece.length > MAX_MESSAGE_BYTES) break;
    encoded += piece;
  }
  return encoded;
}

/** Undoes `encodeStatusMessage`. Broken escapes are kept as they are: a message is never lost. */
export function decodeStatusMessage(encoded: string): string {
  if (!encoded.includes("%")) return encoded;
  const bytes: number[] = [];
  for (let at = 0; at < encoded.length; at++) {
    const hex = encoded[at] === "%" ? encoded.slice(at + 1, at + 3) : "";
    if (/^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(parseInt(hex, 16));
      at += 2;
    } else {
      bytes.push(...encoder.encode(encoded[at]));
    }
  }
  return decoder.decode(new Uint8Array(bytes));
}

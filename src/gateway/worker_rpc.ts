/** How the gateway asks workers things of its own, and what became of a call. */

import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { type ServerError, type StatusName, UnavailableError } from "../errors.ts";
import { decodeRequest, decodeResponse, encodeMessage, methodPath } from "../protocol/mod.ts";
import type { CallContext, MethodHandler } from "../transport/mod.ts";
import type { FleetWorker } from "./fleet_worker.ts";

/** Most that a question to a worker may take. */
export const QUESTION_TIMEOUT_MS = 5000;

/**
 * Asks one worker with a message of the generated code, off the inference connection.
 *
 * @throws {CallFailure} never `undefined` fields; see there
 */
export async function askWorker<I extends DescMessage, O extends DescMessage>(
  worker: FleetWorker,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  timeoutMs: number = QUESTION_TIMEOUT_MS,
): Promise<MessageShape<O>> {
  const { message } = await worker.ask(
    methodPath(method),
    encodeMessage(method.input, request),
    { deadlineMs: performance.now() + timeoutMs },
  );
  return decodeResponse(method.output, message);
}

/** A method table's row: `answer` gives the fields of the response, or throws a `ServerError`. */
export function localMethod<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  answer: (
    request: MessageShape<I>,
    call: CallContext,
  ) => MessageInitShape<O> | Promise<MessageInitShape<O>>,
): [string, MethodHandler] {
  return [methodPath(method), {
    kind: "unary",
    handle: async (message, call) =>
      encodeMessage(method.output, await answer(decodeRequest(method.input, message), call)),
  }];
}

/** Whose fault a failed call was. */
export type Failure =
  /** The worker said so. */
  | "answer"
  /** Nothing came through, whatever status that was given. */
  | "transport"
  /** This side ended it: the deadline, the caller, a limit of ours. */
  | "local";

/** Statuses that a call gets when its connection or stream breaks. */
const BROKEN: readonly StatusName[] = ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"];

/**
 * What a failed call died of. `hasStatus`: the worker's trailers came. `isAborted`: our own caller is
 * gone, who then ended this call too.
 */
export function failureOf(error: ServerError, hasStatus: boolean, isAborted: boolean): Failure {
  if (hasStatus) return "answer";
  return !isAborted && BROKEN.includes(error.status) ? "transport" : "local";
}

/** What a caller is told of a broken connection, whichever status the transport gave it. */
export function brokenConnection(worker: FleetWorker, error: ServerError): UnavailableError {
  return new UnavailableError(`Worker ${worker.id}: ${error.message}`, { cause: error });
}

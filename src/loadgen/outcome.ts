/** How a request ended, as the report counts it. */

import { messageOf, type ServerError, type StatusName } from "../errors.ts";

/**
 * `dead`: its deadline passed. `shed`: refused because too much was going on. `teardown`: cut off with
 * its connection; counted as an error, told apart. `wrong`: answered, but not what was expected.
 */
export type OutcomeKind = "ok" | "dead" | "shed" | "teardown" | "wrong" | "error";

export interface Outcome {
  readonly kind: OutcomeKind;
  /** For people; empty when all went well. */
  readonly text: string;
  /** What the call ended with, if it did so without an answer. */
  readonly status?: StatusName;
}

/** Every kind but `ok`. */
export const FAILURE_KINDS = ["dead", "shed", "teardown", "wrong", "error"] as const;

/** What a failed call counts as. */
export function outcomeOf(error: ServerError): Outcome {
  // What a server says goes to a terminal, on one line.
  // deno-lint-ignore no-control-regex
  const message = messageOf(error).replace(/[\s\x00-\x1f\x7f]+/g, " ");
  const { status } = error;
  const text = `${status}: ${message}`;
  const as = (kind: OutcomeKind): Outcome => ({ kind, text, status });
  if (status === "DEADLINE_EXCEEDED") return as("dead");
  if (status === "UNAVAILABLE" && /deadline (has )?(passed|expired|exceeded)/i.test(text)) {
    return as("dead");
  }
  if (status === "RESOURCE_EXHAUSTED") return as("shed");
  if (
    status === "INTERNAL" && /^INTERNAL: *$|RST_STREAM|reset|GOAWAY|connection closed/i.test(text)
  ) {
    return as("teardown");
  }
  return as("error");
}

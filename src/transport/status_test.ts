import assert from "node:assert/strict";
import {
  CancelledError,
  InternalError,
  InvalidArgumentError,
  ServerError,
  UnavailableError,
} from "../errors.ts";
import {
  decodeStatusMessage,
  encodeStatusMessage,
  errorOfStatus,
  MAX_MESSAGE_BYTES,
  outgoingStatus,
  STATUS_NUMBERS,
  statusName,
  statusOfHttp,
} from "./status.ts";

// Order and spelling from gRPC core, doc/statuscodes.md.
const SPECIFIED = (
  "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS " +
  "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED " +
  "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split(" ");

Deno.test("status names and numbers are those of the specification", () => {
  assert.deepEqual(Object.keys(STATUS_NUMBERS), SPECIFIED);
  SPECIFIED.forEach((name, number) => {
    assert.equal(STATUS_NUMBERS[name as keyof typeof STATUS_NUMBERS], number);
    assert.equal(statusName(number), name);
  });
  for (const number of [-1, 17, 1.5, NaN]) assert.equal(statusName(number), "UNKNOWN");
});

Deno.test("encodeStatusMessage() percent-encodes what a header cannot carry", () => {
  const cases: [string, string][] = [
    ["plain text ~!", "plain text ~!"],
    ["100%", "100%25"],
    ["a\nb\t\u007f", "a%0Ab%09%7F"],
    ["ƒ✓😀", "%C6%92%E2%9C%93%F0%9F%98%80"],
    ["", ""],
  ];
  for (const [text, encoded] of cases) {
    assert.equal(encodeStatusMessage(text), encoded);
    assert.equal(decodeStatusMessage(encoded), text);
  }
  assert.equal(encodeStatusMessage("\ud800"), "%EF%BF%BD");
});

Deno.test("encodeStatusMessage() cuts long messages between characters", () => {
  assert.equal(encodeStatusMessage("x".repeat(10_000)).length, MAX_MESSAGE_BYTES);
  const cut = encodeStatusMessage("😀".repeat(1000));
  assert.ok(cut.length <= MAX_MESSAGE_BYTES && cut.length % 12 === 0);
});

Deno.test("decodeStatusMessage() keeps broken escapes and survives broken UTF-8", () => {
  assert.equal(decodeStatusMessage("50% of %zz %2"), "50% of %zz %2");
  assert.equal(decodeStatusMessage("%ff!"), "\ufffd!");
});

Deno.test("outgoingStatus() shows a ServerError and hides anything else", () => {
  assert.deepEqual(outgoingStatus(new InvalidArgumentError("bad shape")), {
    status: "INVALID_ARGUMENT",
    message: "bad shape",
    isExpected: true,
  });
  for (const thrown of [new Error("secret"), "secret", null, undefined, { status: "OK" }]) {
    const { status, message, isExpected } = outgoingStatus(thrown);
    assert.deepEqual([status, isExpected], ["INTERNAL", false]);
    assert.ok(!message.includes("secret"));
  }
});

Deno.test("errorOfStatus() gives every status its class and keeps it", () => {
  for (const name of SPECIFIED.slice(1) as Parameters<typeof errorOfStatus>[0][]) {
    const error = errorOfStatus(name, "m");
    assert.ok(error instanceof ServerError);
    assert.deepEqual([error.status, error.message], [name, "m"]);
  }
  assert.ok(errorOfStatus("UNAVAILABLE", "") instanceof UnavailableError);
  assert.ok(errorOfStatus("CANCELLED", "") instanceof CancelledError);
  assert.ok(errorOfStatus("INTERNAL", "") instanceof InternalError);
});

Deno.test("statusOfHttp() follows the published mapping", () => {
  const mapping = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
    "418": "UNKNOWN",
  };
  for (const [http, status] of Object.entries(mapping)) assert.equal(statusOfHttp(http), status);
});

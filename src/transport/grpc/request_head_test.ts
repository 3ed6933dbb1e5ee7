import assert from "node:assert/strict";
import type { MethodTable } from "../handler.ts";
import type { HeaderField, HeaderList } from "../http2/mod.ts";
import { readRequestHead, retimedHead } from "./request_head.ts";

const METHODS: MethodTable = new Map([["/s/M", { kind: "unary", handle: () => [] }]]);
const FIELDS: HeaderField[] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/s/M"],
  ["content-type", "application/grpc"],
  ["grpc-accept-encoding", "gzip"],
];
const timeout = (value: string): HeaderField => ["grpc-timeout", value];

function retimed(before: HeaderList, after: HeaderList) {
  return retimedHead(readRequestHead(before, METHODS), after);
}

Deno.test("retimedHead() is what readRequestHead() reads when nothing but the time is another", () => {
  const after = [...FIELDS, timeout("2500u")];
  const head = retimed([...FIELDS, timeout("9S")], after);
  assert.deepEqual(head, readRequestHead(after, METHODS));
  assert.equal(head!.timeoutMs, 2.5);
  const first = [timeout("7m"), ...FIELDS];
  assert.deepEqual(retimed([timeout("8m"), ...FIELDS], first), readRequestHead(first, METHODS));
});

Deno.test("retimedHead() leaves every other difference to readRequestHead()", () => {
  const before = [...FIELDS, timeout("9S")];
  const changed = (at: number, field: HeaderField) => before.with(at, field);
  assert.equal(retimed(before, changed(2, [":path", "/s/N"])), undefined);
  assert.equal(retimed(before, changed(5, ["x-id", "1"])), undefined);
  assert.equal(retimed(before, changed(4, timeout("1S"))), undefined);
  assert.equal(retimed(before, changed(5, timeout("soon"))), undefined);
  assert.equal(retimed(before, FIELDS), undefined);
  assert.equal(retimed(FIELDS, before), undefined);
});

Deno.test("retimedHead() does not judge by a time that another one follows", () => {
  const last = timeout("3S");
  const before = [...FIELDS, timeout("9S"), last];
  assert.equal(retimed(before, [...FIELDS, timeout("1S"), last]), undefined);
});

Deno.test("retimedHead() makes nothing of a refused request", () => {
  const refused = [[":path", "/s/unknown"], ...FIELDS.slice(0, 2), timeout("9S")] as HeaderField[];
  assert.equal(retimed(refused, refused.with(3, timeout("1S"))), undefined);
});

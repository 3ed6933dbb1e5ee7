import assert from "node:assert/strict";
import type { HeaderList } from "./types.ts";
import { checkHeaders, classifyField, type HeaderRole, MALFORMED } from "./header_rules.ts";

const REQUEST: HeaderList = [[":method", "POST"], [":scheme", "http"], [":path", "/a/b"]];

function check(headers: HeaderList, role: HeaderRole): number {
  return checkHeaders(headers.map(([name, value]) => classifyField(name, value)), role);
}

const GOOD: [name: string, role: HeaderRole, headers: HeaderList][] = [
  ["a minimal request", "request", REQUEST],
  ["a request with authority and fields", "request", [
    ...REQUEST,
    [":authority", "a:1"],
    ["te", "trailers"],
    ["x", ""],
  ]],
  ["OPTIONS *", "request", [[":method", "OPTIONS"], [":scheme", "http"], [":path", "*"]]],
  ["CONNECT", "request", [[":method", "CONNECT"], [":authority", "a:1"]]],
  ["a response", "response", [[":status", "200"], ["x", "a b\tc"]]],
  ["trailers", "trailers", [["grpc-status", "0"]]],
  ["empty trailers", "trailers", []],
  ["Latin-1 values", "trailers", [["x", "caf\xe9"]]],
];

for (const [name, role, headers] of GOOD) {
  Deno.test(`checkHeaders() accepts ${name}`, () => {
    assert.notEqual(check(headers, role), MALFORMED);
  });
}

const BAD: [name: string, role: HeaderRole, headers: HeaderList][] = [
  ["a request without method", "request", REQUEST.slice(1)],
  ["a request without scheme", "request", [REQUEST[0]!, REQUEST[2]!]],
  ["a request without path", "request", REQUEST.slice(0, 2)],
  ["an empty path", "request", [...REQUEST.slice(0, 2), [":path", ""]]],
  ["a path that is not absolute", "request", [...REQUEST.slice(0, 2), [":path", "a"]]],
  ["a pseudo-header twice", "request", [...REQUEST, [":path", "/"]]],
  ["a pseudo-header after a field", "request", [["a", "b"], ...REQUEST]],
  ["an unknown pseudo-header", "request", [...REQUEST, [":test", "x"]]],
  ["a status in a request", "request", [...REQUEST, [":status", "200"]]],
  ["CONNECT with a path", "request", [[":method", "CONNECT"], [":authority", "a"], [":path", "/"]]],
  ["extended CONNECT", "request", [
    ...REQUEST,
    [":protocol", "websocket"],
  ]],
  ["a response without status", "response", [["a", "b"]]],
  ["a status of two digits", "response", [[":status", "20"]]],
  ["a method in a response", "response", [[":status", "200"], [":method", "GET"]]],
  ["a pseudo-header in trailers", "trailers", [[":status", "200"]]],
  ["an upper-case name", "request", [...REQUEST, ["X", "y"]]],
  ["a name with a blank", "request", [...REQUEST, ["a b", "y"]]],
  ["an empty name", "request", [...REQUEST, ["", "y"]]],
  ["connection", "request", [...REQUEST, ["connection", "close"]]],
  ["transfer-encoding", "request", [...REQUEST, ["transfer-encoding", "chunked"]]],
  ["keep-alive", "request", [...REQUEST, ["keep-alive", "1"]]],
  ["proxy-connection", "request", [...REQUEST, ["proxy-connection", "x"]]],
  ["upgrade", "request", [...REQUEST, ["upgrade", "h2c"]]],
  ["te other than trailers", "request", [...REQUEST, ["te", "gzip"]]],
  ["a line break in a value", "request", [...REQUEST, ["a", "b\nc"]]],
  ["NUL in a value", "request", [...REQUEST, ["a", "b\0"]]],
  ["a value with a blank in front", "request", [...REQUEST, ["a", " b"]]],
  ["a value with a blank behind", "request", [...REQUEST, ["a", "b "]]],
  ["content-length twice", "request", [...REQUEST, ["content-length", "1"], [
    "content-length",
    "1",
  ]]],
  ["a content-length that is no number", "request", [...REQUEST, ["content-length", "-1"]]],
];

for (const [name, role, headers] of BAD) {
  Deno.test(`checkHeaders() refuses ${name}`, () => {
    assert.equal(check(headers, role), MALFORMED);
  });
}

Deno.test("checkHeaders() says where content-length is", () => {
  assert.equal(check([...REQUEST, ["a", "b"], ["content-length", "7"]], "request"), 4);
});

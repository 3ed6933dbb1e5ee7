import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { InvalidArgumentError } from "../errors.ts";
import { CallMetadata, decodeBinary, encodeBinary } from "./metadata.ts";

Deno.test("CallMetadata.received() leaves transport headers out and decodes -bin values", () => {
  const metadata = CallMetadata.received([
    [":method", "POST"],
    [":path", "/a/b"],
    ["te", "trailers"],
    ["content-type", "application/grpc"],
    ["grpc-timeout", "1S"],
    ["grpc-encoding", "gzip"],
    ["user-agent", "x"],
    ["x-a", "1"],
    ["x-a", "2"],
    ["x-raw-bin", "AP8"],
    ["x-pad-bin", "AP8="],
    ["x-two-bin", "AQ,Ag=="],
    ["x-bad-bin", "not base64!"],
    ["grpc-trace-bin", "AA=="],
  ]);
  assert.deepEqual([...metadata.entries()], [
    ["user-agent", "x"],
    ["x-a", "1"],
    ["x-a", "2"],
    ["x-raw-bin", new Uint8Array([0, 255])],
    ["x-pad-bin", new Uint8Array([0, 255])],
    ["x-two-bin", new Uint8Array([1])],
    ["x-two-bin", new Uint8Array([2])],
    ["grpc-trace-bin", new Uint8Array([0])],
  ]);
  assert.equal(metadata.get("x-a"), "1");
  assert.deepEqual(metadata.getAll("x-a"), ["1", "2"]);
  assert.equal(metadata.get("te"), undefined);
});

Deno.test("CallMetadata.append() takes what HTTP/2 can carry and nothing else", () => {
  const metadata = CallMetadata.from([["x-a", "v"], ["x-b-bin", new Uint8Array([1, 2, 3])]]);
  assert.deepEqual(metadata.toFields(), [["x-a", "v"], ["x-b-bin", "AQID"]]);
  const refused: [string, string | Uint8Array][] = [
    ["", "v"],
    ["X-A", "v"],
    ["a b", "v"],
    ["é", "v"],
    [":path", "v"],
    ["grpc-status", "0"],
    ["content-type", "v"],
    ["te", "v"],
    ["x-a", "line\nbreak"],
    ["x-a", "ü"],
    ["x-a", new Uint8Array(1)],
    ["x-a-bin", "text"],
  ];
  for (const [key, value] of refused) {
    assert.throws(() => metadata.append(key, value), InvalidArgumentError, key);
  }
  assert.equal(metadata.toFields().length, 2);
  assert.ok(new CallMetadata().isEmpty);
});

Deno.test("binary values agree with node's base64 and need no padding", () => {
  for (let length = 0; length < 70; length++) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 37 + length) & 255);
    const padded = Buffer.from(bytes).toString("base64");
    assert.equal(encodeBinary(bytes), padded.replace(/=+$/, ""));
    assert.deepEqual(decodeBinary(padded), bytes);
    assert.deepEqual(decodeBinary(encodeBinary(bytes)), bytes);
  }
  assert.equal(decodeBinary("a"), undefined);
  assert.equal(decodeBinary("????"), undefined);
});

import assert from "node:assert/strict";
import { InvalidArgumentError } from "../errors.ts";
import { parseServerUrl } from "./url.ts";

Deno.test("parseServerUrl() reads schemes, names and addresses of both kinds", () => {
  const cases: readonly [string, string, boolean, string][] = [
    ["localhost:8001", "localhost:8001", false, "localhost"],
    ["grpc://Node-A.example:8001", "Node-A.example:8001", false, "Node-A.example"],
    ["HTTP://10.0.0.1:80/", "10.0.0.1:80", false, "10.0.0.1"],
    ["grpcs://node:443", "node:443", true, "node"],
    ["https://[2001:db8::1]:8443", "[2001:db8::1]:8443", true, "2001:db8::1"],
    ["[::1]:8001", "[::1]:8001", false, "::1"],
    ["grpc://[fe80::1%eth0]:8001", "[fe80::1%eth0]:8001", false, "fe80::1%eth0"],
    [" node:1 ", "node:1", false, "node"],
    ["unix:/run/worker.sock", "unix:/run/worker.sock", false, ""],
  ];
  for (const [text, target, isSecure, host] of cases) {
    assert.deepEqual(parseServerUrl(text), { target, isSecure, host }, text);
  }
});

Deno.test("parseServerUrl() refuses what it cannot be sure about, and says what it takes", () => {
  const wrong = [
    "",
    "node",
    "node:",
    "node:0",
    "node:65536",
    "::1:8001",
    "[node]:8001",
    "[]:8001",
    "ftp://node:8001",
    "grpc://node",
    "grpc://user@node:8001",
    "grpc://node:8001/v2",
    "grpc://node:8001?x=1",
    "unix:",
  ];
  for (const text of wrong) {
    assert.throws(() => parseServerUrl(text), (error) => {
      assert.ok(error instanceof InvalidArgumentError, text);
      assert.match(error.message, /Malformed server address ".*": expected host:port/);
      return true;
    }, text);
  }
});

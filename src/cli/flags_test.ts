import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { type FlagSpec, isOn, lastValue, parseFlags, SERVER_FLAGS } from "./flags.ts";

const FLAGS: readonly FlagSpec[] = [
  { name: "port", kind: "value", help: "" },
  { name: "model-dir", kind: "list", help: "" },
  { name: "autotune", kind: "switch", help: "" },
  { name: "verbose", kind: "switch", short: "v", help: "" },
];

function refuses(args: string[], expected: RegExp): void {
  assert.throws(() => parseFlags(args, FLAGS), (error) => {
    assert.ok(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
    assert.match(error.message, expected);
    return true;
  });
}

Deno.test("parseFlags() reads values, lists, switches and positionals in any order", () => {
  const flags = parseFlags(
    ["a", "--port=1", "--model-dir", "x", "b", "--model-dir=y", "-v", "--port", "2", "--", "--c"],
    FLAGS,
  );
  assert.equal(lastValue(flags, "port"), "2");
  assert.deepEqual(flags.values.get("model-dir"), ["x", "y"]);
  assert.equal(isOn(flags, "verbose"), true);
  assert.equal(isOn(flags, "autotune"), false);
  assert.deepEqual(flags.positionals, ["a", "b", "--c"]);
});

Deno.test("parseFlags() lets a switch be set either way", () => {
  const autotune = (arg: string) => lastValue(parseFlags([arg], FLAGS), "autotune");
  assert.equal(autotune("--autotune"), "true");
  assert.equal(autotune("--autotune=on"), "true");
  assert.equal(autotune("--autotune=FALSE"), "false");
  assert.equal(autotune("--no-autotune"), "false");
  assert.equal(lastValue(parseFlags(["--autotune", "false"], FLAGS), "autotune"), "true");
  refuses(["--autotune=maybe"], /--autotune must be true or false, got "maybe"/);
  refuses(["--no-autotune=true"], /--no-autotune takes no value/);
});

Deno.test("parseFlags() refuses unknown flags with the nearest known one", () => {
  refuses(["--prot", "1"], /Unknown flag --prot; did you mean --port\?/);
  refuses(["--no-port"], /Unknown flag --no-port; did you mean --port\?/);
  refuses(["--something-else"], /Unknown flag --something-else$/);
  refuses(["-x"], /Unknown flag -x$/);
  refuses(["--__proto__=1"], /Unknown flag --__proto__$/);
});

Deno.test("parseFlags() refuses a flag without its value", () => {
  refuses(["--port"], /--port needs a value/);
  refuses(["--port", "--verbose"], /--port needs a value/);
  assert.equal(lastValue(parseFlags(["--port", "-1"], FLAGS), "port"), "-1");
  assert.equal(lastValue(parseFlags(["--port="], FLAGS), "port"), "");
  assert.equal(lastValue(parseFlags(["--port=--x"], FLAGS), "port"), "--x");
});

Deno.test("SERVER_FLAGS name the flags the manual promises", () => {
  const names = SERVER_FLAGS.map(({ name }) => name);
  for (
    const name of [
      "model-dir",
      "host",
      "port",
      "metrics-port",
      "pjrt-plugin",
      "grpc-transport",
      "log-format",
      "log-level",
      "discipline",
      "backend",
      "compile-parallelism",
      "tls-cert",
      "tls-key",
      "tls-client-ca",
    ]
  ) assert.ok(names.includes(name), name);
  for (const reserved of ["help", "version", "node-file", "worker-name", "json", "url"]) {
    assert.ok(!names.includes(reserved), `${reserved} is taken by a command`);
  }
});

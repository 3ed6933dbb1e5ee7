import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { LOADGEN_SETTINGS, readSettings } from "./settings.ts";

function read(flags: Record<string, string>, variables: Record<string, string> = {}) {
  return readSettings({ flag: (name) => flags[name], variable: (name) => variables[name] });
}

Deno.test("the variables of the original are all there, with its defaults", () => {
  const original: Readonly<Record<string, string>> = {
    LOADGEN_GATEWAY: "grpc://gateway:8001",
    LOADGEN_METRICS: "",
    LOADGEN_MODEL_REPO: "",
    LOADGEN_CONCURRENCY: "32",
    LOADGEN_DURATION_SECONDS: "3600",
    LOADGEN_TRANSPORT: "tcp",
    LOADGEN_SHM_OUTPUTS: "true",
    LOADGEN_REPORT_SECONDS: "30",
    LOADGEN_MODELS: "",
    LOADGEN_SKIP_INTERNAL: "true",
    LOADGEN_MIN_OK_PER_MODEL: "1",
    LOADGEN_SWEEP_EVERY: "4",
    LOADGEN_BATCH_MODE: "off",
    LOADGEN_BURST_K: "8",
    LOADGEN_DEADLINE_SECONDS: "0",
    LOADGEN_RAMP_STEP_SECONDS: "0",
    LOADGEN_RAMP_START: "4",
    LOADGEN_RAMP_FACTOR: "2",
    LOADGEN_RAMP_MAX: "512",
    LOADGEN_WARMUP: "true",
    LOADGEN_WARMUP_DEADLINE: "300",
    LOADGEN_STALL_WINDOWS: "4",
  };
  const known = new Map(
    Object.values(LOADGEN_SETTINGS).map(({ variable, shownDefault }) => [variable, shownDefault]),
  );
  for (const [variable, value] of Object.entries(original)) {
    assert.equal(known.get(variable), value, variable);
  }
});

Deno.test("a flag beats its variable, which beats the default", () => {
  const settings = read({ concurrency: "3" }, {
    LOADGEN_CONCURRENCY: "5",
    LOADGEN_MODELS: " a=2 ,, b ",
    LOADGEN_WARMUP: "no",
    LOADGEN_TRANSPORT: "SHM",
    LOADGEN_RATE: "",
  });
  assert.equal(settings.concurrency, 3);
  assert.deepEqual(settings.models, ["a=2", "b"]);
  assert.equal(settings.warmup, false);
  assert.equal(settings.transport, "shm");
  assert.equal(settings.rate, 0);
  assert.equal(settings.durationSeconds, 3600);
});

Deno.test("what cannot be is named with what it should be", () => {
  const wrong: readonly [Record<string, string>, Record<string, string>, RegExp][] = [
    [
      { concurrency: "0" },
      {},
      /^--concurrency must be a whole number, at least 1 and at most 65536, got "0"/,
    ],
    [{}, { LOADGEN_RAMP_FACTOR: "1" }, /^LOADGEN_RAMP_FACTOR must be a number, at least 1.01/],
    [
      {},
      { LOADGEN_TRANSPORT: "udp" },
      /^LOADGEN_TRANSPORT must be one of tcp, shm, mixed, got "udp"/,
    ],
    [{ warmup: "maybe" }, {}, /^--warmup must be true or false/],
    [{ rate: "5", "ramp-step-seconds": "1" }, {}, /cannot be combined/],
    [{ "ramp-step-seconds": "1", "ramp-max": "2" }, {}, /--ramp-max must be at least --ramp-start/],
  ];
  for (const [flags, variables, message] of wrong) {
    assert.throws(() => read(flags, variables), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  }
});

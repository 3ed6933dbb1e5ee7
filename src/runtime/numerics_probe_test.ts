import assert from "node:assert/strict";
import { ConfigError, UnavailableError } from "../errors.ts";
import { Logger } from "../log.ts";
import { MockBackend } from "./mock_backend.ts";
import { checkNumerics, NUMERICS_PROBE, probeNumerics } from "./numerics_probe.ts";

const matrix = { datatype: "FP32", shape: [512, 512] } as const;

/** A device that makes this of every product with the identity. */
function deviceThat(makes: (value: number) => number): MockBackend {
  return new MockBackend({
    platform: "cuda",
    deviceKind: "test",
    programs: {
      [NUMERICS_PROBE]: {
        parameters: [matrix, matrix],
        results: [matrix],
        compute: ([left]) => [
          new Uint8Array(new Float32Array(left!.slice().buffer).map(makes).buffer),
        ],
      },
    },
  });
}

/** TF32 has ten bits of a fraction (NVIDIA A100 whitepaper). */
const toTf32 = (value: number) => Math.round(value * 2 ** 10) / 2 ** 10;
const DEVICES = {
  f32: () => deviceThat((value) => value),
  tf32: () => deviceThat(toTf32),
  undetermined: () => deviceThat((value) => value * (1 + 2 ** -18)),
};

async function check(numerics: "f32" | "auto" | "tf32", backend: MockBackend): Promise<string> {
  const lines: string[] = [];
  const logger = new Logger({ format: "json", write: (line) => lines.push(line) });
  try {
    await checkNumerics({ numerics }, { backend, settings: {}, logger });
  } catch (error) {
    assert.ok(error instanceof ConfigError || error instanceof UnavailableError, String(error));
    return error.name;
  }
  assert.equal(lines.length, 1);
  return JSON.parse(lines[0]!).level;
}

Deno.test("probeNumerics() tells how a device computes, and leaves nothing on it", async () => {
  for (const [name, device] of Object.entries(DEVICES)) {
    await using backend = device();
    assert.equal(await probeNumerics(backend), name);
    assert.deepEqual(Object.values(backend.liveHandles()).filter((count) => count > 0), []);
  }
});

Deno.test("checkNumerics() holds a device to what is asked for", async () => {
  const outcomes = {
    f32: { f32: "info", tf32: "ConfigError", undetermined: "ConfigError" },
    auto: { f32: "info", tf32: "info", undetermined: "warn" },
    tf32: { f32: "ConfigError", tf32: "info", undetermined: "warn" },
  } as const;
  for (const numerics of ["f32", "auto", "tf32"] as const) {
    for (const name of ["f32", "tf32", "undetermined"] as const) {
      await using backend = DEVICES[name]();
      assert.equal(await check(numerics, backend), outcomes[numerics][name], `${numerics} ${name}`);
    }
    await using broken = new MockBackend({ platform: "cuda", programs: {} });
    assert.equal(await check(numerics, broken), numerics === "f32" ? "UnavailableError" : "warn");
  }
});

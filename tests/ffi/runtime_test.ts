/** The PJRT backend where it is native code that can go wrong: memory, threads, errors, the process. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { ConfigError } from "../../src/errors.ts";
import { Logger } from "../../src/log.ts";
import {
  type Backend,
  compileSettings,
  openPjrtBackend,
  PjrtError,
  UnsupportedProgramError,
} from "../../src/runtime/mod.ts";
import { byteLengthOf, type Datatype, DATATYPES } from "../../src/tensor/mod.ts";
import { assertNoGrowth } from "../harness/growth.ts";
import { ADD_ROW, cpuPlugin, mlir, openCpu, powers } from "./subject.ts";

const encoder = new TextEncoder();

/** `(x: UINT8[n]) -> x + 1`. */
function increment(n: number): Uint8Array {
  return mlir(
    `(%x: tensor<${n}xui8>) -> tensor<${n}xui8>`,
    `  %one = stablehlo.constant dense<1> : tensor<${n}xui8>
  %y = stablehlo.add %x, %one : tensor<${n}xui8>
  return %y : tensor<${n}xui8>`,
  );
}

const subject = new URL("./subject.ts", import.meta.url).href;
const libc = new URL("../../ffi/libc/mod.ts", import.meta.url).href;

/** What a script prints, in a process of its own that must end well. */
function runScript(script: string): string {
  const folder = Deno.makeTempDirSync();
  Deno.writeTextFileSync(`${folder}/main.ts`, script);
  const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
  const run = spawnSync(Deno.execPath(), ["run", "-A", "--config", config, `${folder}/main.ts`], {
    encoding: "utf8",
  });
  Deno.removeSync(folder, { recursive: true });
  assert.equal(run.signal, null, run.stderr);
  assert.equal(run.status, 0, run.stderr);
  return run.stdout;
}

/** Runs `work` while a timer ticks; how often it did. */
async function ticksDuring(work: () => Promise<unknown>): Promise<number> {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 2);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return ticks;
}

function identity(type: string, attributes = ""): Uint8Array {
  return mlir(`(%x: ${type}${attributes}) -> ${type}`, `  return %x : ${type}`);
}

Deno.test("openPjrtBackend() says what it runs on", async () => {
  await using backend = await openCpu();
  assert.equal(backend.platform, "cpu");
  assert.equal(backend.deviceKind, "cpu");
  assert.equal(backend.memory(), undefined);
  assert.deepEqual(backend.liveHandles(), {
    client: 1,
    buffer: 0,
    executable: 0,
    loaded_executable: 0,
    event: 0,
  });
  await using second = await openCpu();
  assert.match(backend.fingerprint, /^[0-9a-f]{64}$/);
  assert.equal(second.fingerprint, backend.fingerprint);
});

Deno.test("openPjrtBackend() refuses a device that is not there and a plugin for another platform", async () => {
  const options = { pluginPath: cpuPlugin(), platform: "cpu" } as const;
  const isConfigError = (message: RegExp) => (error: unknown) =>
    error instanceof ConfigError && message.test(error.message);
  await assert.rejects(
    openPjrtBackend({ ...options, deviceOrdinal: 99 }),
    isConfigError(/device_ordinal 99 is out of range: .* reports \d+ device/),
  );
  await assert.rejects(
    openPjrtBackend({ ...options, platform: "cuda", memFraction: 0.5, visibleDevices: [0] }),
    isConfigError(/is for cpu, the backend is cuda; name a cuda plugin/),
  );
  await assert.rejects(
    openPjrtBackend({ ...options, pluginPath: "/nowhere.so" }),
    isConfigError(/no such file; run scripts\/setup/),
  );
});

Deno.test("a program runs on the device it was compiled for, whichever that is", async () => {
  await using backend = await openPjrtBackend({
    pluginPath: cpuPlugin(),
    platform: "cpu",
    deviceOrdinal: 1,
  });
  using program = await backend.compile(increment(3));
  const input = { datatype: "UINT8", shape: [3], data: Uint8Array.of(1, 2, 255) } as const;
  const { outputs } = await backend.run(program, [input], []);
  assert.deepEqual([...outputs[0]!], [2, 3, 0]);
});

Deno.test("a program that does not compile is a PjrtError and leaves the client working", async () => {
  await using backend = await openCpu();
  const before = backend.liveHandles();
  const cases: [code: Uint8Array, message: RegExp][] = [
    [encoder.encode("garbage"), /custom op 'garbage' is unknown/],
    [encoder.encode(""), /`main`/],
    [encoder.encode("ML\xefR bytecode, it says"), /./],
    [mlir("(%x: tensor<2xf32>) -> tensor<3xf32>", "  return %x : tensor<2xf32>"), /tensor<2xf32>/],
    [identity("tensor<?x3xf32>"), /dynamism/],
  ];
  for (const [code, message] of cases) {
    await assert.rejects(backend.compile(code), (error) => {
      assert.ok(error instanceof PjrtError);
      assert.equal(error.call, "PJRT_Client_Compile");
      assert.ok(error.code === "UNKNOWN" || error.code === "INVALID_ARGUMENT", error.code);
      assert.match(error.message, message);
      return true;
    });
  }
  assert.deepEqual(backend.liveHandles(), before);
  using program = await backend.compile(ADD_ROW);
  assert.equal(program.signature.results.length, 2);
});

Deno.test("a program this server cannot feed is refused by name and freed", async () => {
  await using backend = await openCpu();
  const before = backend.liveHandles();
  const cases: [code: Uint8Array, message: RegExp][] = [
    [identity("tensor<4xcomplex<f32>>"), /parameter 0 has XLA element type 15/],
    [identity("tensor<4xi4>"), /parameter 0 has XLA element type 21/],
    [
      identity("tensor<2x3xf32>", ' {mhlo.layout_mode = "{0,1}"}'),
      /parameter 0 \[2,3\] has the layout \{0,1\}/,
    ],
    [
      mlir(
        '(%x: tensor<2x3xf32>) -> (tensor<3x2xf32> {mhlo.layout_mode = "{0,1}"}, tensor<2x3xf32>)',
        `  %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %t, %x : tensor<3x2xf32>, tensor<2x3xf32>`,
      ),
      /result 0 \[3,2\] has the layout \{0,1\}/,
    ],
  ];
  for (const [code, message] of cases) {
    await assert.rejects(
      backend.compile(code),
      (error) => error instanceof UnsupportedProgramError && message.test(error.message),
    );
  }
  assert.deepEqual(backend.liveHandles(), before);
});

const MLIR_TYPES: Partial<Record<Datatype, string>> = {
  BOOL: "i1",
  UINT8: "ui8",
  UINT16: "ui16",
  UINT32: "ui32",
  UINT64: "ui64",
  INT8: "i8",
  INT16: "i16",
  INT32: "i32",
  INT64: "i64",
  FP16: "f16",
  BF16: "bf16",
  FP32: "f32",
  FP64: "f64",
  FP8_E5M2: "f8E5M2",
  FP8_E4M3FN: "f8E4M3FN",
};

Deno.test("programs of every datatype say so and pass their bytes on", async () => {
  await using backend = await openCpu();
  for (const { datatype, pjrtType } of DATATYPES) {
    if (pjrtType < 0) continue;
    using program = await backend.compile(identity(`tensor<6x${MLIR_TYPES[datatype]}>`));
    const spec = { datatype, shape: [6] };
    assert.deepEqual(program.signature, { parameters: [spec], results: [spec] });
    const data = new Uint8Array(byteLengthOf(spec)).map((_, index) => index & 1);
    const { outputs } = await backend.run(program, [{ ...spec, data }], []);
    assert.deepEqual(new Uint8Array(outputs[0]!), data, datatype);
  }
});

Deno.test("compile settings reach XLA", async () => {
  await using backend = await openCpu();
  const accepted = { xla_backend_optimization_level: 0, xla_cpu_enable_fast_math: true };
  using program = await backend.compile(ADD_ROW, { autotuneLevel: 0, overrides: accepted });
  assert.equal(program.signature.parameters.length, 2);
  // XLA is one code base: a CPU build knows the GPU's options too, and does as before with them set.
  const logger = new Logger({ level: "error", write: () => {} });
  const tune = await Deno.makeTempDir();
  const gpu = compileSettings(
    { numerics: "f32", autotune: false, autotuneCache: true, autotuneCacheDir: tune },
    { platform: "cuda", fingerprint: backend.fingerprint },
    logger,
  );
  assert.equal(Object.keys(gpu.overrides!).length, 2);
  using same = await backend.compile(ADD_ROW, gpu);
  assert.deepEqual(same.signature, program.signature);
  await Deno.remove(tune, { recursive: true });
  const rejected: [overrides: Record<string, string | number>, message: RegExp][] = [
    [{ xla_no_such_option: 1 }, /No such compile option: 'xla_no_such_option'/],
    [{ xla_backend_optimization_level: 1.5 }, /'1\.5' is not a valid int32/],
    [{ xla_cpu_enable_fast_math: "perhaps" }, /'perhaps' is not a valid bool/],
  ];
  for (const [overrides, message] of rejected) {
    await assert.rejects(backend.compile(ADD_ROW, { overrides }), message);
  }
});

Deno.test("a result that does not fit into memory is RESOURCE_EXHAUSTED, from execute and run", async () => {
  await using backend = await openCpu();
  const huge = "tensor<1048576x1048576xf32>";
  using program = await backend.compile(mlir(
    `(%x: tensor<f32>) -> ${huge}`,
    `  %y = stablehlo.broadcast_in_dim %x, dims = [] : (tensor<f32>) -> ${huge}
  return %y : ${huge}`,
  ));
  assert.equal(program.memory?.outputBytes, 2 ** 42);
  using x = await backend.upload({ datatype: "FP32", shape: [] }, new Uint8Array(4));
  const before = backend.liveHandles();
  const isExhausted = (error: unknown) =>
    error instanceof PjrtError && error.code === "RESOURCE_EXHAUSTED";
  await assert.rejects(program.execute([x]), isExhausted);
  await assert.rejects(backend.run(program, [], [x]), isExhausted);
  assert.deepEqual(backend.liveHandles(), before);
});

Deno.test("programs without parameters, without results, and with empty tensors run", async () => {
  await using backend = await openCpu();
  using nothing = await backend.compile(mlir("() -> ()", "  return"));
  assert.deepEqual((await backend.run(nothing, [], [])).outputs, []);
  using constant = await backend.compile(mlir(
    "() -> tensor<2xi32>",
    `  %c = stablehlo.constant dense<[5, -6]> : tensor<2xi32>
  return %c : tensor<2xi32>`,
  ));
  const { outputs } = await backend.run(constant, [], []);
  assert.deepEqual([...new Int32Array(outputs[0]!.slice().buffer)], [5, -6]);
  using empty = await backend.compile(identity("tensor<0x4xf32>"));
  const input = { datatype: "FP32", shape: [0, 4], data: new Uint8Array() } as const;
  assert.equal((await backend.run(empty, [input], [])).outputs[0]!.length, 0);
});

Deno.test("run() reads inputs of any size and alignment, in place or not", async () => {
  await using backend = await openCpu();
  for (const n of [1, 100, 16_383, 16_384, 102_399, 102_400, 3_000_001]) {
    using program = await backend.compile(increment(n));
    const pool = new Uint8Array(n + 256).map((_, index) => index * 7);
    const expected = pool.map((value) => value + 1);
    await Promise.all([0, 1, 2, 3, 4, 8, 16, 32, 64, 100].map(async (offset) => {
      const data = pool.subarray(offset, offset + n);
      const { outputs } = await backend.run(program, [{ datatype: "UINT8", shape: [n], data }], []);
      assert.equal(
        Buffer.compare(outputs[0]!, expected.subarray(offset, offset + n)),
        0,
        `${n} bytes at ${offset}`,
      );
    }));
  }
});

Deno.test("2,000 dispatches leave no handle and no memory behind", async () => {
  await using backend = await openCpu();
  const n = 1 << 20;
  using program = await backend.compile(increment(n));
  const target = new Uint8Array(n);
  const data = new Uint8Array(n).fill(41);
  const input = { datatype: "UINT8", shape: [n], data } as const;
  const dispatch = async (count: number) => {
    for (let done = 0; done < count; done++) {
      await backend.run(program, [input], [], { targets: [target] });
    }
  };
  await dispatch(300);
  const before = backend.liveHandles();
  await assertNoGrowth({
    what: "dispatches",
    perRound: 400,
    round: () => dispatch(400),
    // One leaked buffer of either kind is a MiB.
    residentBytesEach: 8 << 10,
    minRounds: 5,
  });
  assert.equal(target[n - 1], 42);
  assert.deepEqual(backend.liveHandles(), before);
});

Deno.test("compiling and freeing programs leaves no handle behind", async () => {
  await using backend = await openCpu();
  const before = backend.liveHandles();
  for (let round = 0; round < 20; round++) {
    using program = await backend.compile(increment(round + 1));
    using again = await backend.deserialize(await program.serialize());
    assert.deepEqual(again.signature, program.signature);
  }
  assert.deepEqual(backend.liveHandles(), before);
});

Deno.test("compile does not hold up the event loop", async () => {
  await using backend = await openCpu();
  // Larger until it takes long enough to tell: machines differ.
  for (let steps = 600;; steps *= 2) {
    const code = powers(8, steps);
    let program;
    const ticks = await ticksDuring(async () => program = await backend.compile(code));
    (program as unknown as Disposable)[Symbol.dispose]();
    // A loop that was held up ticks once, when it is let go.
    if (ticks >= 5) break;
    assert.ok(steps < 20_000, `${ticks} ticks`);
  }
});

/** About a second of work on one core. */
async function longProgram(backend: Backend) {
  const n = 256;
  const program = await backend.compile(powers(n, 200));
  const data = new Uint8Array(n * n * 4);
  return { program, input: { datatype: "FP32", shape: [n, n], data } as const };
}

Deno.test("a long execution does not hold up the event loop, however often it runs", async () => {
  await using backend = await openCpu();
  const { program, input } = await longProgram(backend);
  using _owned = program;
  for (let round = 0; round < 6; round++) {
    // A loop that was held up ticks once, when it is let go, every time; one that was not may do so too
    // when the machine had no time for it.
    let ticks = 0;
    for (let attempt = 0; ticks < 2; attempt++) {
      assert.ok(attempt < 20, "the event loop was held up every time");
      ticks = await ticksDuring(() => backend.run(program, [input], []));
    }
  }
});

Deno.test("disposing everything during a long execution frees it when that ends", async () => {
  await using backend = await openCpu();
  const before = backend.liveHandles();
  const { program, input } = await longProgram(backend);
  const buffer = await backend.upload(input, input.data);
  const running = Promise.all([backend.run(program, [], [buffer]), program.execute([buffer])]);
  program[Symbol.dispose]();
  buffer[Symbol.dispose]();
  assert.ok(backend.liveHandles().buffer! >= 1, "still in use");
  assert.equal(backend.liveHandles().loaded_executable, 1, "still in use");
  const [{ outputs }, results] = await running;
  assert.equal(outputs[0]!.length, 256 * 256 * 4);
  results[0]![Symbol.dispose]();
  assert.deepEqual(backend.liveHandles(), before);
});

Deno.test("closing during long work waits for it, then frees what was left", async () => {
  const backend = await openCpu();
  const { program, input } = await longProgram(backend);
  let settled = false;
  const running = backend.run(program, [input], []).finally(() => settled = true);
  await backend[Symbol.asyncDispose]();
  assert.ok(settled);
  await running;
  assert.deepEqual(new Set(Object.values(backend.liveHandles())), new Set([0]));
});

Deno.test("the plugin has one thread per pool and processor that the process may use", () => {
  const script = `
    const { openCpu } = await import(${JSON.stringify(subject)});
    const { getAffinity, setProcessAffinity } = await import(${JSON.stringify(libc)});
    const threads = () => [...Deno.readDirSync("/proc/self/task")]
      .map(({ name }) => Deno.readTextFileSync("/proc/self/task/" + name + "/comm"))
      .filter((name) => name.startsWith("tf_XLAEigen")).length;
    setProcessAffinity(getAffinity().slice(0, 1));
    await using backend = await openCpu();
    console.log(threads());
  `;
  assert.equal(runScript(script), "1\n");
});

Deno.test("a process that leaves without closing its backend exits cleanly", () => {
  const script = `
    import { ADD_ROW, openCpu } from ${JSON.stringify(subject)};
    const backend = await openCpu();
    const program = await backend.compile(ADD_ROW);
    const input = { datatype: "FP32", shape: [2, 3], data: new Uint8Array(24) };
    const row = { datatype: "FP32", shape: [3], data: new Uint8Array(12) };
    await backend.run(program, [input, row], []);
    console.log("done");
  `;
  assert.equal(runScript(script), "done\n");
});

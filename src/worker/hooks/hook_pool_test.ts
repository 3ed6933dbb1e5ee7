import assert from "node:assert/strict";
import { join } from "node:path";
import { ServerError } from "../../errors.ts";
import type { NamedTensor } from "../../tensor/mod.ts";
import { HookPool } from "./hook_pool.ts";
import { bytes, DOUBLE, failure, type Fixture, open, textOf } from "./testing.ts";

Deno.test("call() runs a TypeScript hook on copies of the tensors", async () => {
  using fixture = await open(DOUBLE);
  assert.equal(fixture.pool.has("preprocess"), true);
  assert.equal(fixture.pool.has("postprocess"), false);
  const input = bytes([1, 2, 3]);
  const [output] = await fixture.pool.call("preprocess", [input]);
  assert.deepEqual([...output!.data], [2, 4, 6]);
  assert.deepEqual([...input.data], [1, 2, 3]);
});

Deno.test("call() keeps order and spreads over the workers of the pool", async () => {
  using fixture = await open(DOUBLE, { size: 3 });
  const outputs = await Promise.all(
    Array.from({ length: 50 }, (_, index) => fixture.pool.call("preprocess", [bytes([index])])),
  );
  assert.deepEqual(
    outputs.map((list) => list[0]!.data[0]),
    Array.from({ length: 50 }, (_, i) => i * 2),
  );
});

Deno.test("call() fails only its own request when the hook throws or gives nonsense", async () => {
  using fixture = await open(`register_model("m", {
    preprocess([t]) {
      switch (t.data[0]) {
        case 0: throw new RangeError("zero is not allowed");
        case 1: return "nonsense";
        case 2: return [{ ...t, shape: [9] }];
        case 3: return [t, t];
        case 4: return [{ ...t, datatype: "FLOAT" }];
        case 5: return undefined;
        case 6: return bundle.readBytes("/etc/hostname");
        default: return [t];
      }
    },
  });`);
  const messages = [];
  for (let value = 0; value < 7; value++) {
    const [status, message] = await failure(fixture.pool.call("preprocess", [bytes([value])]));
    assert.equal(status, "INTERNAL");
    messages.push(message);
  }
  assert.match(messages[0]!, /preprocess of model "m" failed: RangeError: zero is not allowed/);
  assert.match(messages[1]!, /preprocess of model "m"/);
  assert.match(messages[2]!, /tensor "x" 1 bytes where 9 belong/);
  assert.match(messages[3]!, /tensor "x" twice/);
  assert.match(messages[4]!, /unknown datatype FLOAT/);
  assert.deepEqual((await fixture.pool.call("preprocess", [bytes([7])]))[0]!.data[0], 7);
  assert.deepEqual(fixture.lost, []);
  assert.deepEqual(fixture.failures, ["error", ...new Array(5).fill("output"), "error"]);
});

Deno.test("memory() tells what the threads hold", async () => {
  using fixture = await open(`
    let kept;
    register_model("m", {
      preprocess(inputs) {
        kept = [new Uint8Array(32 * 2 ** 20).fill(1), new Array(4 * 2 ** 20).fill(0.5)];
        return inputs;
      },
    });
  `);
  const { pool } = fixture;
  const told = async (heapBytes: number, externalBytes: number) => {
    const endMs = performance.now() + 120_000;
    for (;;) {
      const memory = pool.memory();
      if (memory.heapBytes > heapBytes && memory.externalBytes > externalBytes) return memory;
      assert.ok(performance.now() < endMs, JSON.stringify(memory));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const before = await told(0, 0);
  assert.equal(before.threads, 1);
  await pool.call("preprocess", [bytes([1])]);
  await told(before.heapBytes + 30 * 2 ** 20, before.externalBytes + 30 * 2 ** 20);
  pool[Symbol.dispose]();
  assert.deepEqual(pool.memory(), { threads: 0, heapBytes: 0, externalBytes: 0 });
});

const STUBBORN = `register_model("m", {
  async preprocess([t]) {
    if (t.data[0] === 1) for (;;) {}
    if (t.data[0] === 2) await new Promise(() => {});
    if (t.data[0] === 3) setTimeout(() => { throw new Error("out of band"); });
    if (t.data[0] === 3) await new Promise(() => {});
    if (t.data[0] === 4) Promise.reject(new Error("nobody waits"));
    if (t.data[0] === 4) await new Promise(() => {});
    return [t];
  },
});`;

Deno.test("a hook that loops, waits for ever, or lets errors go costs its request and one worker", async () => {
  // Those that never end, with a time limit that is sure to be reached; a call that comes while another
  // worker is started waits for it no longer than that.
  using hasty = await open(STUBBORN, { callTimeoutMs: 1000 });
  // Those that crash, with one that is not.
  using patient = await open(STUBBORN);
  for (
    const [fixture, values, reason] of [[hasty, [1, 2], "timeout"], [
      patient,
      [3, 4],
      "crash",
    ]] as const
  ) {
    for (const value of values) {
      const [status] = await failure(fixture.pool.call("preprocess", [bytes([value])]));
      assert.equal(status, "INTERNAL", `case ${value}`);
      const goesOn = () => fixture.pool.call("preprocess", [bytes([9])]);
      const [output] = await goesOn().catch(goesOn).catch(goesOn);
      assert.equal(output!.data[0], 9);
    }
    assert.deepEqual(fixture.lost, [reason, reason]);
    assert.deepEqual(fixture.failures.filter((why) => why !== "start"), fixture.lost);
  }
});

Deno.test("call() is bounded by the request's deadline, running or waiting", async () => {
  using fixture = await open(STUBBORN);
  const deadlineMs = performance.now() + 200;
  const running = failure(fixture.pool.call("preprocess", [bytes([1])], { deadlineMs }));
  const waiting = failure(fixture.pool.call("preprocess", [bytes([9])], { deadlineMs }));
  assert.equal((await running)[0], "DEADLINE_EXCEEDED");
  assert.equal((await waiting)[0], "DEADLINE_EXCEEDED");
  assert.equal((await fixture.pool.call("preprocess", [bytes([9])]))[0]!.data[0], 9);
});

Deno.test("open() refuses files that do not load, register nothing, or sit beside an escaping link", async () => {
  const cases: [source: string, message: RegExp][] = [
    ["const x: number = ;", /model\.ts: /],
    ["throw new Error('no model today')", /model\.ts: Error: no model today/],
    ["export const x = 1;", /did not call register_model/],
    [`register_model("m", { preprocess: 3 })`, /preprocess must be a function/],
    [`import "npm:yaml";`, /model\.ts: /],
  ];
  for (const [source, message] of cases) await assert.rejects(open(source), message);

  const root = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(join(root, "secret"), "s");
    Deno.mkdirSync(join(root, "bundle"));
    Deno.symlinkSync("../secret", join(root, "bundle", "vocab.txt"));
    const opened = HookPool.open({
      model: "m",
      kind: "model",
      directory: join(root, "bundle"),
      source: DOUBLE,
      size: 1,
      memoryBytes: 2 ** 27,
      callTimeoutMs: 300_000,
      loadTimeoutMs: 300_000,
    });
    await assert.rejects(opened, /"vocab.txt" is a link that leads out of the bundle/);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

/** Models of a meta: `double` doubles bytes, `fail` fails, `slow` never answers. */
function services(lent: { open: number }) {
  return {
    callModel(model: string, inputs: NamedTensor[]): Promise<NamedTensor[]> {
      if (model === "fail") {
        return Promise.reject(new ServerError("RESOURCE_EXHAUSTED", "the queue is full"));
      }
      if (model === "slow") return new Promise(() => {});
      return Promise.resolve(
        inputs.map((tensor) => ({ ...tensor, data: tensor.data.map((value) => value * 2) })),
      );
    },
    scratch(bytes: number) {
      lent.open++;
      return Promise.resolve({
        buffer: new SharedArrayBuffer(bytes),
        [Symbol.dispose]: () => void lent.open--,
      });
    },
  };
}

const META = `register_meta("m", async (inputs, call) => {
  switch (inputs[0].data[0]) {
    case 0: {
      const first = await call("double", inputs);
      return await call("double", first);
    }
    case 1: return await call("fail", inputs);
    case 2: try { await call("fail", inputs); } catch (error) { throw new TypeError("glue: " + error.message); }
    case 3: {
      const [a, b] = await call.scratch([5, 3]);
      if (b.byteOffset % 64 !== 0) throw new Error("unaligned");
      a.set([3, 1, 2, 3, 4]);
      const [doubled] = await call("double", [{ name: "x", datatype: "UINT8", shape: [5], data: a }]);
      a.fill(9);
      return [doubled, { name: "kept", datatype: "UINT8", shape: [3], data: b }];
    }
    case 4: await call.scratch([8]); return await call("slow", inputs);
    case 5: await call.scratch([8]); await call.scratch([8]); return inputs;
    case 6: return await call.scratch(8);
  }
});`;

Deno.test("run() of a meta chains models, inputs staying its own", async () => {
  using fixture = await open(META, { kind: "meta" });
  const lent = { open: 0 };
  const input = { ...bytes([0, 1, 2]) };
  const [output] = await fixture.pool.call("run", [input], {}, services(lent));
  assert.deepEqual([...output!.data], [0, 4, 8]);
});

Deno.test("run() ends with a sub-call's own status when it lets the failure through", async () => {
  using fixture = await open(META, { kind: "meta" });
  const run = (value: number) =>
    failure(fixture.pool.call("run", [bytes([value])], {}, services({ open: 0 })));
  assert.deepEqual(await run(1), ["RESOURCE_EXHAUSTED", "the queue is full"]);
  const [status, message] = await run(2);
  assert.equal(status, "INTERNAL");
  assert.match(message, /run of model "m" failed: TypeError: glue: the queue is full/);
  // The first was its stage's failure, not its own.
  assert.deepEqual(fixture.failures, ["error"]);
});

Deno.test("run() works in scratch memory, which is given back whatever happens", async () => {
  using fixture = await open(META, { kind: "meta" });
  using hasty = await open(META, { kind: "meta", callTimeoutMs: 300 });
  const lent = { open: 0 };
  const run = (value: number, { pool }: Fixture = fixture) =>
    pool.call("run", [bytes([value])], {}, services(lent));
  const [doubled, kept] = await run(3);
  assert.deepEqual([...doubled!.data], [6, 2, 4, 6, 8]);
  assert.ok(!(kept!.data.buffer instanceof SharedArrayBuffer));
  assert.equal(lent.open, 0);
  assert.match((await failure(run(4, hasty)))[1], /took longer/);
  assert.equal(lent.open, 0);
  assert.match((await failure(run(5)))[1], /may be used once/);
  assert.match((await failure(run(6)))[1], /call\.scratch takes a list of sizes/);
  assert.equal(lent.open, 0);
});

Deno.test("open() refuses a hook file of the other kind", async () => {
  await assert.rejects(open(DOUBLE, { kind: "meta" }), /did not call register_meta/);
  await assert.rejects(open(META), /did not call register_model/);
});

Deno.test("a call that is late but not stuck costs its caller the answer, and nobody the worker", async () => {
  using fixture = await open(META, { kind: "meta", lateGraceMs: 300_000 });
  const stage = Promise.withResolvers<NamedTensor[]>();
  const asked = Promise.withResolvers<void>();
  const slow = {
    ...services({ open: 0 }),
    callModel: () => (asked.resolve(), stage.promise),
  };
  const deadlineMs = performance.now() + 50;
  const late = failure(fixture.pool.call("run", [bytes([0])], { deadlineMs }, slow));
  // While the hook still waits for its stage.
  assert.equal((await late)[0], "DEADLINE_EXCEEDED");
  await asked.promise;
  stage.resolve([bytes([1])]);
  const [output] = await fixture.pool.call("run", [bytes([0])], {}, services({ open: 0 }));
  assert.equal(output!.data[0], 0);
  assert.deepEqual(fixture.lost, []);
});

Deno.test("a caller that goes away is let go at once; only a hook that hangs costs a worker", async () => {
  using fixture = await open(STUBBORN, { size: 1, lateGraceMs: 50 });
  const leaving = () => {
    let leave: (reason: ServerError) => void = () => {};
    return {
      limits: { onAbort: (listener: typeof leave) => leave = listener },
      leave: () => leave(new ServerError("CANCELLED", "gone")),
    };
  };
  const [first, second] = [leaving(), leaving()];
  const hanging = failure(fixture.pool.call("preprocess", [bytes([1])], first.limits));
  const waiting = failure(fixture.pool.call("preprocess", [bytes([0])], second.limits));
  second.leave();
  assert.deepEqual(await waiting, ["CANCELLED", "gone"]);
  first.leave();
  assert.deepEqual(await hanging, ["CANCELLED", "gone"]);
  // The worker that hangs is replaced; the next call needs no more than that.
  const [output] = await fixture.pool.call("preprocess", [bytes([0])]);
  assert.equal(output!.data[0], 0);
  assert.deepEqual(fixture.lost, ["timeout"]);
  // One that had ended when its caller left is nobody's loss.
  first.leave();
  assert.deepEqual((await fixture.pool.call("preprocess", [bytes([0])]))[0]!.data[0], 0);
  assert.deepEqual(fixture.lost, ["timeout"]);
});

Deno.test("open() says so when what is to be granted is no host or variable", async () => {
  for (
    const [given, message] of [[{ allowNet: ["http://a"] }, /URLs/], [
      { allowEnv: [""] },
      /env/i,
    ]] as const
  ) {
    const grants = { allowRead: [], allowNet: [], allowEnv: [], ...given };
    await assert.rejects(open(DOUBLE, { grants }), { name: "BundleError", message: /"m".*grants/ });
    await assert.rejects(open(DOUBLE, { grants }), { message });
  }
});

Deno.test("a hook refuses a request as its client's mistake with InvalidArgument, and only with that", async () => {
  using fixture = await open(`register_model("m", {
    async preprocess([t]) {
      await 0;
      switch (t.data[0]) {
        case 0: throw new InvalidArgument("the text is longer than 512 tokens");
        case 1: throw new (class extends InvalidArgument {})("x".repeat(10_000));
        case 2: throw Object.assign(new Error("made up"), { name: "InvalidArgument", isRefusal: true });
        case 3: throw Object.create(InvalidArgument.prototype);
        default: return [t];
      }
    },
  });`);
  const outcome = (value: number) => failure(fixture.pool.call("preprocess", [bytes([value])]));
  assert.deepEqual(await outcome(0), [
    "INVALID_ARGUMENT",
    'preprocess of model "m" refused the request: the text is longer than 512 tokens',
  ]);
  const [status, message] = await outcome(1);
  assert.equal(status, "INVALID_ARGUMENT");
  assert.ok(message.length < 600);
  assert.equal((await outcome(2))[0], "INTERNAL");
  assert.equal((await outcome(3))[0], "INTERNAL");
  assert.deepEqual(fixture.lost, []);
  // A refusal is the client's failure.
  assert.deepEqual(fixture.failures, ["error", "error"]);
});

Deno.test("threads that start at the same moment all start, and none has the process's collector", async () => {
  const source = `register_model("m", {
    preprocess([input]) {
      const data = new TextEncoder().encode(typeof gc);
      return [{ ...input, shape: [data.length], data }];
    },
  });`;
  for (let round = 0; round < 2; round++) {
    const fixtures = await Promise.all(Array.from({ length: 12 }, () => open(source)));
    try {
      for (const { pool } of fixtures) {
        assert.equal(textOf(await pool.call("preprocess", [bytes([1])])), "undefined");
      }
    } finally {
      for (const fixture of fixtures) fixture[Symbol.dispose]();
    }
  }
});

import assert from "node:assert/strict";
import { ControlService, Residency } from "../../src/protocol/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import {
  denseBundle,
  denseManifest,
  metaManifest,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { startServer } from "../harness/server.ts";

/** Two dense stages with data-dependent glue: the first three outputs, halved where positive. */
const CHAIN = `register_meta("chain", async (inputs, call) => {
  const [first] = await call("dense", inputs);
  const [rows] = first.shape;
  const values = new Float32Array(first.data.slice().buffer);
  const [memory] = await call.scratch([rows * 3 * 4]);
  const glue = new Float32Array(memory.buffer, memory.byteOffset, rows * 3);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < 3; i++) {
      const value = values[row * 4 + i];
      glue[row * 3 + i] = value > 0 ? value / 2 : value;
    }
  }
  const [second] = await call("dense", [{ name: "x", datatype: "FP32", shape: [rows, 3], data: memory }]);
  return [{ ...second, name: "z" }];
});`;

const WRONG = `register_meta("wrong", async (inputs, call) => {
  const [kind] = new Float32Array(inputs[0].data.slice().buffer);
  if (kind === 1) return await call("other", inputs);
  if (kind === 2) return await call("dense", []);
  if (kind === 3) return await call("missing", inputs);
  return [];
});`;

function x(rows: number[][]): NamedTensor {
  return {
    name: "x",
    datatype: "FP32",
    shape: [rows.length, 3],
    data: new Uint8Array(new Float32Array(rows.flat()).buffer),
  };
}

/** y = x · kernel + bias, with the numbers of `denseBundle`, in double precision. */
function dense(row: number[]): number[] {
  const bias = [0.5, 0.25, 0.125, 0];
  return bias.map((b, column) => b + row.reduce((sum, v, i) => sum + v * (10 * i + column), 0));
}

function chain(row: number[]): number[] {
  return dense(dense(row).slice(0, 3).map((value) => value > 0 ? value / 2 : value));
}

async function statusOf(call: Promise<unknown>): Promise<[string, string]> {
  try {
    await call;
    return ["OK", ""];
  } catch (error) {
    const { status, message } = error as { status: string; message: string };
    return [status, message];
  }
}

Deno.test("a meta model chains its stages, hides them, and fails by name", async () => {
  await using folder = await temporaryDirectory();
  assert.equal(denseManifest().executable_inputs[0].name, "x");
  await writeBundle(folder.path, "dense", denseBundle());
  const meta = (name: string, calls: string[], hook: string) =>
    writeBundle(folder.path, name, {
      "manifest.yaml": JSON.stringify(metaManifest(calls)),
      "model.ts": hook,
    });
  await meta("chain", ["dense"], CHAIN);
  await meta("wrong", ["dense", "missing"], WRONG);
  await meta("nested", ["chain"], CHAIN);
  await using server = await startServer({ modelDirs: [folder.path] });
  await using client = connect(server);
  const { inference } = client;

  const rows = [[1, 2, 3], [-4, 0.5, 0]];
  const answer = await inference.infer({ modelName: "chain", inputs: [x(rows)] });
  const found = [...new Float32Array(answer.outputs[0]!.data.slice().buffer)];
  const expected = rows.flatMap(chain);
  found.forEach((value, index) => {
    const want = expected[index]!;
    assert.ok(Math.abs(value - want) <= 1e-5 * Math.abs(want), `${value} is not ${want}`);
  });

  const many = await Promise.all(
    Array.from(
      { length: 40 },
      (_, i) => inference.infer({ modelName: "chain", inputs: [x([[i, 0, 1]])] }),
    ),
  );
  many.forEach(({ outputs }, i) => {
    const [first] = new Float32Array(outputs[0]!.data.slice().buffer);
    assert.ok(Math.abs(first! - chain([i, 0, 1])[0]!) <= 1e-5 * Math.abs(first!));
  });

  const ask = (kind: number) =>
    statusOf(inference.infer({ modelName: "wrong", inputs: [x([[kind, 0, 0]])] }));
  assert.deepEqual(await ask(1), [
    "INTERNAL",
    'Model "wrong" called "other", which its meta.calls do not name',
  ]);
  const [status, message] = await ask(2);
  assert.equal(status, "INTERNAL");
  assert.match(message, /called "dense" wrongly: .*needs input "x"/);
  assert.equal((await ask(3))[0], "NOT_FOUND");
  assert.match((await ask(4))[1], /run of model "wrong" gave bad tensors: output "z" is missing/);

  const index = await inference.repositoryIndex();
  assert.deepEqual(index.map(({ name, state }) => [name, state]), [
    ["chain", "READY"],
    ["nested", "UNAVAILABLE"],
    ["wrong", "READY"],
  ]);
  assert.match(index[1]!.reason, /"meta.calls" lists "chain", which is a meta model itself/);
  assert.equal(await inference.modelReady("dense"), true);

  const { models } = await inference.call(ControlService.method.modelControlStatus, {});
  const status1 = models.find(({ name }) => name === "chain")!;
  assert.deepEqual(models.map(({ name }) => name).toSorted(), ["chain", "wrong"]);
  assert.equal(status1.requestsServed, 41n);
  assert.equal(
    (await statusOf(inference.infer({ modelName: "nested", inputs: [x(rows)] })))[0],
    "UNAVAILABLE",
  );

  const { body } = await server.http("/metrics");
  const value = (name: string, labels: string) => {
    const series = `${name}{worker="worker0",${labels}} `;
    const line = body.split("\n").find((line) => line.startsWith(series));
    return line === undefined ? undefined : Number(line.slice(series.length));
  };
  assert.equal(value("worker_meta_dispatches_total", 'model="chain"'), 41);
  assert.equal(value("worker_meta_gate_wait_seconds_count", 'model="chain"'), 41);
  assert.equal(value("worker_scratch_wait_seconds_count", 'model="chain"'), 41);
  assert.equal(value("worker_stage_latency_seconds_count", 'model="chain",stage="hooks"'), 41);
  // Its own time is what it did not spend in the models it called.
  const all = value("worker_request_latency_seconds_sum", 'model="chain"')!;
  const own = value("worker_stage_latency_seconds_sum", 'model="chain",stage="hooks"')!;
  assert.ok(own > 0 && own < all, `${own} of ${all}`);
  const dispatches = value("worker_dispatch_total", 'model="dense"')!;
  assert.equal(value("worker_batch_size_count", 'model="dense"'), dispatches);
  assert.ok(value("worker_model_recent_compute_seconds", 'model="dense"')! > 0);
  const [, cost] = /^worker_model_cost_seconds{worker="worker0",model="dense",size="\d+"} (\S+)$/m
    .exec(body)!;
  assert.ok(Number(cost) > 0, cost);
  // What its stages refused is not its own failure.
  assert.equal(value("worker_hook_failures_total", 'model="wrong",reason="output"'), 1);
  assert.equal(value("worker_hook_failures_total", 'model="wrong",reason="error"'), undefined);
  // One that could not be loaded is counted under its name: it has one.
  assert.equal(value("worker_requests_total", 'model="nested",status="UNAVAILABLE"'), 1);
  assert.equal(value("worker_requests_total", 'model="_unknown",status="UNAVAILABLE"'), undefined);

  // On a device without a budget nothing is promised, and all weights are there.
  assert.deepEqual([status1.residency, status1.deviceResident], [Residency.UNPINNED, true]);
});

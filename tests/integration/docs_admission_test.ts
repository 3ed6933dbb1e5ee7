/** What the manual says about `max_concurrent_requests` of a worker. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import {
  denseBundle,
  denseManifest,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { sampleSum, until } from "../harness/fleet.ts";
import { startServer } from "../harness/server.ts";

/** Holds its request until the file `release` lies in the bundle. */
const HOLD = `register_model("hold", {
  async preprocess(inputs) {
    for (;;) {
      try {
        bundle.readText("release");
        return inputs;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  },
});`;

const TWO_STAGES = `register_meta("meta", async (inputs, call) => {
  await call("dense", inputs);
  const [y] = await call("dense", inputs);
  return [{ ...y, name: "z" }];
});`;

const x: NamedTensor = {
  name: "x",
  datatype: "FP32",
  shape: [1, 3],
  data: new Uint8Array(new Float32Array([1, 2, 3]).buffer),
};

Deno.test("a worker over its cap refuses at once, answers probes, and runs the stages it let in", async () => {
  await using folder = await temporaryDirectory();
  await writeBundle(folder.path, "dense", denseBundle());
  const clientInputs = denseManifest().executable_inputs;
  const held = await writeBundle(folder.path, "hold", {
    ...denseBundle(),
    "manifest.yaml": JSON.stringify({ ...denseManifest(), client_inputs: clientInputs }),
    "model.ts": HOLD,
  });
  await writeBundle(folder.path, "meta", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      kind: "meta",
      meta: { calls: ["dense"] },
      client_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 3 } }],
      client_outputs: [{ name: "z", dtype: "f32", shape: "na", dims: { a: 4 } }],
    }),
    "model.ts": TWO_STAGES,
  });
  await using server = await startServer({
    modelDirs: [folder.path],
    args: ["--max-concurrent-requests", "1", "--model-control-mode", "static"],
  });
  await using client = connect(server);

  // Two stages need no place of their own beside the one of their request.
  const answer = await client.inference.infer({ modelName: "meta", inputs: [x] });
  assert.deepEqual(answer.outputs[0]!.shape, [1, 4]);

  const first = client.inference.infer({ modelName: "hold", inputs: [x] });
  await until(
    async () => await sampleSum(server, "worker_inflight_requests") === 1,
    "the first request is in progress",
  );
  await assert.rejects(
    client.inference.infer({ modelName: "dense", inputs: [x] }),
    (error: { status?: string; message: string }) =>
      error.status === "RESOURCE_EXHAUSTED" && /max_concurrent_requests/.test(error.message),
  );
  assert.equal(await client.inference.serverReady(), true);
  assert.equal(await sampleSum(server, "worker_requests_shed_total"), 1);

  await Deno.writeTextFile(join(held, "release"), "");
  await first;
  await client.inference.infer({ modelName: "dense", inputs: [x] });
});

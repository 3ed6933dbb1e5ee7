/** What the manual says about `max_concurrent_requests` of a worker. */
import assert from "node:assert/strict";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import {
  denseBundle,
  metaManifest,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { sampleSum } from "../harness/fleet.ts";
import { writeHolding } from "../harness/holding_bundle.ts";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

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
  const held = await writeHolding(folder.path, "hold", "requests");
  await writeBundle(folder.path, "meta", {
    "manifest.yaml": JSON.stringify(metaManifest(["dense"])),
    "model.ts": TWO_STAGES,
  });
  await using server = await startServer({
    modelDirs: [folder.path],
    args: [
      ...["--max-concurrent-requests", "1", "--model-control-mode", "static"],
      ...["--hook-call-timeout-seconds", "3600"],
    ],
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

  held.release();
  await first;
  await client.inference.infer({ modelName: "dense", inputs: [x] });
});

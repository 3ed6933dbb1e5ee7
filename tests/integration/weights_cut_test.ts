/** Weights files cut short in place, at the worst moment: while they are read. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { ServerError } from "../../src/errors.ts";
import { ControlService, Residency } from "../../src/protocol/mod.ts";
import { temporaryDirectory, writeBundle } from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { startServer } from "../harness/server.ts";
import { askValue, weightBytesOf, weightedBundle } from "../harness/weighted_bundle.ts";

/** 24 MiB of weights: long enough to read for a cut to fall into it. */
const ELEMENTS = 6 << 20;
const MODELS = ["m0", "m1", "m2", "m3", "m4", "m5"];

const { method } = ControlService;

Deno.test("a weights file that is cut short under a load fails that load and nothing else", async () => {
  await using folder = await temporaryDirectory();
  for (const [index, name] of MODELS.entries()) {
    await writeBundle(folder.path, name, weightedBundle(index + 1, ELEMENTS));
  }
  await using server = await startServer({
    modelDirs: [folder.path],
    args: [
      ...["--device-memory-bytes", String(8 * weightBytesOf(ELEMENTS)), "--mem-fraction", "1"],
      ...["--model-control-mode", "explicit"],
    ],
  });
  await using client = connect(server);
  const set = (name: string, target: Residency) =>
    client.inference.call(method.setModelResidency, { name, target });
  // No copy in host memory: whoever wants the weights reads the file.
  for (const name of MODELS) await set(name, Residency.UNPINNED);

  const [spared, ...victims] = MODELS;
  const failures: string[] = [];
  for (const [index, name] of victims.entries()) {
    const cut = () => Deno.truncateSync(join(folder.path, name, "weights.safetensors"), 4096);
    // From before the load begins to when it may be done, on any machine.
    if (index === 0) cut();
    const loading = set(name, Residency.PINNED_DEVICE).then(() => undefined, (error) => error);
    if (index > 0) {
      await new Promise((resolve) => setTimeout(resolve, 2 ** index));
      cut();
    }
    const error = await loading;
    if (error === undefined) assert.equal(await askValue(client, name, 3), index + 2);
    else {
      assert.ok(error instanceof ServerError, String(error));
      assert.match(
        error.message,
        /weights\.safetensors: (it was changed in place|a part of it was missing).*rename it onto/,
      );
      failures.push(name);
      await assert.rejects(askValue(client, name, 3), { status: "UNAVAILABLE" });
    }
  }
  assert.equal(failures[0], victims[0]);
  await set(spared!, Residency.PINNED_DEVICE);
  assert.equal(await askValue(client, spared!, 3), 1);
  const { body } = await server.http("/metrics");
  const buffers = Number(/^worker_native_handles{.*kind="buffer"} (\d+)$/m.exec(body)![1]);
  assert.equal(buffers, MODELS.length - failures.length, "what failed has left nothing behind");
});

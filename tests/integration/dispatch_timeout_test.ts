/** A device that does not come back: who waits for it is answered, and nobody else is sent there meanwhile. */

import assert from "node:assert/strict";
import type { ServerError } from "../../src/errors.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import { valueAfter, writeLooping } from "../harness/looping_bundle.ts";
import { startServer } from "../harness/server.ts";
import { metric } from "../harness/weighted_bundle.ts";

const TIMEOUT_SECONDS = 0.5;

async function run({ inference }: TestClient, steps: number): Promise<number> {
  const data = new Uint8Array(new Int32Array([steps]).buffer);
  const { outputs } = await inference.infer({
    modelName: "loop",
    inputs: [{ name: "x", datatype: "INT32", shape: [1, 1], data }],
  });
  const [bytes] = outputs.map((output) => output.data);
  return new DataView(bytes!.buffer, bytes!.byteOffset).getInt32(0, true);
}

/**
 * As many steps as take this machine so long at least, however busy it is now. By then its worker knows that
 * the model is not one to run on the event loop, where nothing could look after it.
 */
async function stepsFor(client: TestClient, seconds: number): Promise<number> {
  for (let steps = 1 << 16;; steps *= 2) {
    let least = Infinity;
    for (let i = 0; i < 3; i++) {
      const startMs = performance.now();
      await run(client, steps);
      least = Math.min(least, (performance.now() - startMs) / 1000);
    }
    if (least > seconds / 8) return 8 * steps;
  }
}

Deno.test("a dispatch that takes too long is answered, and the worker is not ready until it is over", async () => {
  await using folder = await temporaryDirectory();
  await writeLooping(folder.path, "loop");
  await using server = await startServer({
    modelDirs: [folder.path],
    args: [
      ...["--dispatch-timeout-seconds", `${TIMEOUT_SECONDS}`, "--shutdown-grace-seconds", "0"],
    ],
  });
  await using client = connect(server);
  assert.equal(await run(client, 1000), valueAfter(1000));

  const stuck = run(client, await stepsFor(client, 4 * TIMEOUT_SECONDS));
  const waiting = run(client, 1000);
  // Where this test fails before it is awaited, that failure is the one to be shown.
  waiting.catch(() => {});
  await assert.rejects(stuck, (error: ServerError) => {
    assert.equal(error.status, "DEADLINE_EXCEEDED");
    assert.match(
      error.message,
      /Running model "loop" takes longer than 0\.5 s \(scheduler\.dispatch_timeout_seconds\)/,
    );
    return true;
  });
  const { status, body } = await server.http("/readyz");
  assert.deepEqual([status, body.includes('the device is stuck in "loop"')], [503, true], body);
  assert.equal(await client.inference.serverReady(), false);
  assert.equal((await server.http("/healthz")).status, 200);

  // What waited behind it is served as soon as the device is back.
  assert.equal(await waiting, valueAfter(1000));
  assert.equal((await server.http("/readyz")).status, 200);
  await server.waitForEvent(({ message }) => message === "a dispatch that took too long is over");
  assert.equal(await metric(server, "worker_dispatch_timeouts_total"), 1);
  const { body: page } = await server.http("/metrics");
  assert.match(page, /^worker_requests_total{.*model="loop",status="DEADLINE_EXCEEDED"} 1$/m);

  // A stop does not wait for what may never end.
  const endless = run(client, 2 ** 31 - 1);
  await assert.rejects(endless, { status: "DEADLINE_EXCEEDED" });
  server.kill("SIGTERM");
  assert.equal((await server.exited).code, 0);
  assert.equal(
    server.events.at(-1)!.message,
    "stopped while the device was still busy with a dispatch",
  );
});

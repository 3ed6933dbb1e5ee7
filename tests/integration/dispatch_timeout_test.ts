/** A device that does not come back: who waits for it is answered, and nobody else is sent there meanwhile. */

import assert from "node:assert/strict";
import type { ServerError } from "../../src/errors.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import { valueAfter, writeLooping } from "../harness/looping_bundle.ts";
import { startServer } from "../harness/server.ts";
import { metric } from "../harness/weighted_bundle.ts";

const TIMEOUT_SECONDS = 1;

async function run({ inference }: TestClient, steps: number): Promise<number> {
  const data = new Uint8Array(new Int32Array([steps]).buffer);
  const { outputs } = await inference.infer({
    modelName: "loop",
    inputs: [{ name: "x", datatype: "INT32", shape: [1, 1], data }],
  });
  const [bytes] = outputs.map((output) => output.data);
  return new DataView(bytes!.buffer, bytes!.byteOffset).getInt32(0, true);
}

/** A step takes 2 to 7 ns: a tenth of the bound or so, and several times the bound. */
const [SOME, MANY] = [2e7, 2 ** 31 - 1] as const;

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

  // Runs that take so little may be tried on the event loop, where nothing can look after them: `InlinePolicy`
  // looks back on eight. After these it has tried, and will not for long.
  for (let i = 0; i < 12; i++) await run(client, SOME);
  const stuck = run(client, MANY);
  const waiting = run(client, 1000);
  // Where this test fails before it is awaited, that failure is the one to be shown.
  waiting.catch(() => {});
  await assert.rejects(stuck, (error: ServerError) => {
    assert.equal(error.status, "DEADLINE_EXCEEDED");
    assert.match(
      error.message,
      /Running model "loop" takes longer than 1 s \(scheduler\.dispatch_timeout_seconds\)/,
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
  const endless = run(client, MANY);
  await assert.rejects(endless, { status: "DEADLINE_EXCEEDED" });
  server.kill("SIGTERM");
  assert.equal((await server.exited).code, 0);
  assert.equal(
    server.events.at(-1)!.message,
    "stopped while the device was still busy with a dispatch",
  );
});

/** A worker whose log nobody reads: it must serve all the same, and end when told to. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { freePort } from "../harness/ports.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Each bad bundle logs a line of some 200 bytes; together they are more than a pipe's 64 KiB. */
const BAD_BUNDLES = 600;
/** A server that does not answer for so long does nothing any more. */
const STUCK_MS = 60_000;

Deno.test("a worker serves although the reader of its log has stopped", async () => {
  const folder = await Deno.makeTempDir();
  await Deno.mkdir(`${folder}/models`);
  for (let index = 0; index < BAD_BUNDLES; index++) {
    await Deno.mkdir(`${folder}/models/bad${index}`);
    await Deno.writeTextFile(`${folder}/models/bad${index}/manifest.yaml`, "");
  }
  const httpPort = freePort();
  const child = new Deno.Command("/bin/sh", {
    args: [
      // Open for reading too, so that opening it does not wait; nobody ever reads.
      ...["-c", 'mkfifo "$0" && exec 3<>"$0" && exec "$@" 2>&3', `${folder}/log`],
      ...[Deno.execPath(), "run", "-A", "--quiet", "--config", `${root}deno.json`],
      ...[`${root}main.ts`, "serve", "--role", "worker", "--model-dir", `${folder}/models`],
      ...["--host", "127.0.0.1", "--port", `${freePort()}`, "--metrics-port", `${httpPort}`],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    let hasEnded = false;
    void child.status.then(() => hasEnded = true);
    while (await metric(httpPort, "worker_bundle_load_failures_total") < BAD_BUNDLES) {
      assert.ok(!hasEnded, "the worker ended");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    child.kill("SIGTERM");
    assert.equal((await child.status).code, 0);
  } finally {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended, as it should.
    }
    await child.status;
    await Deno.remove(folder, { recursive: true });
  }
});

/** The sum over a family's samples; 0 while there is no server. */
async function metric(port: number, name: string): Promise<number> {
  const signal = AbortSignal.timeout(STUCK_MS);
  try {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal });
    const lines = (await response.text()).split("\n").filter((line) => line.startsWith(`${name}{`));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  } catch (error) {
    signal.throwIfAborted();
    assert.ok(error instanceof TypeError);
    return 0;
  }
}

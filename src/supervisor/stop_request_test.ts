import assert from "node:assert/strict";
import { listenForStop } from "./stop_request.ts";

Deno.test("listenForStop() tells the first signal from the second, which no hangup is", async () => {
  let now = 0;
  using stop = listenForStop(() => now += 1_000);
  // Waiting for a signal keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  try {
    Deno.kill(Deno.pid, "SIGTERM");
    assert.equal(await stop.first, "SIGTERM");
    Deno.kill(Deno.pid, "SIGHUP");
    Deno.kill(Deno.pid, "SIGTERM");
    assert.equal(await stop.second, "SIGTERM");
  } finally {
    clearInterval(alive);
  }
});

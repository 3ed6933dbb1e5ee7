import assert from "node:assert/strict";
import { pause } from "./pause.ts";

Deno.test("pause() ends with its time, with its signal, and at once under an aborted one", async () => {
  await pause(0, new AbortController().signal);
  const controller = new AbortController();
  const waiting = pause(2 ** 30, controller.signal);
  controller.abort();
  await waiting;
  await pause(2 ** 30, controller.signal);
  // No timer is left: the sanitizers of this suite would say so.
  assert.ok(controller.signal.aborted);
});

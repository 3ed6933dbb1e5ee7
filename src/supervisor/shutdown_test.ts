import assert from "node:assert/strict";
import type { Child, ChildEnd } from "./child.ts";
import { type RunningChild, stopChildren } from "./shutdown.ts";

/** A child that ends when `endsOn` of its signals comes. */
function fakeChild(name: string, endsOn: "stop" | "kill", signals: string[]): RunningChild {
  const { promise: ended, resolve } = Promise.withResolvers<ChildEnd>();
  let pid: number | undefined = 1;
  const receive = (signal: "stop" | "kill") => {
    signals.push(`${signal} ${name}`);
    if (signal !== endsOn) return;
    pid = undefined;
    resolve({ reason: "stopped" });
  };
  const child = {
    name,
    get pid() {
      return pid;
    },
    stop: () => receive("stop"),
    kill: () => receive("kill"),
  };
  return { child: child as unknown as Child, ended };
}

async function stopAll(
  { gateway = "stop", worker = "stop", seconds = 1e6, hurry = new Promise<never>(() => {}) }: {
    gateway?: "stop" | "kill";
    worker?: "stop" | "kill";
    seconds?: number;
    hurry?: Promise<unknown>;
  },
) {
  const signals: string[] = [];
  const warnings: string[] = [];
  const isClean = await stopChildren({
    workers: ["a", "b"].map((name) => fakeChild(name, name === "a" ? "stop" : worker, signals)),
    gateway: fakeChild("gateway", gateway, signals),
    seconds,
    hurry,
    log: { info: () => {}, warn: (line) => void warnings.push(line), error: () => {} },
  });
  return { isClean, signals, warnings };
}

Deno.test("stopChildren() lets the gateway leave before its workers", async () => {
  assert.deepEqual(await stopAll({}), {
    isClean: true,
    signals: ["stop gateway", "stop a", "stop b"],
    warnings: [],
  });
});

Deno.test("stopChildren() kills whoever is left when the common time is over", async () => {
  const { isClean, signals, warnings } = await stopAll({
    gateway: "kill",
    worker: "kill",
    seconds: 0.01,
  });
  assert.equal(isClean, false);
  assert.deepEqual(signals, ["stop gateway", "stop a", "stop b", "kill b", "kill gateway"]);
  assert.deepEqual(warnings, [
    "b did not leave within 0.01s: SIGKILL",
    "gateway did not leave within 0.01s: SIGKILL",
  ]);
});

Deno.test("stopChildren() waits for nobody once there is a hurry", async () => {
  const { signals, warnings } = await stopAll({
    gateway: "kill",
    worker: "kill",
    hurry: Promise.resolve(),
  });
  assert.deepEqual(signals.slice(-2), ["kill b", "kill gateway"]);
  assert.match(warnings[0]!, /b is killed at once/);
});

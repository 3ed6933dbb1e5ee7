import assert from "node:assert/strict";
import { onStopSignals } from "./stop_signals.ts";

const MODULE = new URL("stop_signals.ts", import.meta.url).href;

Deno.test("onStopSignals() takes a signal that comes by two ways at once for one", async () => {
  let now = 0;
  let heard = 0;
  using _listeners = onStopSignals(() => heard++, () => now);
  // A listener of its own, behind ours, tells that ours has been called.
  let delivered = () => {};
  const behind = () => delivered();
  Deno.addSignalListener("SIGTERM", behind);
  // Waiting for a signal keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  const send = async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    delivered = resolve;
    Deno.kill(Deno.pid, "SIGTERM");
    await promise;
  };
  try {
    await send();
    assert.equal(heard, 1);
    now += 50;
    await send();
    assert.equal(heard, 1);
    now += 1_000;
    await send();
    assert.equal(heard, 2);
  } finally {
    clearInterval(alive);
    Deno.removeSignalListener("SIGTERM", behind);
  }
});

/** Starts a program that waits for stop signals, by a shell command around it; returns it when it does. */
async function startWaiting(isSupervised: boolean, prefix: string): Promise<Deno.ChildProcess> {
  const program = `
    import { ignoreStraySignals, nextStopSignal } from ${JSON.stringify(MODULE)};
    const alive = setInterval(() => {}, 1000);
    const stop = nextStopSignal({ isSupervised: ${isSupervised} });
    ignoreStraySignals((message) => console.error(message));
    console.error("waiting");
    console.error(await stop.signal);
    clearInterval(alive);`;
  const file = Deno.makeTempFileSync({ suffix: ".ts" });
  Deno.writeTextFileSync(file, program);
  const command = `${prefix} "$0" run -A --no-config --no-check --quiet "$1" </dev/null`;
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", command, Deno.execPath(), file],
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = child.stderr.getReader();
  let text = "";
  while (!text.includes("waiting")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(text);
    text += new TextDecoder().decode(value);
  }
  reader.releaseLock();
  Deno.removeSync(file);
  return child;
}

/** What is printed between now and the end, and the exit status. */
async function endOf(child: Deno.ChildProcess): Promise<[string, number]> {
  const { stderr, code } = await child.output();
  return [new TextDecoder().decode(stderr).trim(), code];
}

Deno.test("a hangup stops a process, and one that nohup started goes on", async () => {
  const plain = await startWaiting(false, "exec");
  plain.kill("SIGHUP");
  assert.deepEqual(await endOf(plain), ["SIGHUP", 0]);
  const persistent = await startWaiting(false, "exec nohup");
  persistent.kill("SIGHUP");
  persistent.kill("SIGTERM");
  assert.deepEqual(await endOf(persistent), ["SIGTERM", 0]);
});

Deno.test("a supervised process hears nothing but the first SIGTERM", async () => {
  const child = await startWaiting(true, "exec");
  child.kill("SIGHUP");
  child.kill("SIGINT");
  child.kill("SIGTERM");
  assert.deepEqual(await endOf(child), ["SIGTERM", 0]);
});

Deno.test("signals that mean something to other servers only end nothing here", async () => {
  const child = await startWaiting(false, "exec");
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) {
    child.kill(signal);
    const reader = child.stderr.getReader();
    const line = new TextDecoder().decode((await reader.read()).value);
    reader.releaseLock();
    assert.match(line, new RegExp(`^${signal} means nothing here and is ignored`));
  }
  child.kill("SIGTERM");
  assert.deepEqual(await endOf(child), ["SIGTERM", 0]);
});

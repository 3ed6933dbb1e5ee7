import assert from "node:assert/strict";
import { Child, type ChildOptions, type RunningProcess } from "./child.ts";
import { LogSink } from "./log_sink.ts";

interface FakeProcess extends RunningProcess {
  readonly signals: Deno.Signal[];
  end(code: number, signal?: string): void;
}

/** A world in which processes are started by hand and time passes only in sleeps. */
class World {
  nowMs = 0;
  nextPid = 1;
  readonly lines: string[] = [];
  readonly output: string[] = [];
  readonly slept: number[] = [];
  readonly started: FakeProcess[] = [];
  /** Called for every start; throws to make it fail. */
  onStart: (process: FakeProcess, index: number) => void = () => {};

  child(options: Partial<ChildOptions> = {}): Child {
    const say = (message: string) => void this.lines.push(message);
    return new Child({
      name: "worker0",
      maxRestarts: 0,
      spawn: () => this.#spawn(),
      sink: new LogSink({
        write: (block) => {
          this.output.push(new TextDecoder().decode(block));
          return Promise.resolve(block.length);
        },
      }),
      log: { info: say, warn: say, error: say },
      now: () => this.nowMs,
      sleep: (ms, signal) => {
        this.slept.push(ms / 1000);
        this.nowMs += ms;
        return signal.aborted ? Promise.resolve() : Promise.resolve();
      },
      ...options,
    });
  }

  #spawn(): FakeProcess {
    const { promise: status, resolve } = Promise.withResolvers<
      { code: number; signal: string | null }
    >();
    const index = this.started.length;
    const signals: Deno.Signal[] = [];
    const process: FakeProcess = {
      pid: this.nextPid++,
      stdout: ReadableStream.from([new TextEncoder().encode(`run ${index}\n`)]),
      stderr: ReadableStream.from([]),
      status,
      signals,
      kill: (signal) => void signals.push(signal),
      end: (code, signal) => resolve({ code, signal: signal ?? null }),
    };
    this.onStart(process, index);
    this.started.push(process);
    return process;
  }
}

Deno.test("Child restarts whatever ends, a clean exit too, with growing waits", async () => {
  const world = new World();
  const child = world.child({ maxRestarts: 3 });
  world.onStart = (process, index) => {
    world.nowMs += 1500;
    process.end(index === 1 ? 0 : 139, index === 1 ? undefined : "SIGSEGV");
  };
  assert.deepEqual(await child.run(), { reason: "budget spent" });
  assert.deepEqual(world.slept, [1, 2, 4]);
  assert.equal(world.started.length, 4);
  assert.deepEqual(world.lines.slice(0, 6), [
    "started worker0 (pid 1)",
    "worker0 exited (code=139, signal=SIGSEGV, uptime=1.5s)",
    "restarting worker0 in 1.0s",
    "started worker0 (pid 2)",
    "worker0 exited (code=0, signal=none, uptime=1.5s)",
    "restarting worker0 in 2.0s",
  ]);
  assert.equal(
    world.lines.at(-1),
    "worker0 failed 4 consecutive times (max 3); node shutting down",
  );
  assert.equal(
    world.output.join(""),
    "[worker0] run 0\n[worker0] run 1\n[worker0] run 2\n[worker0] run 3\n",
  );
});

Deno.test("Child says what is known of an end that it could not explain itself", async () => {
  const world = new World();
  const ends: unknown[] = [];
  const child = world.child({
    maxRestarts: 1,
    explainEnd: ({ code, signal }) => {
      ends.push([code, signal]);
      return signal === "SIGKILL" ? "no memory" : undefined;
    },
  });
  world.onStart = (process, index) => {
    if (index === 0) process.end(137, "SIGKILL");
    else process.end(1);
  };
  await child.run();
  assert.deepEqual(ends, [[137, "SIGKILL"], [1, null]]);
  assert.deepEqual(world.lines.slice(1, 6), [
    "worker0 exited (code=137, signal=SIGKILL, uptime=0.0s)",
    "no memory",
    "restarting worker0 in 1.0s",
    "started worker0 (pid 2)",
    "worker0 exited (code=1, signal=none, uptime=0.0s)",
  ]);
});

Deno.test("Child counts starts that fail, and waits for them too", async () => {
  const world = new World();
  const child = world.child({ maxRestarts: 2 });
  world.onStart = () => {
    throw new Error("no such program");
  };
  assert.deepEqual(await child.run(), { reason: "budget spent" });
  assert.deepEqual(world.slept, [1, 2]);
  assert.equal(world.lines[0], "cannot start worker0: no such program");
  assert.ok(!world.lines.some((line) => line.startsWith("restarting")));
});

Deno.test("Child counts a run until its process ends, however long its last lines take", async () => {
  const world = new World();
  const child = world.child({ maxRestarts: 1, onEnded: () => world.nowMs += 100_000 });
  world.onStart = (process) => process.end(1);
  assert.deepEqual(await child.run(), { reason: "budget spent" });
  assert.ok(world.lines.every((line) => !/uptime=(?!0\.0s)/.test(line)), world.lines.join("; "));
});

Deno.test("Child does not restart what was told wrong, unless it has worked before", async () => {
  const world = new World();
  const child = world.child();
  world.onStart = (process) => process.end(2);
  assert.deepEqual(await child.run(), { reason: "configuration", message: "run 0" });

  const later = new World();
  const states: string[] = [];
  const listened: Child = later.child({ maxRestarts: 1, onState: (state) => states.push(state) });
  later.onStart = (process) => {
    queueMicrotask(() => {
      listened.report({ name: "worker0", pid: process.pid, state: "ready" });
      listened.report({ name: "worker0", pid: 999, state: "unready" });
      process.end(2);
    });
  };
  assert.deepEqual(await listened.run(), { reason: "budget spent" });
  assert.deepEqual(states, ["starting", "ready", "down", "starting", "ready", "down"]);
});

Deno.test("Child stops without a further start, and says nothing of the exit it was asked for", async () => {
  const world = new World();
  const child = world.child();
  world.onStart = (process) => {
    queueMicrotask(() => {
      child.report({ name: "worker0", pid: process.pid, state: "ready" });
      child.stop();
      assert.deepEqual(process.signals, ["SIGTERM"]);
      child.kill();
      assert.deepEqual(process.signals, ["SIGTERM", "SIGKILL"]);
      process.end(137, "SIGKILL");
    });
  };
  assert.deepEqual(await child.run(), { reason: "stopped" });
  assert.deepEqual(world.lines, ["started worker0 (pid 1)", "worker0 is ready (after 0.0s)"]);
  assert.deepEqual([child.state, child.pid], ["down", undefined]);
});

Deno.test("Child that is stopped while it waits is not started again", async () => {
  const world = new World();
  const child: Child = world.child({
    sleep: () => {
      child.stop();
      return Promise.resolve();
    },
  });
  world.onStart = (process) => process.end(1);
  assert.deepEqual(await child.run(), { reason: "stopped" });
  assert.equal(world.started.length, 1);
});

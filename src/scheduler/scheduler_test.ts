import assert from "node:assert/strict";
import { ServerError } from "../errors.ts";
import type { DispatchRecord } from "./batch_run.ts";
import { edf } from "./disciplines/edf.ts";
import { fair } from "./disciplines/fair.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Device, scheduler, settle, statusOf, work } from "./testing.ts";

Deno.test("submit() does not count as compute what a dispatch waited for before it began", async () => {
  const device = new Device();
  const records: DispatchRecord[] = [];
  const subject = scheduler(device, { onDispatch: (record) => records.push(record) });
  const model = device.model("m", { costMs: 3 });
  const slow = {
    ...model,
    run: async (dispatch: Parameters<ScheduledModel["run"]>[0]) => {
      device.nowMs += 500; // its weights had left, and come back
      dispatch.onWait?.(0.5);
      return await model.run(dispatch);
    },
  };
  subject.admit(slow);
  await subject.submit(slow, work([1]));
  assert.deepEqual(records.map(({ computeSeconds }) => Math.round(computeSeconds * 1000)), [3]);
});

Deno.test("a dispatch that fails costs its model what it took of the device, and teaches nothing", async () => {
  const device = new Device();
  const subject = scheduler(device);
  const model = device.model("m", { costMs: 8, sizes: () => [4] });
  subject.admit(model);
  const outcomes = await Promise.all(
    [work([1]), work([255]), work([3])].map((each) => statusOf(subject.submit(model, each))),
  );
  await settle();
  assert.deepEqual(outcomes, ["OK", "INTERNAL", "OK"]);
  // All of them together, then one by one: four times 8 ms, of which two answered a request.
  assert.ok(Math.abs(subject.recentCompute("m") - 0.032) < 1e-4);
  const { dispatches, computeSeconds } = subject.queueOf("m")!.counters;
  assert.deepEqual([dispatches, Math.round(1000 * computeSeconds)], [2, 16]);
});

Deno.test("a dispatch that waits for weights in vain costs its model nothing", async () => {
  const device = new Device();
  const subject = scheduler(device);
  const model = device.model("m", {
    run: ({ onWait }) => {
      device.nowMs += 700;
      onWait?.(0.7);
      return Promise.reject(new ServerError("RESOURCE_EXHAUSTED", "no room"));
    },
  });
  subject.admit(model);
  assert.equal(await statusOf(subject.submit(model, work([1]))), "RESOURCE_EXHAUSTED");
  await settle();
  assert.equal(subject.recentCompute("m"), 0);
});

Deno.test("recentCompute() says what a model took of late, halved every half-life", async () => {
  const device = new Device();
  const subject = scheduler(device);
  const model = device.model("m", { costMs: 8 });
  subject.admit(model);
  await subject.submit(model, work([1]));
  await settle();
  assert.equal(subject.recentCompute("m"), 0.008);
  device.nowMs += 2 * 30_000;
  assert.ok(Math.abs(subject.recentCompute("m") - 0.002) < 1e-12);
  assert.equal(subject.recentCompute("other"), 0);
});

Deno.test("submit() gives every request of a shared dispatch its own rows", async () => {
  const device = new Device();
  const records: DispatchRecord[] = [];
  const subject = scheduler(device, { onDispatch: (record) => records.push(record) });
  subject.admit(device.model("m"));
  device.isOpen = false;
  const first = subject.submit(device.named("m"), work([1]));
  await settle();
  const others = [
    subject.submit(device.named("m"), work([2, 3])),
    subject.submit(device.named("m"), work([4])),
  ];
  device.isOpen = true;
  device.release();
  const outputs = await Promise.all([first, ...others]);
  assert.deepEqual(outputs.map((list) => [...list[0]!.data]), [[2], [4, 6], [8]]);
  assert.deepEqual(device.started.map(({ size, values }) => [size, values]), [
    [1, [1]],
    [4, [2, 3, 4, 0]],
  ]);
  assert.deepEqual(records.map(({ size, rows }) => [size, rows]), [[1, 1], [4, 3]]);
  assert.deepEqual(subject.queueOf("m")!.counters.sizes, new Map([[1, 1], [4, 1]]));
});

Deno.test("requests that come in one turn of the event loop share their first dispatch", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  await Promise.all([1, 2, 3, 4].map((value) => subject.submit(device.named("m"), work([value]))));
  assert.deepEqual(device.started.map(({ size }) => size), [4]);
});

Deno.test("submit() retries a failed batch one by one, so that only the bad request fails", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  const head = subject.submit(device.named("m"), work([1]));
  await settle();
  const good = subject.submit(device.named("m"), work([2]));
  const bad = subject.submit(device.named("m"), work([255]));
  device.isOpen = true;
  device.release();
  assert.equal(await statusOf(bad), "INTERNAL");
  assert.deepEqual([...(await good)[0]!.data], [4]);
  await head;
});

Deno.test("submit() refuses beyond the queue limit, unknown models and after shutdown", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  const running = subject.submit(device.named("m"), work([1]));
  await settle();
  const queued = [1, 2, 3, 4].map((value) => subject.submit(device.named("m"), work([value])));
  assert.equal(await statusOf(subject.submit(device.named("m"), work([9]))), "RESOURCE_EXHAUSTED");
  assert.equal(await statusOf(subject.submit(device.named("nobody"), work([9]))), "NOT_FOUND");
  const stopped = subject.shutdown(60_000);
  assert.equal(await statusOf(subject.submit(device.named("m"), work([9]))), "UNAVAILABLE");
  device.isOpen = true;
  device.release();
  await Promise.all([running, ...queued, stopped]);
});

Deno.test("submit() drops what was cancelled or is late before it reaches the device", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  let isGone = false;
  const running = subject.submit(device.named("m"), work([1]));
  await settle();
  const late = subject.submit(device.named("m"), work([2], { deadlineMs: 5 }));
  const cancelled = subject.submit(device.named("m"), work([3], { isAborted: () => isGone }));
  const kept = subject.submit(device.named("m"), work([4], { deadlineMs: 100 }));
  isGone = true;
  device.nowMs = 10;
  device.isOpen = true;
  device.release();
  assert.equal(await statusOf(late), "DEADLINE_EXCEEDED");
  assert.equal(await statusOf(cancelled), "CANCELLED");
  await Promise.all([running, kept]);
  assert.deepEqual(device.started.map(({ values }) => values), [[1], [4]]);
});

Deno.test("edf sheds what cannot finish in its learned time", async () => {
  const device = new Device();
  const subject = scheduler(device, { discipline: edf, shedsByCost: true });
  subject.admit(device.model("m"));
  subject.seedCost("m", "", 1, 0.05);
  subject.seedCost("m", "", 4, 0.05);
  assert.equal(
    await statusOf(subject.submit(device.named("m"), work([1], { deadlineMs: 40 }))),
    "DEADLINE_EXCEEDED",
  );
  assert.equal(
    await statusOf(subject.submit(device.named("m"), work([1], { deadlineMs: 60 }))),
    "OK",
  );
  assert.equal(device.started.length, 1);
});

Deno.test("fair shares device time by weight between two saturated models", async () => {
  const device = new Device();
  const subject = scheduler(device, { discipline: fair });
  const used = new Map([["light", 0], ["heavy", 0]]);
  for (const [name, weight, costMs] of [["light", 1, 3], ["heavy", 2, 7]] as const) {
    subject.admit(device.model(name, { weight, costMs, sizes: () => [1], isCoalescable: false }));
  }
  // Each client sends again as soon as it is answered, so that both queues are never empty.
  const client = async (name: string) => {
    while (device.nowMs < 60_000) {
      const before = device.nowMs;
      await subject.submit(device.named(name), work([1]));
      if (device.nowMs === before) break;
    }
  };
  await Promise.all(["light", "light", "heavy", "heavy"].map(client));
  for (const name of used.keys()) used.set(name, subject.queueOf(name)!.counters.computeSeconds);
  const ratio = used.get("heavy")! / used.get("light")!;
  assert.ok(Math.abs(ratio / 2 - 1) < 0.05, `device time ratio ${ratio}`);
});

Deno.test("what is abandoned or late after its batch failed is not run again by itself", async () => {
  const device = new Device();
  const subject = scheduler(device);
  const model = device.model("m", { costMs: 10 });
  subject.admit(model);
  const statuses = [
    statusOf(subject.submit(model, work([255]))),
    statusOf(subject.submit(model, work([1], { isAborted: () => device.started.length > 0 }))),
    statusOf(subject.submit(model, work([2], { deadlineMs: 15 }))),
    statusOf(subject.submit(model, work([3]))),
  ];
  assert.deepEqual(await Promise.all(statuses), [
    "INTERNAL",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "OK",
  ]);
  assert.deepEqual(device.started.map(({ values }) => values), [[255, 1, 2, 3], [255], [3]]);
});

Deno.test("remove() fails queued requests with NOT_FOUND and leaves other models alone", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("a"));
  subject.admit(device.model("b"));
  device.isOpen = false;
  const running = subject.submit(device.named("a"), work([1]));
  await settle();
  const queuedA = subject.submit(device.named("a"), work([2]));
  const queuedB = subject.submit(device.named("b"), work([3]));
  subject.remove("a");
  device.isOpen = true;
  device.release();
  assert.equal(await statusOf(queuedA), "NOT_FOUND");
  assert.equal(await statusOf(running), "OK");
  assert.deepEqual([...(await queuedB)[0]!.data], [6]);
});

Deno.test("shutdown() fails what is still queued when its grace is over", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  const running = subject.submit(device.named("m"), work([1]));
  await settle();
  const queued = subject.submit(device.named("m"), work([2]));
  const stopped = subject.shutdown(0);
  assert.equal(await statusOf(queued), "UNAVAILABLE");
  device.release();
  await Promise.all([running, stopped, settle()]);
  assert.equal(device.started.length, 1);
});

Deno.test("committed work goes before the discipline, in its own order, and past the queue limit", async () => {
  const device = new Device();
  const subject = scheduler(device);
  for (const name of ["a", "b"]) {
    subject.admit(device.model(name, { sizes: () => [1], isCoalescable: false }));
  }
  device.isOpen = false;
  const all = [subject.submit(device.named("a"), work([1]))];
  await settle();
  for (const value of [2, 3, 4, 5]) all.push(subject.submit(device.named("a"), work([value])));
  for (const value of [10, 11]) {
    all.push(subject.submit(device.named("a"), work([value], { isCommitted: true })));
  }
  all.push(subject.submit(device.named("b"), work([12], { isCommitted: true })));
  device.isOpen = true;
  device.release();
  await Promise.all(all);
  assert.deepEqual(device.started.map(({ values }) => values[0]), [1, 10, 11, 12, 2, 3, 4, 5]);
});

Deno.test("edf gives committed work its plain deadline, without the margin of its cost", async () => {
  const device = new Device();
  const subject = scheduler(device, { discipline: edf, shedsByCost: true });
  subject.admit(device.model("m"));
  subject.seedCost("m", "", 1, 0.05);
  const soon = { deadlineMs: 40 };
  assert.equal(
    await statusOf(subject.submit(device.named("m"), work([1], soon))),
    "DEADLINE_EXCEEDED",
  );
  assert.equal(
    await statusOf(subject.submit(device.named("m"), work([1], { ...soon, isCommitted: true }))),
    "OK",
  );
});

Deno.test("runExclusive() runs between dispatches, ahead of requests that wait, and contains failures", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  const running = subject.submit(device.named("m"), work([1]));
  await settle();
  const waiting = subject.submit(device.named("m"), work([2]));
  const seen: number[] = [];
  const failing = subject.runExclusive(() => Promise.reject(new Error("no memory")));
  const exclusive = subject.runExclusive(async () => {
    await settle();
    seen.push(device.started.length);
    return "done";
  });
  device.isOpen = true;
  device.release();
  await assert.rejects(failing, /no memory/);
  assert.equal(await exclusive, "done");
  await Promise.all([running, waiting]);
  assert.deepEqual(seen, [1]);
  assert.equal(await subject.runExclusive(() => Promise.resolve(7)), 7);
});

Deno.test("queued work runs on the version it was prepared for, and no dispatch mixes two", async () => {
  const device = new Device();
  const subject = scheduler(device);
  const before = device.model("m", { sizes: () => [1, 2] });
  subject.admit(before);
  device.isOpen = false;
  const old = [subject.submit(before, work([1]))];
  await settle();
  for (const value of [2, 3]) old.push(subject.submit(before, work([value])));
  const after = device.model("m", {
    sizes: () => [1, 4],
    run: ({ size, inputs }) => {
      device.started.push({ model: "new", size, values: [...inputs[0]!.data] });
      const stages = { input: 0, execute: 0, output: 0 };
      const data = inputs[0]!.data.map((value) => value + 100);
      return Promise.resolve({ outputs: [{ ...inputs[0]!, name: "y", data }], stages });
    },
  });
  subject.admit(after);
  // A request that was being prepared on the old version when the new one came.
  const late = [subject.submit(after, work([4])), subject.submit(before, work([5]))];
  device.isOpen = true;
  device.release();
  const values = await Promise.all([...old, ...late].map(async (one) => (await one)[0]!.data[0]));
  assert.deepEqual(values, [2, 4, 6, 104, 10]);
  assert.deepEqual(device.started.map(({ model, size }) => [model, size]), [
    ["m", 1],
    ["m", 2],
    ["new", 1],
    ["m", 1],
  ]);
  assert.equal(subject.queueOf("m")!.counters.requests, 5);
});

Deno.test("admit() keeps the weight that was set on a model that is replaced", () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  subject.queueOf("m")!.weight = 7;
  subject.admit(device.model("m", { weight: 2 }));
  assert.equal(subject.queueOf("m")!.weight, 7);
});

Deno.test("rename() lets two models change places and loses no request", async () => {
  const device = new Device();
  const names: string[] = [];
  const subject = scheduler(device, { onDispatch: ({ model }) => names.push(model) });
  const [a, b, c] = ["a", "b", "c"].map((name) => device.model(name));
  for (const model of [a!, b!, c!]) subject.admit(model);
  device.isOpen = false;
  const running = subject.submit(c!, work([9]));
  await settle();
  const waiting = [subject.submit(a!, work([1])), subject.submit(b!, work([2]))];
  const overtaken = subject.submit(c!, work([3]));
  subject.rename([
    { from: "a", model: { ...a!, name: "b", weight: 5 } },
    { from: "b", model: { ...b!, name: "c", weight: 6 } },
  ]);
  assert.equal(subject.queueOf("a"), undefined);
  assert.deepEqual(["b", "c"].map((name) => subject.queueOf(name)!.weight), [5, 6]);
  assert.equal(subject.queueOf("c")!.depth, 2);
  device.isOpen = true;
  device.release();
  const all = await Promise.all([running, ...waiting, overtaken]);
  assert.deepEqual(all.map(([output]) => output!.data[0]), [18, 2, 4, 6]);
  assert.deepEqual(names, ["c", "b", "c", "c"]);
  assert.equal(await statusOf(subject.submit(a!, work([1]))), "NOT_FOUND");
});

Deno.test("Scheduler passes over a model that cannot run yet, and runs its work together later", async () => {
  const device = new Device();
  const ready = { isReady: false, asked: 0 };
  const cold = device.model("cold", {
    sizes: () => [2],
    isRunnable: () => {
      ready.asked++;
      return ready.isReady;
    },
  });
  const warm = device.model("warm");
  const subject = scheduler(device);
  subject.admit(cold);
  subject.admit(warm);
  const waiting = [subject.submit(cold, work([1])), subject.submit(cold, work([2]))];
  await subject.submit(warm, work([3]));
  assert.ok(ready.asked > 0);
  assert.deepEqual(device.started.map(({ model }) => model), ["warm"]);
  assert.equal(subject.queueOf("cold")!.depth, 2);
  await subject.submit(warm, work([4]));
  ready.isReady = true;
  subject.wake();
  await Promise.all(waiting);
  assert.deepEqual(device.started.at(-1), { model: "cold", size: 2, values: [1, 2] });
});

Deno.test("Scheduler.reject() fails what waits for one version of a model, and nothing else", async () => {
  const device = new Device();
  const [before, after] = [
    device.model("m", { isRunnable: () => false }),
    device.model("m", { isRunnable: () => false }),
  ];
  const subject = scheduler(device);
  subject.admit(before);
  const [old, young] = [subject.submit(before, work([1])), subject.submit(after, work([2]))];
  await Promise.resolve();
  subject.reject(before, new ServerError("RESOURCE_EXHAUSTED", "too large"));
  assert.equal(await statusOf(old), "RESOURCE_EXHAUSTED");
  assert.equal(subject.queueOf("m")!.depth, 1);
  subject.remove("m");
  assert.equal(await statusOf(young), "NOT_FOUND");
  await subject.shutdown(0);
});

Deno.test("Scheduler lets late and abandoned requests go while nothing can run", async () => {
  const device = new Device();
  const cold = device.model("cold", { isRunnable: () => false });
  const subject = scheduler(device);
  subject.admit(cold);
  const caller = { isGone: false };
  const late = subject.submit(cold, work([1], { deadlineMs: device.nowMs + 30 }));
  const left = subject.submit(cold, work([2], { isAborted: () => caller.isGone }));
  const patient = subject.submit(cold, work([3]));
  await Promise.resolve();
  // Nothing tells the scheduler that time has passed, or that a caller has gone.
  device.nowMs += 30;
  assert.equal(await statusOf(late), "DEADLINE_EXCEEDED");
  caller.isGone = true;
  assert.equal(await statusOf(left), "CANCELLED");
  assert.equal(subject.queueOf("cold")!.depth, 1);
  await Promise.all([subject.shutdown(0), statusOf(patient)]);
});

Deno.test("Scheduler.shutdown() does not wait for ever for a model that cannot run", async () => {
  const device = new Device();
  const cold = device.model("cold", { isRunnable: () => false });
  const subject = scheduler(device);
  subject.admit(cold);
  const waiting = subject.submit(cold, work([1]));
  await Promise.resolve();
  const stopped = subject.shutdown(0);
  assert.equal(await statusOf(waiting), "UNAVAILABLE");
  await stopped;
});

Deno.test("Scheduler.runExclusive() runs while work waits for a model that cannot", async () => {
  const device = new Device();
  const ready = { isReady: false };
  const cold = device.model("cold", { isRunnable: () => ready.isReady });
  const subject = scheduler(device);
  subject.admit(cold);
  const waiting = subject.submit(cold, work([1]));
  await Promise.resolve();
  await subject.runExclusive(() => Promise.resolve());
  ready.isReady = true;
  subject.wake();
  await waiting;
});

Deno.test("Scheduler.shutdown() resolves for everyone who asks for it", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  device.isOpen = false;
  const running = subject.submit(device.named("m"), work([1]));
  await settle();
  const both = [subject.shutdown(60_000), subject.shutdown(60_000)];
  device.isOpen = true;
  device.release();
  await Promise.all([running, ...both]);
});

Deno.test("Scheduler.runExclusive() contains work that fails before its first wait", async () => {
  const device = new Device();
  const subject = scheduler(device);
  subject.admit(device.model("m"));
  const failed = subject.runExclusive(() => {
    throw new ServerError("INTERNAL", "at once");
  });
  assert.equal(await statusOf(failed), "INTERNAL");
  const [output] = await subject.submit(device.named("m"), work([3]));
  assert.deepEqual([...output!.data], [6]);
});

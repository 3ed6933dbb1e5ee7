import assert from "node:assert/strict";
import { fifo } from "./disciplines/fifo.ts";
import { Scheduler } from "./scheduler.ts";
import { Device, scheduler, settle, work } from "./testing.ts";

Deno.test("a batch with room waits for others, from when its oldest request came, and no longer", async () => {
  const device = new Device();
  const subject = scheduler(device, { batchWaitMs: 10 });
  const [model, other] = [
    device.model("m", { sizes: () => [4] }),
    device.model("other", { sizes: () => [1] }),
  ];
  subject.admit(model);
  subject.admit(other);
  const at = async (nowMs: number) => {
    device.nowMs = nowMs;
    subject.wake();
    await settle();
  };
  const answers = [subject.submit(model, work([1]))];
  await at(6);
  answers.push(subject.submit(model, work([2])));
  await at(9.9);
  assert.equal(device.started.length, 0);
  // Whatever else there is to run goes first meanwhile, a batch that is full among it.
  await subject.submit(other, work([7]));
  assert.deepEqual(device.started.map(({ model, values }) => [model, values]), [["other", [7]]]);
  await Promise.all(answers);
  assert.deepEqual(device.started[1]!.values, [1, 2, 0, 0]);
  device.nowMs = 100;
  await Promise.all([3, 4, 5, 6].map((value) => subject.submit(model, work([value]))));
  assert.deepEqual(device.started[2]!.values, [3, 4, 5, 6]);
  assert.equal(device.nowMs, 101);
});

Deno.test("nobody waits for a batch who has no time for it, comes from a meta, or blocks another batch", async () => {
  const device = new Device();
  const subject = scheduler(device, { batchWaitMs: 10 });
  const model = device.model("m");
  subject.admit(model);
  subject.admit(device.model("alone", { isCoalescable: false }));
  await subject.submit(model, work([1], { deadlineMs: 20 }));
  await subject.submit(model, work([2], { isCommitted: true }));
  await subject.submit(device.named("alone"), work([3]));
  const blocked = [
    subject.submit(model, work([4])),
    subject.submit(model, work([5], { variantKey: "v" })),
  ];
  await blocked[0];
  assert.equal(device.nowMs, 4);
  device.nowMs += 10;
  subject.wake();
  await blocked[1];
  assert.deepEqual(device.started.map(({ values }) => values), [[1], [2], [3], [4], [5]]);
  const last = subject.submit(model, work([6]));
  await settle();
  assert.equal(device.started.length, 5);
  const stopped = subject.shutdown(1000);
  await last;
  await stopped;
});

Deno.test("a wait for others ends by itself", async () => {
  const device = new Device();
  const subject = new Scheduler({
    discipline: fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 4,
    batchWaitMs: () => 5,
  });
  const model = device.model("m", { sizes: () => [4] });
  subject.admit(model);
  const startMs = performance.now();
  await Promise.all([subject.submit(model, work([1])), subject.submit(model, work([2]))]);
  assert.ok(performance.now() - startMs >= 5);
  assert.deepEqual(device.started.map(({ values }) => values), [[1, 2, 0, 0]]);
});

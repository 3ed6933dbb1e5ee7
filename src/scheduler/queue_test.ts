import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { planBatch } from "./batch_plan.ts";
import { DecayClock } from "./decay_clock.ts";
import { ModelQueue, type QueuedWork } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";

const model: ScheduledModel = {
  name: "m",
  isCoalescable: true,
  maxRows: undefined,
  weight: 1,
  sizes: () => [1],
  inputBatchAxes: [],
  outputBatchAxes: [],
  run: () => Promise.reject(new Error("nothing runs here")),
};

function work(order: number, isCommitted = false): QueuedWork {
  return {
    model,
    inputs: [],
    rows: 1,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => false,
    isCommitted,
    order,
    enqueuedMs: 0,
    resolve: () => {},
    reject: () => {},
  };
}

function queueOf(orders: number[]): ModelQueue {
  const queue = new ModelQueue({ name: "m", maxDepth: 1000, weight: 1 });
  for (const order of orders) queue.push(work(order));
  return queue;
}

const orders = (queue: Iterable<QueuedWork>) => [...queue].map(({ order }) => order);

Deno.test("take() keeps order through many rounds of pushing and taking", () => {
  const queue = queueOf([]);
  const taken: number[] = [];
  for (let round = 0, next = 0; round < 200; round++) {
    for (let i = 0; i < 3; i++) queue.push(work(next++));
    taken.push(...orders(queue.take(2)));
  }
  assert.deepEqual(taken, Array.from({ length: 400 }, (_, index) => index));
  assert.equal(queue.depth, 200);
  assert.equal(queue.front!.order, 400);
});

Deno.test("dropDead() takes the dead out of the prefix only and keeps the order of the rest", () => {
  const queue = queueOf([0, 1, 2, 3, 4, 5, 6, 7]);
  queue.take(1);
  const dropped = queue.dropDead(4, ({ order }) => order % 2 === 0);
  assert.deepEqual(orders(dropped), [2, 4]);
  assert.deepEqual(orders(queue), [1, 3, 5, 6, 7]);
  assert.deepEqual(orders(queue.dropDead(99, () => true)), [1, 3, 5, 6, 7]);
  assert.equal(queue.front, undefined);
});

Deno.test("push() puts committed work first, in its own order, and counts it down", () => {
  const queue = queueOf([0, 1]);
  queue.push(work(10, true));
  queue.push(work(11, true));
  assert.deepEqual(orders(queue), [10, 11, 0, 1]);
  queue.dropDead(1, () => true);
  assert.equal(queue.hasCommitted, true);
  queue.take(1);
  assert.equal(queue.hasCommitted, false);
  queue.push(work(12, true));
  assert.deepEqual(orders(queue), [12, 0, 1]);
});

Deno.test("by deadline, push() and absorb() put the more urgent first, and the older of the equally urgent", () => {
  const of = (waiting: [order: number, deadlineMs?: number, isCommitted?: boolean][]) => {
    const queue = new ModelQueue({ name: "m", maxDepth: 1000, weight: 1, byDeadline: true });
    for (const [order, deadlineMs, isCommitted = false] of waiting) {
      queue.push({ ...work(order, isCommitted), deadlineMs });
    }
    return queue;
  };
  const queue = of([[0, 50], [1], [3, 20], [5, 50], [6], [8, 900, true], [9, 10], [10, 5, true]]);
  assert.deepEqual(orders(queue), [8, 10, 9, 3, 0, 5, 1, 6]);
  assert.equal(queue.earliestDeadline, 5);
  queue.absorb(of([[2, 50], [4], [7, 30, true]]));
  assert.deepEqual(orders(queue), [7, 8, 10, 9, 3, 0, 2, 5, 1, 4, 6]);
  queue.take(3);
  queue.push({ ...work(11), deadlineMs: 1 });
  assert.deepEqual(orders(queue), [11, 9, 3, 0, 2, 5, 1, 4, 6]);
});

Deno.test("absorb() puts every request where it would stand had it come here", () => {
  const [queue, other] = [queueOf([1, 4]), queueOf([0, 2, 5])];
  other.take(1);
  queue.push(work(3, true));
  other.push(work(6, true));
  queue.absorb(other);
  assert.deepEqual(orders(queue), [3, 6, 1, 2, 4, 5]);
  assert.equal(other.depth, 0);
  queue.take(2);
  assert.equal(queue.hasCommitted, false);
});

Deno.test("learnCost() keeps the first measurement and blends later ones", () => {
  const queue = queueOf([]);
  queue.learnCost("", 4, 1, 0.2);
  queue.learnCost("", 4, 2, 0.2);
  assert.ok(Math.abs(queue.costs.get("")!.get(4)! - 1.2) < 1e-12);
});

Deno.test("costsOf() gives the longest of each size that the version has", () => {
  const queue = queueOf([]);
  const version = (variants: Record<string, number[]>): ScheduledModel => ({
    ...model,
    sizes: (variantKey) => variants[variantKey],
  });
  for (const [variant, size, seconds] of [["a", 1, 2], ["a", 4, 3], ["b", 1, 5], ["c", 8, 9]]) {
    queue.learnCost(variant as string, size as number, seconds as number, 1);
  }
  assert.deepEqual([...queue.costsOf(version({ a: [1, 4, 16], b: [1] }))], [[1, 5], [4, 3]]);
  assert.deepEqual([...queue.costsOf(version({ a: [4] }))], [[4, 3]]);
  assert.deepEqual([...queue.costsOf(version({}))], []);
});

Deno.test("recentCompute() halves every half-life, also across restarts of its clock", () => {
  const queue = queueOf([]);
  const clock = new DecayClock(30);
  const book = (nowMs: number, computeSeconds: number) => {
    clock.restart(nowMs, (scale) => queue.rescale(scale));
    queue.record({
      variantKey: "",
      size: 1,
      rows: 1,
      requests: 1,
      computeSeconds,
      scale: clock.scaleAt(nowMs),
      costAlpha: 0.2,
    });
  };
  const recent = (nowMs: number) => queue.recentCompute(clock.scaleAt(nowMs));
  const near = (found: number, expected: number) => assert.ok(Math.abs(found - expected) < 1e-9);
  book(1_000, 8);
  near(recent(61_000), 2);
  queue.pendingCompute = 0.5;
  near(recent(61_000), 2.5);
  queue.pendingCompute = 0;
  const late = 61_000 + 70 * 30_000;
  book(late, 4);
  near(recent(late), 4);
  near(recent(late + 30_000), 2);
  const weeks = late + 1e9;
  clock.restart(weeks, (scale) => queue.rescale(scale));
  assert.equal(recent(weeks), 0);
});

Deno.test("earliestDeadline follows what comes and goes", () => {
  const queue = queueOf([]);
  const push = (order: number, deadlineMs?: number) => queue.push({ ...work(order), deadlineMs });
  assert.equal(queue.earliestDeadline, Infinity);
  push(0, 50);
  push(1);
  push(2, 20);
  push(3, 90);
  assert.equal(queue.earliestDeadline, 20);
  queue.take(1);
  assert.equal(queue.earliestDeadline, 20);
  queue.dropDead(2, ({ order }) => order === 2);
  assert.equal(queue.earliestDeadline, 90);
  const other = queueOf([]);
  other.push({ ...work(9), deadlineMs: 10 });
  queue.absorb(other);
  assert.equal(queue.earliestDeadline, 10);
  assert.equal(other.earliestDeadline, Infinity);
  queue.take(2);
  assert.equal(queue.earliestDeadline, 10);
  queue.take(1);
  assert.equal(queue.earliestDeadline, Infinity);
});

Deno.test("planned() plans again when the queue or its costs have changed", () => {
  const queue = queueOf([0, 1]);
  let plans = 0;
  const planned = () =>
    queue.planned((of) => {
      plans++;
      return {
        model: of.front!.model,
        queue: of,
        plan: { take: of.depth, size: 4, rows: of.depth },
        cost: 1,
      };
    }).plan.take;
  assert.deepEqual([planned(), planned(), plans], [2, 2, 1]);
  queue.push(work(2));
  assert.deepEqual([planned(), plans], [3, 2]);
  queue.learnCost("", 4, 1, 0.2);
  assert.deepEqual([planned(), plans], [3, 3]);
  queue.dropDead(3, ({ order }) => order === 1);
  assert.deepEqual([planned(), plans], [2, 4]);
  queue.take(1);
  assert.deepEqual([planned(), plans], [1, 5]);
});

Deno.test("work that has left the queue is not kept alive by it", async () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  const queue = queueOf([]);
  const left: WeakRef<QueuedWork>[] = [];
  const push = (order: number) => {
    const pushed = work(order);
    queue.push(pushed);
    left.push(new WeakRef(pushed));
  };
  for (let order = 0; order < 10; order++) push(order);
  queue.take(3);
  queue.dropDead(4, ({ order }) => order % 2 === 1);
  await new Promise<void>((resolve) => setTimeout(resolve));
  collect();
  const kept = left.map((reference) => reference.deref()?.order);
  assert.deepEqual(kept.filter((order) => order !== undefined), orders(queue));
  queue.take(99);
  await new Promise<void>((resolve) => setTimeout(resolve));
  collect();
  assert.deepEqual(left.filter((reference) => reference.deref()), []);
});

Deno.test("planningCosts() lets a size that looked dear once be measured again, seldom", () => {
  const queue = queueOf([]);
  // The first run of the large size was held up: ten times what it takes.
  queue.learnCost("", 16, 0.016, 0.2);
  queue.learnCost("", 32, 0.2, 0.2);
  const run = (size: number, computeSeconds: number) =>
    queue.record({
      ...{ variantKey: "", size, rows: size, requests: size, computeSeconds, scale: 1 },
      costAlpha: 0.2,
    });
  const chosen = () =>
    planBatch(Array.from({ length: 64 }, () => ({ rows: 1, variantKey: "" })), {
      sizes: [16, 32],
      isCoalescable: true,
      maxRows: undefined,
      costs: queue.planningCosts(""),
    }).size;
  const sizes: number[] = [];
  for (let dispatch = 0; dispatch < 2_000; dispatch++) {
    const size = chosen();
    sizes.push(size);
    run(size, size === 16 ? 0.016 : 0.02);
  }
  assert.equal(sizes[0], 16);
  // What it really takes is found out, and it is chosen from then on.
  assert.ok(sizes.slice(-500).filter((size) => size === 32).length > 480);
  // Until then it cost one dispatch in 65.
  assert.equal(sizes.slice(0, 130).filter((size) => size === 32).length, 1);
});

Deno.test("planningCosts() leaves a size alone that is dearer every time", () => {
  const queue = queueOf([]);
  queue.learnCost("", 16, 0.016, 0.2);
  queue.learnCost("", 32, 0.064, 0.2);
  let large = 0;
  for (let dispatch = 0; dispatch < 650; dispatch++) {
    const { size } = planBatch(Array.from({ length: 64 }, () => ({ rows: 1, variantKey: "" })), {
      sizes: [16, 32],
      isCoalescable: true,
      maxRows: undefined,
      costs: queue.planningCosts(""),
    });
    if (size === 32) large++;
    queue.record({
      ...{ variantKey: "", size, rows: size, requests: size, scale: 1, costAlpha: 0.2 },
      computeSeconds: size === 16 ? 0.016 : 0.064,
    });
  }
  assert.equal(large, 9);
});

import assert from "node:assert/strict";
import { InvalidArgumentError } from "../errors.ts";
import {
  type DeadlineClock,
  DeadlineQueue,
  type Expiring,
  formatTimeout,
  parseTimeout,
  type Timer,
} from "./deadline.ts";

Deno.test("parseTimeout() reads every unit", () => {
  const cases: [string, number][] = [
    ["1H", 3_600_000],
    ["2M", 120_000],
    ["3S", 3000],
    ["250m", 250],
    ["1500u", 1.5],
    ["500000n", 0.5],
    ["0m", 0],
    ["99999999H", 99_999_999 * 3_600_000],
  ];
  for (const [text, ms] of cases) assert.ok(Math.abs(parseTimeout(text) - ms) <= ms * 1e-12, text);
});

Deno.test("parseTimeout() refuses what is malformed", () => {
  for (
    const text of ["", "m", "5", "5s", "-5m", "1.5S", "+1S", " 1S", "1 S", "123456789m", "１S"]
  ) {
    assert.throws(() => parseTimeout(text), InvalidArgumentError, JSON.stringify(text));
  }
});

Deno.test("formatTimeout() picks the finest unit that fits in eight digits", () => {
  const cases: [number, string][] = [
    [250, "250000u"],
    [0.0004, "1u"],
    [1.5, "1500u"],
    [99_999, "99999000u"],
    [100_000, "100000m"],
    [99_999_999, "99999999m"],
    [100_000_000, "100000S"],
    [99_999_999_999, "1666667M"],
    [1e15, "99999999H"],
    [Infinity, "99999999H"],
    [0, "1n"],
    [-5, "1n"],
    [NaN, "1n"],
  ];
  for (const [ms, text] of cases) assert.equal(formatTimeout(ms), text, String(ms));
});

Deno.test("formatTimeout() never asks for less time than there is, and parses back", () => {
  for (let ms = 0.01; ms < 1e12; ms *= 1.37) {
    const text = formatTimeout(ms);
    const back = parseTimeout(text);
    assert.ok(back >= ms && back <= ms * 1.02 + 0.001, `${ms} -> ${text} -> ${back}`);
  }
});

class FakeClock implements DeadlineClock {
  time = 0;
  timers = new Map<number, { at: number; run: () => void }>();
  #next = 1;

  now(): number {
    return this.time;
  }

  setTimer(run: () => void, ms: number): Timer {
    this.timers.set(this.#next, { at: this.time + ms, run });
    return this.#next++ as unknown as Timer;
  }

  clearTimer(timer: Timer): void {
    this.timers.delete(timer as unknown as number);
  }

  advance(to: number): void {
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= to)
        .sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.timers.delete(due[0]);
      this.time = due[1].at;
      due[1].run();
    }
    this.time = to;
  }
}

class Entry implements Expiring {
  queueIndex = -1;
  constructor(readonly deadlineMs: number, readonly log: number[]) {}
  expire(): void {
    this.log.push(this.deadlineMs);
  }
}

Deno.test("DeadlineQueue expires entries in order, with one timer", () => {
  const clock = new FakeClock();
  const queue = new DeadlineQueue(clock);
  const log: number[] = [];
  for (const deadline of [50, 10, 30, 20, 40, 10.5]) queue.add(new Entry(deadline, log));
  assert.equal(clock.timers.size, 1);
  clock.advance(25);
  assert.deepEqual(log, [10, 10.5, 20]);
  clock.advance(100);
  assert.deepEqual(log, [10, 10.5, 20, 30, 40, 50]);
  assert.equal(clock.timers.size, 0);
});

Deno.test("DeadlineQueue survives any order of adding and taking out", () => {
  const clock = new FakeClock();
  const queue = new DeadlineQueue(clock);
  const log: number[] = [];
  let seed = 12345;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
  const live: Entry[] = [];
  const expected: number[] = [];
  for (let step = 0; step < 2000; step++) {
    if (live.length === 0 || random() < 0.6) {
      const entry = new Entry(1 + random() * 1000, log);
      live.push(entry);
      queue.add(entry);
    } else {
      const [entry] = live.splice(Math.floor(random() * live.length), 1);
      queue.remove(entry!);
      queue.remove(entry!);
    }
    assert.equal(queue.size, live.length);
  }
  for (const entry of live) expected.push(entry.deadlineMs);
  clock.advance(2000);
  assert.deepEqual(log, expected.sort((a, b) => a - b));
});

Deno.test("DeadlineQueue.close() leaves no timer behind", () => {
  const clock = new FakeClock();
  const queue = new DeadlineQueue(clock);
  const log: number[] = [];
  queue.add(new Entry(5, log));
  queue.close();
  clock.advance(10);
  assert.deepEqual([log.length, clock.timers.size, queue.size], [0, 0, 0]);
});

Deno.test("DeadlineQueue waits for deadlines beyond what a timer can hold", () => {
  const clock = new FakeClock();
  const queue = new DeadlineQueue(clock);
  const log: number[] = [];
  queue.add(new Entry(5e9, log));
  clock.advance(4.9e9);
  assert.deepEqual(log, []);
  clock.advance(5e9);
  assert.deepEqual(log, [5e9]);
});

/**
 * `grpc-timeout` in both directions, and one timer for all deadlines of a server or client. Deadlines are
 * absolute, in milliseconds on the `performance.now()` clock, with fractions.
 */

import { InvalidArgumentError } from "../errors.ts";

/** Milliseconds per unit (gRPC over HTTP/2, "TimeoutUnit"). */
const UNIT_MS: Record<string, number> = { H: 3.6e6, M: 6e4, S: 1e3, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` value. Throws `InvalidArgumentError` when it is malformed. */
export function parseTimeout(text: string): number {
  const unit = text.length >= 2 && text.length <= 9 ? UNIT_MS[text[text.length - 1]!] : undefined;
  if (unit === undefined) throw malformed(text);
  let value = 0;
  for (let at = 0; at < text.length - 1; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) throw malformed(text);
    value = value * 10 + digit;
  }
  return value * unit;
}

function malformed(text: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `Malformed grpc-timeout ${
      JSON.stringify(text.slice(0, 32))
    }: expected 1 to 8 digits and one of ` +
      "H, M, S, m, u, n",
  );
}

/** At most eight digits fit, so each unit reaches this many times itself. */
const MAX_DIGITS = 99_999_999;

/**
 * The `grpc-timeout` value for a time from now: in microseconds up to 99 s, then the finest unit that
 * fits. Rounded up, so that the server never gives up before the client; nothing left is `1n`.
 */
export function formatTimeout(ms: number): string {
  if (!(ms > 0)) return "1n";
  if (ms * 1e3 <= MAX_DIGITS) return `${Math.ceil(ms * 1e3)}u`;
  if (ms <= MAX_DIGITS) return `${Math.ceil(ms)}m`;
  if (ms / 1e3 <= MAX_DIGITS) return `${Math.ceil(ms / 1e3)}S`;
  if (ms / 6e4 <= MAX_DIGITS) return `${Math.ceil(ms / 6e4)}M`;
  return `${Math.min(MAX_DIGITS, Math.ceil(ms / 3.6e6))}H`;
}

/** Something that is told when its deadline passes. The queue owns the two fields while it holds it. */
export interface Expiring {
  readonly deadlineMs: number | undefined;
  /** Where it is in the queue; -1 when it is not. Start with -1. */
  queueIndex: number;
  /** Its deadline has passed; it is no longer in the queue. Must not throw. */
  expire(): void;
}

/** Whatever `setTimeout` gives here. */
export type Timer = ReturnType<typeof setTimeout>;

/** Where time comes from; a test brings its own. */
export interface DeadlineClock {
  now(): number;
  setTimer(run: () => void, ms: number): Timer;
  clearTimer(timer: Timer): void;
}

/** The process's own clock. */
export const systemClock: DeadlineClock = {
  now: () => performance.now(),
  setTimer: (run, ms) => setTimeout(run, ms),
  clearTimer: (timer) => clearTimeout(timer),
};

/** Longest delay `setTimeout` takes (2^31 - 1 ms); later deadlines are looked at again then. */
const MAX_TIMER_MS = 0x7fffffff;

/**
 * All pending deadlines behind one timer: a binary heap, because a timer per call costs more than a
 * whole small call does. Taking an entry out leaves the timer alone; it rearms itself when it fires.
 */
export class DeadlineQueue {
  readonly #heap: Expiring[] = [];
  readonly #clock: DeadlineClock;
  #timer: Timer | undefined;
  #timerAtMs = Infinity;

  constructor(clock: DeadlineClock = systemClock) {
    this.#clock = clock;
  }

  /** Entries waiting. */
  get size(): number {
    return this.#heap.length;
  }

  /** Adds an entry that has a deadline. */
  add(entry: Expiring): void {
    this.#heap.push(entry);
    this.#up(this.#heap.length - 1, entry);
    if (at(this.#heap[0]!) < this.#timerAtMs) this.#arm();
  }

  /** Takes an entry out; harmless when it is not in. */
  remove(entry: Expiring): void {
    const index = entry.queueIndex;
    if (index < 0) return;
    entry.queueIndex = -1;
    const last = this.#heap.pop()!;
    if (last === entry) return;
    this.#up(index, last);
    this.#down(last.queueIndex, last);
  }

  /** Forgets every entry and the timer. */
  close(): void {
    for (const entry of this.#heap) entry.queueIndex = -1;
    this.#heap.length = 0;
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerAtMs = Infinity;
  }

  #arm(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerAtMs = Infinity;
    const first = this.#heap[0];
    if (first === undefined) return;
    this.#timerAtMs = at(first);
    // Timers fire on whole milliseconds, some a little early: round up, so one firing is enough.
    const wait = Math.max(0, Math.ceil(this.#timerAtMs - this.#clock.now()));
    this.#timer = this.#clock.setTimer(() => this.#fire(), Math.min(wait, MAX_TIMER_MS));
  }

  #fire(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (let first = this.#heap[0]; first && at(first) <= now; first = this.#heap[0]) {
      this.remove(first);
      first.expire();
    }
    this.#arm();
  }

  #up(index: number, entry: Expiring): void {
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const other = this.#heap[parent]!;
      if (at(other) <= at(entry)) break;
      this.#heap[index] = other;
      other.queueIndex = index;
      index = parent;
    }
    this.#heap[index] = entry;
    entry.queueIndex = index;
  }

  #down(index: number, entry: Expiring): void {
    const length = this.#heap.length;
    for (let child = 2 * index + 1; child < length; child = 2 * index + 1) {
      if (child + 1 < length && at(this.#heap[child + 1]!) < at(this.#heap[child]!)) child++;
      const other = this.#heap[child]!;
      if (at(entry) <= at(other)) break;
      this.#heap[index] = other;
      other.queueIndex = index;
      index = child;
    }
    this.#heap[index] = entry;
    entry.queueIndex = index;
  }
}

function at(entry: Expiring): number {
  return entry.deadlineMs ?? Infinity;
}

import assert from "node:assert/strict";
import {
  CancelledError,
  FailedPreconditionError,
  InvalidArgumentError,
  ResourceExhaustedError,
  UnavailableError,
} from "../errors.ts";
import {
  DEFAULT_RETRY_POLICY,
  isStaleRegistration,
  NO_RETRIES,
  type RetryOptions,
  withRetries,
} from "./retry.ts";

/** A clock that moves when somebody sleeps, and chance that always says 0.5. */
function fakeClock(attemptMs = 0) {
  let nowMs = 5000;
  const waits: number[] = [];
  return {
    waits,
    now: () => nowMs,
    random: () => 0.5,
    sleep: (milliseconds: number) => {
      waits.push(milliseconds);
      nowMs += milliseconds;
      return Promise.resolve();
    },
    pass: () => nowMs += attemptMs,
  };
}

function options(clock: ReturnType<typeof fakeClock>, deadlineMs = 10_000): RetryOptions {
  return { policy: DEFAULT_RETRY_POLICY, deadlineMs, clock };
}

Deno.test("withRetries() waits longer each time and hands every attempt what is left", async () => {
  const clock = fakeClock(100);
  const budgets: (number | undefined)[] = [];
  const result = await withRetries((budgetMs) => {
    budgets.push(budgetMs);
    clock.pass();
    return budgets.length < 4 ? Promise.reject(new UnavailableError("no")) : Promise.resolve("yes");
  }, options(clock));
  assert.equal(result, "yes");
  assert.deepEqual(clock.waits, [500, 1000, 2000]);
  assert.deepEqual(budgets, [10_000, 9400, 8300, 6200]);
});

Deno.test("withRetries() gives up when the wait would leave less than the minimum", async () => {
  const clock = fakeClock();
  let attempts = 0;
  const attempt = () => {
    attempts++;
    return Promise.reject(new ResourceExhaustedError("full"));
  };
  await assert.rejects(withRetries(attempt, options(clock, 1500)), ResourceExhaustedError);
  // After 500 ms of waiting another 1000 ms would end exactly at the deadline.
  assert.equal(attempts, 2);
  assert.deepEqual(clock.waits, [500]);
});

Deno.test("withRetries() makes one attempt for other failures, without a policy or a deadline", async () => {
  const clock = fakeClock();
  const failures: readonly [Error, RetryOptions][] = [
    [new InvalidArgumentError("wrong"), options(clock)],
    [new FailedPreconditionError("stale"), options(clock)],
    [new UnavailableError("x refers to an unregistered shared memory region"), options(clock)],
    [new TypeError("a defect"), options(clock)],
    [new UnavailableError("down"), { ...options(clock), policy: NO_RETRIES }],
    [new UnavailableError("down"), options(clock, 0)],
    [new UnavailableError("down"), {
      ...options(clock),
      policy: { ...DEFAULT_RETRY_POLICY, retriesUnavailable: false },
    }],
  ];
  for (const [failure, retry] of failures) {
    let attempts = 0;
    const attempt = () => {
      attempts++;
      return Promise.reject(failure);
    };
    await assert.rejects(withRetries(attempt, retry), failure);
    assert.equal(attempts, 1, failure.message);
  }
  assert.deepEqual(clock.waits, []);
});

Deno.test("withRetries() without a deadline passes none on", async () => {
  let seen: number | undefined = 1;
  await withRetries((budgetMs) => {
    seen = budgetMs;
    return Promise.resolve();
  }, options(fakeClock(), 0));
  assert.equal(seen, undefined);
});

Deno.test("a wait ends with its signal", async () => {
  const abort = new AbortController();
  const reason = new Error("enough");
  const run = withRetries(() => {
    abort.abort(reason);
    return Promise.reject(new UnavailableError("down"));
  }, { policy: DEFAULT_RETRY_POLICY, deadlineMs: 60_000, signal: abort.signal });
  await assert.rejects(run, (error) => {
    assert.ok(error instanceof CancelledError);
    assert.match(error.message, /enough/);
    return true;
  });
});

Deno.test("isStaleRegistration() knows the status and the wording", () => {
  assert.ok(isStaleRegistration(new FailedPreconditionError("anything")));
  assert.ok(isStaleRegistration(new UnavailableError('an unregistered shared memory region: "a"')));
  assert.ok(!isStaleRegistration(new UnavailableError("down")));
  assert.ok(!isStaleRegistration(new Error("unregistered shared memory region")));
});

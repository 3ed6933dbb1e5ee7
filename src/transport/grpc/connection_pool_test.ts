import assert from "node:assert/strict";
import type { ServerError } from "../../errors.ts";
import { UnavailableError } from "../../errors.ts";
import type { DeadlineClock, Timer } from "../deadline.ts";
import type { Http2Connection, Http2Stream } from "../http2/mod.ts";
import { Backoff } from "./backoff.ts";
import { ConnectionPool, type Waiter } from "./connection_pool.ts";
import { parseTarget } from "./target.ts";

Deno.test("Backoff grows by 1.6 up to its cap, with 20 % of jitter, and starts over", () => {
  const backoff = new Backoff({ initialMs: 100, maxMs: 300, random: () => 0.5 });
  const waits = Array.from({ length: 5 }, () => Math.round(backoff.next()));
  assert.deepEqual(waits, [100, 160, 256, 300, 300]);
  backoff.reset();
  assert.equal(backoff.next(), 100);
  assert.equal(new Backoff({ initialMs: 100, random: () => 0 }).next(), 80);
  assert.ok(Math.abs(new Backoff({ initialMs: 100, random: () => 1 }).next() - 120) < 1e-9);
});

Deno.test("parseTarget() reads what gRPC clients write", () => {
  assert.deepEqual(parseTarget("host.example:8001"), {
    kind: "tcp",
    hostname: "host.example",
    port: 8001,
    authority: "host.example:8001",
  });
  assert.deepEqual(parseTarget("dns:///localhost:1"), {
    kind: "tcp",
    hostname: "localhost",
    port: 1,
    authority: "localhost:1",
  });
  const v6 = parseTarget("[::1]:65535");
  assert.ok(v6.kind === "tcp" && v6.hostname === "::1" && v6.port === 65535);
  for (const text of ["unix:/run/a.sock", "unix:///run/a.sock"]) {
    assert.deepEqual(parseTarget(text), {
      kind: "unix",
      path: "/run/a.sock",
      authority: "localhost",
    });
  }
  for (
    const text of ["", "host", "host:", ":80", "host:0", "host:65536", "a b:1", "::1:80", "unix:"]
  ) {
    assert.throws(() => parseTarget(text), /Malformed target/, text);
  }
});

/** Time that stands still until told otherwise. */
class Clock implements DeadlineClock {
  time = 0;
  #timers = new Map<number, { at: number; run: () => void }>();
  #next = 1;

  now(): number {
    return this.time;
  }

  setTimer(run: () => void, ms: number): Timer {
    this.#timers.set(this.#next, { at: this.time + ms, run });
    return this.#next++ as unknown as Timer;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer as unknown as number);
  }

  async advance(ms: number): Promise<void> {
    this.time += ms;
    for (const [id, timer] of [...this.#timers]) {
      if (timer.at > this.time) continue;
      this.#timers.delete(id);
      timer.run();
    }
    await settle();
  }
}

/** Lets all pending promise reactions run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A connection that takes a given number of streams. */
class FakeConnection implements Http2Connection {
  readonly peer = "fake";
  activeStreams = 0;
  isGone = false;
  #resolve!: () => void;
  readonly closed = new Promise<void>((resolve) => this.#resolve = resolve);

  constructor(readonly limit: number) {}

  get canOpen(): boolean {
    return !this.isGone && this.activeStreams < this.limit;
  }

  open(): Http2Stream {
    this.activeStreams++;
    return {} as Http2Stream;
  }

  drain(): Promise<void> {
    this.destroy();
    return this.closed;
  }

  destroy(): void {
    this.isGone = true;
    this.#resolve();
  }
}

class FakeCall implements Waiter {
  got: Http2Connection | undefined;
  error: ServerError | undefined;
  constructor(readonly isPatient = false) {}

  onReady(connection: Http2Connection): void {
    this.got = connection;
    (connection as FakeConnection).open();
  }

  onFailed(error: ServerError): void {
    this.error = error;
  }
}

class Rig {
  readonly clock = new Clock();
  readonly connections: FakeConnection[] = [];
  attempts = 0;
  isDown = false;
  readonly pool: ConnectionPool;

  constructor(limit: number, maxConnections: number, maxWaiting = 100) {
    this.pool = new ConnectionPool({
      name: "target",
      maxConnections,
      maxWaiting,
      clock: this.clock,
      backoff: { initialMs: 100, maxMs: 1000, random: () => 0.5 },
      connect: () => {
        this.attempts++;
        if (this.isDown) return Promise.reject(new UnavailableError("nobody there"));
        const connection = new FakeConnection(limit);
        this.connections.push(connection);
        return Promise.resolve(connection);
      },
    });
  }

  async call(isPatient = false): Promise<FakeCall> {
    const call = new FakeCall(isPatient);
    const connection = this.pool.acquire();
    if (connection === undefined) this.pool.wait(call);
    else call.onReady(connection);
    await settle();
    return call;
  }
}

Deno.test("ConnectionPool fills one connection before it opens the next, then lets calls wait", async () => {
  const rig = new Rig(2, 2);
  const calls = [];
  for (let index = 0; index < 5; index++) calls.push(await rig.call());
  assert.deepEqual(calls.map((call) => rig.connections.indexOf(call.got as FakeConnection)), [
    0,
    0,
    1,
    1,
    -1,
  ]);
  assert.equal(rig.attempts, 2);
  rig.connections[1]!.activeStreams--;
  rig.pool.released();
  await settle();
  assert.equal(calls[4]!.got, rig.connections[1]);
  await rig.pool.close(false);
});

Deno.test("ConnectionPool serves waiting calls in order and nobody jumps the queue", async () => {
  const rig = new Rig(1, 1);
  const first = await rig.call();
  const second = await rig.call();
  rig.connections[0]!.activeStreams--;
  assert.equal(rig.pool.acquire(), undefined);
  const third = await rig.call();
  assert.ok(first.got && second.got && !third.got);
  await rig.pool.close(false);
  assert.equal(third.error!.status, "CANCELLED");
});

Deno.test("ConnectionPool fails impatient calls at once while it backs off, and patient ones wait", async () => {
  const rig = new Rig(10, 1);
  rig.isDown = true;
  const patient = await rig.call(true);
  const impatient = await rig.call();
  assert.equal(impatient.error!.message, "nobody there");
  assert.equal(rig.attempts, 1);
  const again = await rig.call();
  assert.equal(again.error!.status, "UNAVAILABLE");
  assert.equal(rig.attempts, 1);
  await rig.clock.advance(101);
  assert.equal(rig.attempts, 2);
  await rig.clock.advance(100);
  assert.equal(rig.attempts, 2);
  rig.isDown = false;
  await rig.clock.advance(61);
  assert.equal(rig.attempts, 3);
  assert.equal(patient.got, rig.connections[0]);
  await rig.pool.close(false);
});

Deno.test("ConnectionPool reconnects at once after a connection that worked", async () => {
  const rig = new Rig(10, 1);
  await rig.call();
  rig.connections[0]!.destroy();
  await settle();
  const next = await rig.call();
  assert.equal(next.got, rig.connections[1]);
  assert.equal(rig.pool.size, 1);
  await rig.pool.close(false);
});

Deno.test("ConnectionPool bounds the calls that wait", async () => {
  const rig = new Rig(1, 1, 2);
  const calls = [];
  for (let index = 0; index < 4; index++) calls.push(await rig.call());
  assert.equal(calls[3]!.error!.status, "RESOURCE_EXHAUSTED");
  rig.pool.leave(calls[1]!);
  const late = await rig.call();
  assert.equal(late.error, undefined);
  await rig.pool.close(true);
});

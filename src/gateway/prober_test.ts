import assert from "node:assert/strict";
import { Logger, silentLogger } from "../log.ts";
import { GRPCInferenceService, methodPath } from "../protocol/mod.ts";
import type { FleetWorker, Member } from "./fleet_worker.ts";
import { Prober, type ProberOptions } from "./prober.ts";
import type { FleetReport, RoutingTable } from "./fleet.ts";
import type { ManagedRouter } from "./routing/mod.ts";
import { FakeWorker, INFER, inferRequest, until } from "./testing.ts";
import { WorkerPool } from "./worker_pool.ts";

/** A router that only remembers what it was told. */
function recorder(wantsReports = false) {
  const tables: RoutingTable[] = [];
  const reports: FleetReport[] = [];
  const router: ManagedRouter = {
    wantsReports,
    control: undefined,
    batchAxisOf: () => undefined,
    arrived: () => {},
    reserve: () => undefined,
    discovered: (table) => tables.push(table),
    report: (report) => reports.push(report),
    readings: () => ({ workBasis: undefined, inflightWork: [], packing: undefined }),
  };
  return { router, tables, reports };
}

/** A prober of these workers that goes round when it is told to. */
function proberOf(workers: readonly FakeWorker[], options: Partial<ProberOptions> = {}) {
  const pool = new WorkerPool({
    client: {
      maxConcurrentStreams: 2,
      maxWaitingCalls: 10,
      maxRequestBytes: 1 << 20,
      maxResponseBytes: 1 << 20,
      tls: undefined,
    },
    drainMs: 0,
  });
  const members: Member[] = workers.map(({ id }) => ({ id, name: id, metricsEndpoint: undefined }));
  pool.setMembers(members);
  const recorded = recorder(options.router?.wantsReports);
  const prober = new Prober({
    pool,
    logger: silentLogger,
    intervalMs: 3_600_000,
    wedgeExitRounds: 0,
    onWorkerUp: () => Promise.resolve(),
    onChange: () => {},
    onWedged: () => {},
    reports: () => true,
    ...options,
    router: recorded.router,
  });
  return {
    pool,
    prober,
    ...recorded,
    async [Symbol.asyncDispose]() {
      prober[Symbol.dispose]();
      await pool.close();
    },
  };
}

const READY = methodPath(GRPCInferenceService.method.serverReady);

Deno.test("a round tells the router of a table only when there is another one", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start({ models: ["m", "n"] });
  await using subject = proberOf([a, b]);
  await subject.prober.round();
  await subject.prober.round();
  const last = subject.tables.at(-1)!;
  assert.deepEqual(last.routes.get("m"), [a.id, b.id].sort());
  assert.deepEqual(last.routes.get("n"), [b.id]);
  const count = subject.tables.length;
  assert.ok(count <= 2, "one per worker at most");
  b.models.set("n", false);
  await subject.prober.round();
  assert.equal(subject.tables.length, count + 1);
  assert.equal(subject.prober.table.routes.has("n"), false);
});

Deno.test("a worker that hangs is left out, and its calls fail as those of a lost connection", async () => {
  await using worker = await FakeWorker.start();
  await using subject = proberOf([worker], { watchdogMs: 2000 });
  // A machine that is slow makes it look hung at first; that is over with the next round.
  while (!subject.prober.isAnyReady) await subject.prober.round();
  const [fleetWorker] = subject.pool.workers as [FleetWorker];
  const held = Promise.withResolvers<void>();
  worker.infer = () => held.promise.then(() => []);
  const call = fleetWorker.infer(INFER, inferRequest("m"), {});
  const ended = assert.rejects(call);
  assert.ok(fleetWorker.slots.tryEnter() && fleetWorker.slots.tryEnter());
  const waiting = fleetWorker.slots.enter({ signal: new AbortController().signal }, Infinity);
  const turnedAway = assert.rejects(waiting, { status: "UNAVAILABLE" });
  await until(() => worker.active === 1, "the call is there");
  worker.before = (path) => path === READY ? held.promise : undefined;
  await subject.prober.round();
  assert.equal(fleetWorker.health.state, "hung");
  assert.equal(subject.prober.isAnyReady, false);
  await ended;
  await turnedAway;
  held.resolve();
  worker.before = () => {};
  while (!subject.prober.isAnyReady) await subject.prober.round();
});

Deno.test("the log says why a worker is left out", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const id = `127.0.0.1:${listener.addr.port}`;
  listener.close();
  const lines: string[] = [];
  const logger = new Logger({ format: "json", write: (line) => lines.push(line) });
  await using subject = proberOf([{ id } as FakeWorker], { logger });
  await subject.prober.round();
  const events = lines.map((line) => JSON.parse(line));
  const { state, reason } = events.find(({ message }) => message === "worker");
  assert.equal(state, "failed");
  assert.match(reason, new RegExp(`Cannot connect to ${id}: .*refused`, "i"));
});

Deno.test("rounds in which every worker hangs end the process, once one has answered", async () => {
  await using worker = await FakeWorker.start();
  let wedged = 0;
  await using subject = proberOf([worker], {
    watchdogMs: 50,
    wedgeExitRounds: 2,
    onWedged: () => wedged++,
  });
  const held = Promise.withResolvers<void>();
  worker.before = () => held.promise;
  for (let round = 0; round < 3; round++) await subject.prober.round();
  assert.equal(wedged, 0, "nobody has ever answered");
  worker.before = () => {};
  const { health } = subject.pool.workers[0]!;
  while (health.state !== "ready") await subject.prober.round();
  worker.before = () => held.promise;
  await subject.prober.round();
  assert.equal(wedged, 0);
  await subject.prober.round();
  assert.equal(wedged, 1);
  held.resolve();
});

Deno.test("refresh() is one look for all who ask, and none within a second of the last", async () => {
  await using worker = await FakeWorker.start();
  let looks = 0;
  worker.before = (path) => {
    if (path === READY) looks++;
  };
  await using subject = proberOf([worker]);
  await Promise.all(Array.from({ length: 20 }, () => subject.prober.refresh()));
  assert.equal(looks, 1);
});

Deno.test("refresh() waits for a worker that has joined since the last look, and for no other", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start({ models: ["n"] });
  let looks = 0;
  a.before = (path) => {
    if (path === READY) looks++;
  };
  await using subject = proberOf([a]);
  await subject.prober.round();
  subject.pool.setMembers(
    [a, b].map(({ id }) => ({ id, name: id, metricsEndpoint: undefined })),
  );
  await subject.prober.refresh();
  assert.deepEqual(subject.prober.table.routes.get("n"), [b.id]);
  assert.equal(looks, 1);
});

Deno.test("ready workers are polled for a router that wants it, and only they", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  b.isReady = false;
  const wants = { router: { wantsReports: true } as ManagedRouter };
  await using subject = proberOf([a, b], wants);
  await subject.prober.round();
  assert.deepEqual(subject.reports.map(({ workers }) => workers.map(({ worker }) => worker)), [[
    a.id,
  ]]);
  const [{ workers: [report] }] = subject.reports as [FleetReport];
  assert.equal(report!.discipline, "fifo");
  assert.deepEqual(report!.models.map(({ name, weightBytes }) => [name, weightBytes]), [["m", 1]]);
});

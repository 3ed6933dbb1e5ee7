import assert from "node:assert/strict";
import { join } from "node:path";
import { ControlService } from "../../src/protocol/mod.ts";
import { type BundleFiles, temporaryDirectory, writeBundle } from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import {
  metaStampOf,
  publish,
  type Stamp,
  stampedBundle,
  stampedInput,
  stampedMeta,
  stampOf,
  textOf,
} from "../harness/stamped_bundle.ts";
import { runStorm } from "../harness/load/lifecycle_storm.ts";
import { type LogEvent, startServer, type TestServer } from "../harness/server.ts";
import { whileStopped } from "../harness/stopped.ts";
import { until } from "../harness/until.ts";

const POLL = ["--model-poll-seconds", "0.2"];
const FIRST: Stamp = { program: 1, weights: 1, hook: 0, manifest: 1 };

/** What a model answers with now. */
async function ask({ inference }: TestClient, modelName: string, rows = 2): Promise<string> {
  const answer = await inference.infer({ modelName, inputs: [stampedInput(rows, 5)] });
  return textOf(stampOf(answer, rows, 5));
}

async function statusOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "OK";
  } catch (error) {
    return (error as { status?: string }).status ?? String(error);
  }
}

/** The next log event after this call that is about the model. */
function nextEvent(server: TestServer, message: string, model: string): Promise<LogEvent> {
  const seen = server.events.length;
  return server.waitForEvent((event) =>
    event.message === message && event.model === model && server.events.indexOf(event) >= seen
  );
}

/** Publishes files as one change, however slow the machine is. */
function publishTo(server: TestServer, directory: string, files: BundleFiles): void {
  whileStopped(server.pid, () => publish(directory, files));
}

async function metric(server: TestServer, series: RegExp): Promise<number | undefined> {
  const { body } = await server.http("/metrics");
  const line = body.split("\n").find((text) => series.test(text));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ")));
}

/**
 * Asks all the time until stopped; every answer must be one of the stamps allowed when it was asked for,
 * or when it came.
 */
function askAllTheTime(client: TestClient, model: string, allowed: Set<string>) {
  let isStopped = false;
  let answers = 0;
  const running = (async () => {
    while (!isStopped) {
      const wanted = [...allowed];
      const found = await ask(client, model, 1 + answers % 4);
      wanted.push(...allowed);
      assert.ok(wanted.includes(found), `${model} answered ${found}, not ${wanted.join(" or ")}`);
      answers++;
    }
  })();
  let failure: { readonly error: unknown } | undefined;
  running.catch((error) => {
    isStopped = true;
    failure = { error };
  });
  return {
    /** How many there are so far. @throws what was wrong with one of them */
    answers(): number {
      if (failure !== undefined) throw failure.error;
      return answers;
    },
    async stop(): Promise<number> {
      isStopped = true;
      await running;
      return answers;
    },
  };
}

Deno.test("a model changes while it serves: weights, program, hook, manifest, broken, repaired", async () => {
  await using folder = await temporaryDirectory();
  const directory = await writeBundle(folder.path, "m", stampedBundle(FIRST));
  await writeBundle(folder.path, "steady", stampedBundle({ ...FIRST, program: 9 }));
  await using server = await startServer({ modelDirs: [folder.path], args: POLL });
  await using client = connect(server);
  const allowed = new Set([textOf(FIRST)]);
  const loads = [
    askAllTheTime(client, "m", allowed),
    askAllTheTime(client, "m", allowed),
    askAllTheTime(client, "steady", new Set([textOf({ ...FIRST, program: 9 })])),
  ];
  let stamp = FIRST;
  const handles = await metric(server, /^worker_native_handles.*kind="executable"/);
  /** A call in progress keeps the programs it began with. */
  const assertNoneIsLeft = () =>
    until(
      async () => await metric(server, /^worker_native_handles.*kind="executable"/) === handles,
      `${handles} executables`,
    );

  /** Publishes what differs and waits until it is served; the log event of the update. */
  const change = async (part: Partial<Stamp>): Promise<LogEvent> => {
    const next = { ...stamp, ...part };
    const [before, after] = [stampedBundle(stamp), stampedBundle(next)];
    allowed.add(textOf(next));
    const updated = nextEvent(server, "model updated", "m");
    publishTo(
      server,
      directory,
      Object.fromEntries(
        Object.entries(after).filter(([name, content]) => String(before[name]) !== String(content)),
      ),
    );
    const event = await updated;
    allowed.delete(textOf(stamp));
    stamp = next;
    assert.equal(await ask(client, "m"), textOf(stamp));
    assert.equal((await server.http("/readyz")).status, 200);
    return event;
  };

  const weights = await change({ weights: 2 });
  assert.deepEqual([weights.programs, weights.programsReused], [2, 2]);
  const hook = await change({ hook: 3 });
  assert.equal(hook.programsReused, 2);
  const manifest = await change({ manifest: 4 });
  assert.equal(manifest.programsReused, 2);
  const program = await change({ program: 5 });
  assert.equal(program.programsReused, 0);
  await assertNoneIsLeft();

  const failed = nextEvent(server, "model not updated, the version before serves", "m");
  publishTo(server, directory, { "model.b4.mlir": "module {" });
  assert.match(String((await failed).reason), /model\.b4\.mlir does not compile/);
  assert.equal(await metric(server, /^worker_model_update_failed.*model="m"/), 1);
  assert.equal(await metric(server, /^worker_bundle_load_failures_total.*model="m"/), 1);
  const index = await client.inference.repositoryIndex();
  assert.deepEqual(index.map(({ name, state, reason }) => [name, state, reason]), [
    ["m", "READY", ""],
    ["steady", "READY", ""],
  ]);
  assert.equal(await ask(client, "m"), textOf(stamp));
  const repaired = stampedBundle({ ...stamp, weights: 6 });
  allowed.add(textOf({ ...stamp, weights: 6 }));
  const updated = nextEvent(server, "model updated", "m");
  publishTo(server, directory, repaired);
  await updated;
  assert.equal(await metric(server, /^worker_model_update_failed.*model="m"/), 0);
  assert.equal(await ask(client, "m"), textOf({ ...stamp, weights: 6 }));

  await until(() => loads.every((load) => load.answers() > 20), "more answers");
  const answers = await Promise.all(loads.map((load) => load.stop()));
  await until(
    async () => await metric(server, /^worker_inflight_requests/) === 0,
    "every request is counted",
  );
  const statistics = await client.inference.modelStatistics("m");
  assert.equal(
    Number(statistics[0]!.inferenceStats!.success!.count),
    await metric(server, /^worker_requests_total.*model="m",status="OK"/),
  );
  assert.ok(Number(statistics[0]!.inferenceStats!.success!.count) >= answers[0]! + answers[1]!);
  await assertNoneIsLeft();
});

Deno.test("models come, are renamed without compiling, change places and go", async () => {
  await using folder = await temporaryDirectory();
  const at = (name: string) => join(folder.path, name);
  await using server = await startServer({ modelDirs: [folder.path], args: POLL });
  await using client = connect(server);
  assert.equal((await server.http("/readyz")).status, 503);

  const loaded = ["a", "b"].map((name) => nextEvent(server, "model loaded", name));
  await writeBundle(folder.path, "a", stampedBundle(FIRST));
  await writeBundle(folder.path, "b", stampedBundle({ ...FIRST, program: 2, hook: 7 }));
  const [{ trigger, inputs }] = await Promise.all(loaded);
  assert.deepEqual([trigger, inputs], ["change", ["x: FP32[n,2]"]]);
  assert.equal((await server.http("/readyz")).status, 200);
  const [a, b] = [textOf(FIRST), textOf({ ...FIRST, program: 2, hook: 7 })];
  assert.deepEqual([await ask(client, "a"), await ask(client, "b")], [a, b]);
  await client.inference.call(ControlService.method.setModelPolicy, {
    name: "a",
    hasWeight: true,
    weight: 3,
  });
  const compiled = await metric(server, /^worker_native_handles.*kind="executable"/);

  const circle = ["a", "b"].map((name) => nextEvent(server, "model renamed", name));
  whileStopped(server.pid, () => {
    Deno.renameSync(at("a"), at(".parked"));
    Deno.renameSync(at("b"), at("a"));
    Deno.renameSync(at(".parked"), at("b"));
  });
  await Promise.all(circle);
  assert.deepEqual([await ask(client, "a"), await ask(client, "b")], [b, a]);
  assert.equal(await metric(server, /^worker_requests_total.*model="a",status="OK"/), 2);
  assert.equal(await metric(server, /^worker_dispatch_total.*model="b"/), 2);
  assert.equal(await metric(server, /^worker_native_handles.*kind="executable"/), compiled);

  // A move onto another model; the hook of the moved one still works, from its new folder.
  const onto = nextEvent(server, "model renamed", "b");
  whileStopped(server.pid, () => {
    Deno.removeSync(at("b"), { recursive: true });
    Deno.renameSync(at("a"), at("b"));
  });
  await onto;
  assert.equal(await ask(client, "b"), b);
  assert.equal(await statusOf(ask(client, "a")), "NOT_FOUND");

  const gone = nextEvent(server, "model unloaded", "b");
  whileStopped(server.pid, () => Deno.removeSync(at("b"), { recursive: true }));
  await gone;
  assert.equal(await statusOf(ask(client, "b")), "NOT_FOUND");
  for (const kind of ["buffer", "executable"]) {
    const series = new RegExp(`^worker_native_handles.*kind="${kind}"`);
    await until(async () => (await metric(server, series) ?? 0) === 0, `no ${kind} is left`);
  }
  assert.equal(await metric(server, /^worker_requests_total.*model="b"/), undefined);
});

Deno.test("metas follow their stages, never mix two versions, and are never nested", async () => {
  await using folder = await temporaryDirectory();
  const stage = await writeBundle(folder.path, "stage", stampedBundle(FIRST));
  await writeBundle(folder.path, "meta", stampedMeta("stage", 1));
  await using server = await startServer({ modelDirs: [folder.path], args: POLL });
  await using client = connect(server);
  const both = async () => {
    const inputs = [stampedInput(1, 3)];
    const found = metaStampOf(await client.inference.infer({ modelName: "meta", inputs }), 3);
    return `${textOf(found.stamp)} by ${found.hook}`;
  };
  let isDone = false;
  const seen = new Set<string>();
  const load = (async () => {
    while (!isDone) seen.add(await both());
  })();
  for (const version of [2, 3, 4]) {
    const updated = nextEvent(server, "model updated", "stage");
    publishTo(server, stage, stampedBundle({ ...FIRST, program: version, weights: version }));
    await updated;
    const answered = `p${version} w${version} h0 m1 by 1`;
    await until(() => seen.has(answered), answered);
  }
  const changed = nextEvent(server, "model updated", "meta");
  publishTo(server, join(folder.path, "meta"), stampedMeta("stage", 2));
  await changed;
  assert.equal(await both(), "p4 w4 h0 m1 by 2");
  isDone = true;
  await load;
  const order = ["p1 w1 h0 m1 by 1", "p2 w2 h0 m1 by 1", "p3 w3 h0 m1 by 1", "p4 w4 h0 m1 by 1"];
  assert.deepEqual([...seen].filter((one) => one !== "p4 w4 h0 m1 by 2"), order);

  // A meta over a meta that serves; then a stage that would become a meta itself.
  const outer = nextEvent(server, "model not loaded", "outer");
  Deno.renameSync(
    await writeBundle(folder.path, ".incoming", stampedMeta("meta", 1)),
    join(folder.path, "outer"),
  );
  assert.match(String((await outer).reason), /"meta.calls" lists "meta", which is a meta model/);
  const became = nextEvent(server, "model not updated, the version before serves", "stage");
  whileStopped(server.pid, () => {
    for (const file of ["model.b1.mlir", "model.b4.mlir", "weights.safetensors"]) {
      Deno.removeSync(join(stage, file));
    }
    publish(stage, stampedMeta("other", 1));
  });
  assert.match(String((await became).reason), /the meta model "meta" calls it/);
  assert.equal(await both(), "p4 w4 h0 m1 by 2");

  // Once the meta above is gone it may; and what called the meta that is gone may be loaded too.
  const turned = nextEvent(server, "model updated", "stage");
  whileStopped(server.pid, () => Deno.removeSync(join(folder.path, "meta"), { recursive: true }));
  assert.deepEqual((await turned).calls, ["other"]);
  assert.equal((await nextOrPast(server, "model loaded", "outer")).message, "model loaded");
  const { models } = await client.inference.call(ControlService.method.modelControlStatus, {});
  assert.deepEqual(models.map(({ name }) => name).toSorted(), ["outer", "stage"]);
});

/** An event about the model, past or future. */
function nextOrPast(server: TestServer, message: string, model: string): Promise<LogEvent> {
  return server.waitForEvent((event) => event.message === message && event.model === model);
}

Deno.test("what changes while the first models are loaded is noticed; static servers notice nothing", async () => {
  await using folder = await temporaryDirectory();
  const directory = await writeBundle(folder.path, "m", stampedBundle(FIRST));
  const start = (mode: string) =>
    startServer({
      modelDirs: [folder.path],
      args: [...POLL, "--model-control-mode", mode],
      until: "listening",
    });
  await using dynamic = await start("dynamic");
  await using fixed = await start("static");
  for (const server of [dynamic, fixed]) {
    await server.waitForEvent(({ message }) => message === "ready");
  }
  const updated = nextEvent(dynamic, "model updated", "m");
  publishTo(dynamic, directory, stampedBundle({ ...FIRST, weights: 2 }));
  await updated;
  await using client = connect(fixed);
  assert.equal(await ask(client, "m"), textOf(FIRST));
});

Deno.test("a folder that cannot be read takes no models away", async () => {
  await using folder = await temporaryDirectory();
  const root = join(folder.path, "models");
  await writeBundle(root, "m", stampedBundle(FIRST));
  await using server = await startServer({ modelDirs: [root], args: POLL });
  await using client = connect(server);
  Deno.renameSync(root, join(folder.path, "elsewhere"));
  await server.waitForEvent(({ message }) => message === "A model folder cannot be read");
  Deno.renameSync(join(folder.path, "elsewhere"), root);
  await server.waitForEvent(({ message }) => message === "a model folder can be read again");
  assert.equal(await ask(client, "m"), textOf(FIRST));
  assert.ok(!server.events.some(({ message }) => message === "model unloaded"));
});

Deno.test("a storm of changes breaks no answer and leaves nothing behind", async () => {
  const report = await runStorm({ seconds: 10, seed: 1, clients: 4, answers: 100 });
  assert.deepEqual(report.complaints, []);
  assert.equal(report.handlesAfter, report.handlesBefore);
});

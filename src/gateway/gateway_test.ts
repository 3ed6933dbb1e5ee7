import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { decodeRequest, ModelInferRequestSchema } from "../protocol/mod.ts";
import { FakeWorker, INFER, inferRequest, startTestGateway, until } from "./testing.ts";

Deno.test("the ports are open before any worker is, and say how far it is", async () => {
  await using worker = await FakeWorker.start();
  const { id } = worker;
  await worker.kill();
  await using gateway = await startTestGateway({ endpoints: [id], untilReady: false });
  assert.deepEqual(await gateway.http("/healthz"), { status: 200, body: "ok" });
  assert.deepEqual(await gateway.http("/readyz"), {
    status: 503,
    body: "not ready: 0 of 1 workers ready",
  });
  assert.equal((await gateway.http("/nothing")).status, 404);
  await assert.rejects(gateway.infer("m"), { status: "NOT_FOUND" });
  await worker.revive();
  await until(async () => (await gateway.http("/readyz")).status === 200, "ready");
  assert.equal(await gateway.infer("m"), id);
  // Readiness can be lost again; a model that is known to exist is then unavailable, not unknown.
  await worker.kill();
  await until(async () => (await gateway.http("/readyz")).status === 503, "not ready");
  await assert.rejects(gateway.infer("m"), { status: "UNAVAILABLE" });
  assert.deepEqual(gateway.states, ["listening", "ready", "unready"]);
  assert.equal(await gateway.stop(), 0);
});

Deno.test("workers join and leave through a file, and no request is lost", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, `${a.id}\n`);
    await using gateway = await startTestGateway({ endpoints: [`file:${file}`] });
    // One request is on its way all the time, and one long one is held by the worker that leaves.
    let isOver = false;
    let answered = 0;
    const load = (async () => {
      while (!isOver) {
        await gateway.infer("m");
        answered++;
      }
    })();
    const held = Promise.withResolvers<void>();
    const answer = a.infer;
    let isHeld = false;
    a.infer = async (message, call) => {
      if (decodeRequest(ModelInferRequestSchema, message).id === "long") {
        isHeld = true;
        await held.promise;
      }
      return await answer(message, call);
    };
    const long = gateway.infer("m", "long");
    await until(() => isHeld, "the long request");
    await Deno.writeTextFile(file, `${a.id}\n${b.id}\n`);
    await until(() => b.inferred > 0, "b is used");
    await Deno.writeTextFile(file, `${b.id}\n`);
    await until(() => gateway.lines.some((line) => line.includes(`left=["${a.id}"]`)), "a left");
    const before = a.inferred;
    held.resolve();
    assert.equal(await long, a.id);
    for (let i = 0; i < 20; i++) assert.equal(await gateway.infer("m"), b.id);
    assert.ok(a.inferred - before <= 1, "a request that was on its way may still arrive");
    isOver = true;
    await load;
    assert.ok(answered > 0);
    const hasSeries = async () =>
      (await gateway.http("/metrics")).body.includes(`worker="${a.id}"`);
    await until(async () => !await hasSeries(), "the series of the worker that left are gone");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a file may name other workers altogether, and no request is lost", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, a.id);
    await using gateway = await startTestGateway({ endpoints: [`file:${file}`] });
    const answers: string[] = [];
    let isOver = false;
    const load = (async () => {
      while (!isOver) answers.push(await gateway.infer("m"));
    })();
    load.catch(() => isOver = true);
    for (let turn = 0; turn < 10; turn++) {
      const { id } = turn % 2 === 0 ? b : a;
      await Deno.writeTextFile(`${file}.new`, id);
      await Deno.rename(`${file}.new`, file);
      await until(() => isOver || answers.at(-1) === id, "requests go to the other worker");
    }
    isOver = true;
    await load;
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a worker that a file renames has series of its new name only", async () => {
  await using worker = await FakeWorker.start();
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, `${worker.id} - one`);
    await using gateway = await startTestGateway({ endpoints: [`file:${file}`] });
    const names = async () => {
      await gateway.infer("m");
      const { body } = await gateway.http("/metrics");
      const found = body.matchAll(/^gateway_worker_latency_seconds_count\{.*worker="(\w+)"/gm);
      return Array.from(found, ([, name]) => name).join();
    };
    assert.equal(await names(), "one");
    await Deno.writeTextFile(file, `${worker.id} - two`);
    await until(async () => await names() === "two", "the series of the old name are gone");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a name that resolves is followed", async () => {
  await using worker = await FakeWorker.start();
  await using gateway = await startTestGateway({ endpoints: [`dns:127.0.0.1:${worker.port}`] });
  assert.equal(await gateway.infer("m"), worker.id);
});

Deno.test("/metrics holds the workers' series once per family, and bounds those that are slow", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  const exposition = (worker: string) =>
    `# HELP worker_x X.\n# TYPE worker_x gauge\nworker_x{worker="${worker}"} 1\n`;
  const serve = (answer: () => Response | Promise<Response>) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer);
  await using up = serve(() => new Response(exposition("a")));
  await using broken = serve(() => new Response("no", { status: 500 }));
  const yaml = [
    `metrics_endpoints: ["127.0.0.1:${up.addr.port}", "127.0.0.1:${broken.addr.port}"]`,
    "worker_names: [one, two]",
  ].join("\n");
  await using gateway = await startTestGateway({ endpoints: [a.id, b.id], yaml });
  await gateway.infer("m");
  const { body, status } = await gateway.http("/metrics?x=1");
  assert.equal(status, 200);
  assert.match(body, /^worker_x\{worker="a"\} 1$/m);
  const label = (name: string, port: number) => `{worker="${name}",endpoint="127.0.0.1:${port}"}`;
  assert.ok(body.includes(`gateway_worker_metrics_up${label("one", up.addr.port)} 1`));
  assert.ok(body.includes(`gateway_worker_metrics_up${label("two", broken.addr.port)} 0`));
  assert.match(
    body,
    /^gateway_request_latency_seconds_bucket\{rpc="ModelInfer",model="m",le="8.192"\} 1$/m,
  );
  assert.match(
    body,
    /^gateway_worker_latency_seconds_count\{rpc="ModelInfer",worker="(one|two)"\} 1$/m,
  );
  assert.match(body, /^gateway_requests_total\{rpc="ModelInfer",model="m",status="OK"\} 1$/m);
  assert.match(body, /^gateway_routing_table_size 1$/m);
  for (const kind of ["HELP", "TYPE"]) {
    const headers = body.split("\n").filter((line) => line.startsWith(`# ${kind}`));
    assert.equal(new Set(headers).size, headers.length);
  }
});

Deno.test("lpt_packing waits for every worker with open ports, then serves", async () => {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  b.isReady = false;
  await using gateway = await startTestGateway({
    endpoints: [a.id, b.id],
    yaml: "scheduling: {mode: lpt_packing}\nworker_names: [one, two]",
    untilReady: false,
  });
  assert.equal((await gateway.http("/healthz")).status, 200);
  // Without a wait the first look decides.
  assert.equal(await gateway.exit, 1);
  assert.ok(gateway.lines.some((line) => /needs every worker, and two did not/.test(line)));
});

Deno.test("lpt_packing refuses workers that share by themselves, for good", async () => {
  await using worker = await FakeWorker.start();
  worker.discipline = "fair";
  await using gateway = await startTestGateway({
    endpoints: [worker.id],
    yaml: "scheduling: {mode: lpt_packing}\nworker_names: [one]",
    untilReady: false,
  });
  await assert.rejects(gateway.exit, (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /worker one \(127\.0\.0\.1:\d+\) runs .*fair.*needs fifo or edf/);
    return true;
  });
});

Deno.test("lpt_packing routes when its fleet is complete, and shows where", async () => {
  await using a = await FakeWorker.start({ models: ["m", "n"] });
  await using b = await FakeWorker.start({ models: ["m", "n"] });
  await using gateway = await startTestGateway({
    endpoints: [a.id, b.id],
    yaml: "scheduling: {mode: lpt_packing}\nworker_names: [one, two]",
  });
  for (const model of ["m", "n", "m", "n"]) {
    assert.ok([a.id, b.id].includes(await gateway.infer(model)));
  }
  const { body } = await gateway.http("/metrics");
  assert.match(body, /^gateway_model_replicas\{model="m"\} 1$/m);
  assert.match(body, /^gateway_repacks_total\{trigger="startup"\} 1$/m);
  assert.match(body, /^gateway_replica_routed_total\{model="n",worker="(one|two)"\} 2$/m);
});

Deno.test("an address that is taken stops the start with its name", async () => {
  await using worker = await FakeWorker.start();
  await assert.rejects(
    startTestGateway({ endpoints: [worker.id], yaml: `tls: {cert_file: /no/c, key_file: /no/k}` }),
    /tls\.cert_file: "\/no\/c" cannot be read/,
  );
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  await assert.rejects(gateway.client.unary(INFER, inferRequest("x")), { status: "NOT_FOUND" });
});

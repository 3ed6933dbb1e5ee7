import assert from "node:assert/strict";
import { ResourceExhaustedError } from "../errors.ts";
import {
  CompactMemoryRequestSchema,
  CompactMemoryResponseSchema,
  ControlService,
  decodeResponse,
  encodeMessage,
  GRPCInferenceService,
  IsSameIPCNamespaceRequestSchema,
  IsSameIPCNamespaceResponseSchema,
  methodPath,
  SystemSharedMemoryRegisterRequestSchema,
  SystemSharedMemoryStatusRequestSchema,
  SystemSharedMemoryStatusResponseSchema,
  SystemSharedMemoryUnregisterRequestSchema,
} from "../protocol/mod.ts";
import { FakeWorker, startTestGateway, type TestGateway, until } from "./testing.ts";

const SERVICE = GRPCInferenceService.method;

async function register(gateway: TestGateway, name: string, key: string): Promise<void> {
  await gateway.client.unary(
    methodPath(SERVICE.systemSharedMemoryRegister),
    encodeMessage(SystemSharedMemoryRegisterRequestSchema, { name, key, byteSize: 8n }),
  );
}

async function unregister(gateway: TestGateway, name: string): Promise<void> {
  await gateway.client.unary(
    methodPath(SERVICE.systemSharedMemoryUnregister),
    encodeMessage(SystemSharedMemoryUnregisterRequestSchema, { name }),
  );
}

async function status(gateway: TestGateway, name = ""): Promise<string[]> {
  const { message } = await gateway.client.unary(
    methodPath(SERVICE.systemSharedMemoryStatus),
    encodeMessage(SystemSharedMemoryStatusRequestSchema, { name }),
  );
  return Object.keys(decodeResponse(SystemSharedMemoryStatusResponseSchema, message).regions);
}

/** Three workers that are all up, and a gateway. */
async function withThree(
  body: (workers: [FakeWorker, FakeWorker, FakeWorker], gateway: TestGateway) => Promise<void>,
): Promise<void> {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  await using c = await FakeWorker.start();
  await using gateway = await startTestGateway({ endpoints: [a.id, b.id, c.id] });
  const up = async () =>
    (await gateway.http("/metrics")).body.match(/^gateway_worker_ready.* 1$/gm);
  await until(async () => (await up())?.length === 3, "three workers");
  await body([a, b, c], gateway);
}

Deno.test("a region is registered on every worker and unregistered on every worker", () =>
  withThree(async (workers, gateway) => {
    await register(gateway, "r", "/one");
    await register(gateway, "s", "/two");
    for (const { regions } of workers) assert.equal(regions.get("r"), "/one");
    assert.deepEqual(await status(gateway), ["r", "s"]);
    await unregister(gateway, "r");
    for (const { regions } of workers) assert.deepEqual([...regions.keys()], ["s"]);
    // One that not every worker has is none that can be used.
    workers[1].regions.delete("s");
    assert.deepEqual(await status(gateway), []);
    await assert.rejects(register(gateway, "", "/x"), { status: "INVALID_ARGUMENT" });
    // The name of a region is never a label.
    assert.ok(!(await gateway.http("/metrics")).body.includes('"r"'));
  }));

Deno.test("a region that one worker refuses is rolled back on the others", () =>
  withThree(async (workers, gateway) => {
    await register(gateway, "old", "/old");
    workers[2].before = (path) => {
      if (path.endsWith("MemoryRegister")) throw new ResourceExhaustedError("no room");
    };
    await assert.rejects(
      register(gateway, "r", "/one"),
      { status: "FAILED_PRECONDITION", message: /1 of 3 workers.*127.*no room/ },
    );
    for (const { regions } of workers) assert.deepEqual([...regions], [["old", "/old"]]);
    // What a name meant before, it means again.
    await assert.rejects(register(gateway, "old", "/new"), { status: "FAILED_PRECONDITION" });
    for (const { regions } of workers) assert.deepEqual([...regions], [["old", "/old"]]);
  }));

Deno.test("a worker that was late with a region is rolled back, too", () =>
  withThree(async (workers, gateway) => {
    const late = Promise.withResolvers<void>();
    // It has done it, and does not get round to saying so.
    workers[0].before = (path) => {
      if (!path.endsWith("MemoryRegister")) return;
      workers[0].regions.set("r", "/one");
      return late.promise;
    };
    const call = gateway.client.unary(
      methodPath(SERVICE.systemSharedMemoryRegister),
      encodeMessage(SystemSharedMemoryRegisterRequestSchema, { name: "r", key: "/one" }),
      { deadlineMs: performance.now() + 100 },
    );
    await assert.rejects(call, { status: "DEADLINE_EXCEEDED" });
    for (const { regions } of workers) await until(() => !regions.has("r"), "the rollback");
    workers[0].before = () => {};
    late.resolve();
  }));

Deno.test("unregistering everything leaves alone what others registered at a worker", () =>
  withThree(async (workers, gateway) => {
    await register(gateway, "r", "/one");
    await register(gateway, "s", "/two");
    workers[0].regions.set("direct", "/three");
    await unregister(gateway, "");
    assert.deepEqual(workers.map(({ regions }) => [...regions.keys()]), [["direct"], [], []]);
  }));

Deno.test("a worker that comes back has the regions before it has requests", () =>
  withThree(async ([a, b, c], gateway) => {
    await register(gateway, "r", "/one");
    await register(gateway, "gone", "/two");
    await c.kill();
    await until(() => gateway.lines.some((line) => /state=failed/.test(line)), "ejection");
    // Registering goes on without it.
    await register(gateway, "s", "/three");
    await unregister(gateway, "gone");
    let inferredWithout = 0;
    const answered = c.infer;
    c.infer = (message, call) => {
      if (!c.regions.has("r") || !c.regions.has("s")) inferredWithout++;
      return answered(message, call);
    };
    await c.revive();
    await until(async () => await gateway.infer("m") === c.id, "requests reach it");
    assert.equal(inferredWithout, 0);
    assert.deepEqual([...c.regions.keys()].sort(), ["r", "s"]);
    assert.deepEqual([...a.regions.keys()].sort(), ["r", "s"]);
    assert.deepEqual([...b.regions.keys()].sort(), ["r", "s"]);
  }));

Deno.test("inference waits while a worker's regions change, through overlapping changes", async () => {
  await using worker = await FakeWorker.start();
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  const changes = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let begun = 0;
  worker.before = (path) => path.endsWith("MemoryRegister") ? changes[begun++]!.promise : undefined;
  const first = register(gateway, "r", "/one");
  const second = register(gateway, "s", "/two");
  await until(() => begun === 2, "both changes");
  let isAnswered = false;
  const inference = gateway.infer("m").then(() => isAnswered = true);
  changes[0]!.resolve();
  await first;
  // A round trip later the inference is still held back.
  await gateway.http("/readyz");
  assert.equal(worker.inferred, 0);
  assert.equal(isAnswered, false);
  changes[1]!.resolve();
  await second;
  await inference;
  assert.equal(worker.inferred, 1);
});

Deno.test("IsSameIPCNamespace is true only if it is for every worker", () =>
  withThree(async (workers, gateway) => {
    const ask = async () => {
      const { message } = await gateway.client.unary(
        methodPath(SERVICE.isSameIPCNamespace),
        encodeMessage(IsSameIPCNamespaceRequestSchema, { name: "/probe" }),
      );
      return decodeResponse(IsSameIPCNamespaceResponseSchema, message).same;
    };
    assert.equal(await ask(), true);
    workers[1].before = (path) => {
      if (path.endsWith("Namespace")) throw new ResourceExhaustedError("no");
    };
    assert.equal(await ask(), false);
  }));

Deno.test("CompactMemory goes to every worker and adds up, without those that fail", () =>
  withThree(async (workers, gateway) => {
    const compact = async () => {
      const { message } = await gateway.client.unary(
        methodPath(ControlService.method.compactMemory),
        encodeMessage(CompactMemoryRequestSchema, { reloadModels: ["a", "b"] }),
      );
      return decodeResponse(CompactMemoryResponseSchema, message).reloadedModels;
    };
    const refuse = (path: string) => {
      if (path.endsWith("CompactMemory")) throw new ResourceExhaustedError("busy");
    };
    assert.equal(await compact(), 6n);
    workers[0].before = refuse;
    assert.equal(await compact(), 4n);
    for (const worker of workers) worker.before = refuse;
    await assert.rejects(compact(), { status: "UNAVAILABLE", message: /busy/ });
    assert.deepEqual(workers[1].compacted, [["a", "b"], ["a", "b"]]);
  }));

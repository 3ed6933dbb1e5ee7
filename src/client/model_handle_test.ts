import assert from "node:assert/strict";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CancelledError,
  DeadlineExceededError,
  FailedPreconditionError,
  NotFoundError,
  ServerError,
  UnavailableError,
} from "../errors.ts";
import {
  decodeInferRequest,
  encodeInferResponse,
  encodeMessage,
  IsSameIPCNamespaceRequestSchema,
  IsSameIPCNamespaceResponseSchema,
  remainingBudgetMs,
  requestTensors,
  sharedMemoryReference,
  SystemSharedMemoryRegisterRequestSchema,
  SystemSharedMemoryRegisterResponseSchema,
  SystemSharedMemoryUnregisterResponseSchema,
} from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { Message } from "../transport/mod.ts";
import { InferenceClient } from "./model.ts";
import { ModelHandle } from "./model_handle.ts";
import { NO_RETRIES, type RetryClock, systemRetryClock } from "./retry.ts";
import { SharedMemoryPool } from "./shared_memory_pool.ts";
import { type SharedMemoryMode, SharedMemoryRoute } from "./shared_memory_route.ts";

/**
 * A server in the same process that doubles bytes. It maps nothing: it reads and writes regions as files
 * under /dev/shm, which is what they are.
 */
class Doubler {
  readonly calls: string[] = [];
  /** `undefined`: the RPC is not implemented. */
  isSame: boolean | undefined = true;
  canRegister = true;
  isDown = 0;
  readonly budgets: (number | undefined)[] = [];
  #registered: string | undefined;

  readonly inference = new InferenceClient((path, message) => {
    const method = path.slice(path.lastIndexOf("/") + 1);
    this.calls.push(method);
    return Promise.resolve().then(() => this.#answer(method, message));
  });

  /** As a restart would. */
  forget(): void {
    this.#registered = undefined;
  }

  #answer(method: string, message: Message): Message {
    const bytes = new Uint8Array(message.flatMap((chunk) => [...chunk]));
    switch (method) {
      case "IsSameIPCNamespace": {
        if (this.isSame === undefined) throw new ServerError("UNIMPLEMENTED", "no such method");
        const { name } = fromBinary(IsSameIPCNamespaceRequestSchema, bytes);
        assert.ok(Deno.statSync(`/dev/shm${name}`).isFile);
        return encodeMessage(IsSameIPCNamespaceResponseSchema, { same: this.isSame });
      }
      case "SystemSharedMemoryRegister": {
        if (!this.canRegister) throw new ServerError("INVALID_ARGUMENT", "cannot be opened");
        const { name, key, byteSize } = fromBinary(SystemSharedMemoryRegisterRequestSchema, bytes);
        assert.equal(key, `/${name}`);
        assert.equal(Number(byteSize), Deno.statSync(`/dev/shm${key}`).size);
        this.#registered = name;
        return encodeMessage(SystemSharedMemoryRegisterResponseSchema, {});
      }
      case "SystemSharedMemoryUnregister":
        this.#registered = undefined;
        return [toBinary(
          SystemSharedMemoryUnregisterResponseSchema,
          { $typeName: "inference.SystemSharedMemoryUnregisterResponse" },
        )];
      default:
        return this.#infer(message);
    }
  }

  #infer(message: Message): Message {
    if (this.isDown-- > 0) throw new UnavailableError("down");
    const request = decodeInferRequest(message);
    this.budgets.push(remainingBudgetMs(request.parameters));
    const file = (region: string) => {
      if (region !== this.#registered) {
        throw new FailedPreconditionError(`unregistered shared memory region: ${region}`);
      }
      return `/dev/shm/${region}`;
    };
    const [input] = requestTensors(request, {
      read: ({ region, offset, byteSize }) =>
        Deno.readFileSync(file(region)).slice(offset, offset + byteSize),
    });
    const data = input!.data.map((byte) => 2 * byte);
    const wanted = request.outputs[0];
    const place = wanted && sharedMemoryReference(wanted.parameters, "y");
    if (place) {
      using target = Deno.openSync(file(place.region), { write: true });
      target.seekSync(place.offset, Deno.SeekMode.Start);
      target.writeSync(data);
    }
    return encodeInferResponse({
      modelName: request.modelName,
      outputs: [{
        name: "y",
        datatype: "UINT8",
        shape: [data.length],
        data: place ? undefined : data,
        parameters: place ? wanted.parameters : undefined,
      }],
    });
  }
}

const INPUT: NamedTensor = {
  name: "x",
  datatype: "UINT8",
  shape: [3],
  data: Uint8Array.of(1, 2, 3),
};
const CALL = { inputs: [INPUT], outputs: [{ name: "y", byteSize: 3 }] };

function setUp(mode?: SharedMemoryMode, reprobeMs = 0) {
  const server = new Doubler();
  const pool = new SharedMemoryPool({ byteLength: 4096, slots: 4, baseName: "test" });
  const route = new SharedMemoryRoute({ inference: server.inference, pool, mode, reprobeMs });
  const handle = new ModelHandle({ inference: server.inference, name: "double", memory: route });
  return {
    server,
    pool,
    route,
    handle,
    async [Symbol.asyncDispose]() {
      await route[Symbol.asyncDispose]();
      pool[Symbol.dispose]();
    },
  };
}

async function doubled(handle: ModelHandle): Promise<void> {
  const { outputs } = await handle.infer(CALL);
  assert.deepEqual(outputs.map(({ name, data }) => [name, [...data]]), [["y", [2, 4, 6]]]);
}

Deno.test("infer() puts tensors in shared memory, after one probe for all first callers", async () => {
  await using set = setUp();
  await Promise.all(Array.from({ length: 8 }, () => doubled(set.handle)));
  assert.deepEqual(set.server.calls.slice(0, 3), [
    "IsSameIPCNamespace",
    "SystemSharedMemoryUnregister",
    "SystemSharedMemoryRegister",
  ]);
  assert.deepEqual(set.server.calls.slice(3), new Array(8).fill("ModelInfer"));
  assert.equal(set.route.generation, 1);
});

Deno.test("the choice of the way follows mode and what the server says", async () => {
  const cases: readonly [SharedMemoryMode, boolean | undefined, boolean | "error"][] = [
    ["auto", true, true],
    ["auto", false, false],
    ["auto", undefined, false],
    ["on", true, true],
    ["on", false, "error"],
    ["on", undefined, true],
    ["off", true, false],
  ];
  for (const [mode, isSame, expected] of cases) {
    await using set = setUp(mode);
    set.server.isSame = isSame;
    if (expected === "error") {
      await assert.rejects(set.handle.infer(CALL), /does not see this process's shared memory/);
      continue;
    }
    await doubled(set.handle);
    assert.equal(await set.route.isUsable(), expected, `${mode} ${isSame}`);
    assert.equal(set.server.calls.includes("IsSameIPCNamespace"), mode !== "off");
  }
});

Deno.test("a server that forgot the region is told again, once for all who notice", async () => {
  await using set = setUp();
  await doubled(set.handle);
  set.server.forget();
  await Promise.all(Array.from({ length: 4 }, () => doubled(set.handle)));
  assert.equal(set.route.generation, 2);
  assert.equal(await set.route.isUsable(), true);
});

Deno.test("a server that cannot be told again is served inline, until a probe succeeds", async () => {
  await using set = setUp("auto", 1);
  await doubled(set.handle);
  set.server.forget();
  set.server.canRegister = false;
  await doubled(set.handle);
  assert.equal(await set.route.isUsable(), false);
  set.server.canRegister = true;
  while (!await set.route.isUsable()) await new Promise((resolve) => setTimeout(resolve, 1));
  await doubled(set.handle);
});

Deno.test("attempts carry what is left of the deadline; without one there is no limit", async () => {
  await using set = setUp("off");
  let nowMs = 0;
  const clock: RetryClock = {
    ...systemRetryClock,
    now: () => nowMs,
    random: () => 1,
    sleep: (ms) => Promise.resolve(void (nowMs += ms)),
  };
  const { inference } = set.server;
  set.server.isDown = 1;
  await doubled(new ModelHandle({ inference, name: "double", clock }));
  const [budgetMs] = set.server.budgets;
  assert.ok(budgetMs! > 0 && budgetMs! <= 9000, `${budgetMs}`);
  await doubled(new ModelHandle({ inference, name: "double", deadlineMs: 0 }));
  assert.equal(set.server.budgets[1], undefined);
});

Deno.test("slots are given back after failures that are over, and the pool leaves no object", async () => {
  const { pool, route, handle } = setUp();
  const object = `/dev/shm${pool.key}`;
  assert.ok(Deno.statSync(object).isFile);
  await doubled(handle);
  const failing = new InferenceClient(() => Promise.reject(new NotFoundError("no such model")));
  const broken = new ModelHandle({ inference: failing, name: "none", memory: route });
  for (let attempt = 0; attempt < 10; attempt++) {
    await assert.rejects(broken.infer(CALL), NotFoundError);
  }
  await doubled(handle);
  await route[Symbol.asyncDispose]();
  pool[Symbol.dispose]();
  assert.throws(() => Deno.statSync(object), Deno.errors.NotFound);
});

Deno.test("tensors larger than the pool fail at once", async () => {
  await using set = setUp();
  const data = new Uint8Array(8192);
  await assert.rejects(
    set.handle.infer({ inputs: [{ ...INPUT, shape: [8192], data }] }),
    /8192 bytes do not fit the shared-memory pool of 4 slots of 1024 bytes/,
  );
});

Deno.test("a pool that memory has no room for is refused, and leaves no object", () => {
  const objects = () =>
    [...Deno.readDirSync("/dev/shm")].filter(({ name }) => name.startsWith("shm-toolarge-"));
  assert.throws(
    () => new SharedMemoryPool({ byteLength: 2 ** 45, slots: 1, baseName: "toolarge" }),
    /There are no 35184372088832 bytes of shared memory to be had in \/dev\/shm: \d+ are left/,
  );
  assert.deepEqual(objects(), []);
});

Deno.test("a call waits no longer for the pool than its deadline", async () => {
  await using set = setUp("on");
  using _all = await set.pool.acquire(4096);
  const handle = new ModelHandle({
    inference: set.server.inference,
    name: "double",
    memory: set.route,
    deadlineMs: 20,
    retry: NO_RETRIES,
  });
  await assert.rejects(handle.infer(CALL), DeadlineExceededError);
});

Deno.test("the region is taken back from a server whose registration was cut off", async () => {
  const calls: string[] = [];
  const reached = Promise.withResolvers<void>();
  // It registers, but its answer is not heard.
  const inference = new InferenceClient((path, _message, { signal }) => {
    calls.push(path.split("/").at(-1)!);
    if (path.endsWith("IsSameIPCNamespace")) {
      return Promise.reject(new ServerError("UNIMPLEMENTED", "what?"));
    }
    if (!path.endsWith("Register")) return Promise.resolve([]);
    reached.resolve();
    return new Promise((_resolve, reject) =>
      signal!.addEventListener("abort", () => reject(new CancelledError("cut")))
    );
  });
  using pool = new SharedMemoryPool({ byteLength: 4096, slots: 4, baseName: "test" });
  const route = new SharedMemoryRoute({ inference, pool, mode: "on" });
  const asking = assert.rejects(route.isUsable(), CancelledError);
  await reached.promise;
  await route[Symbol.asyncDispose]();
  await asking;
  assert.deepEqual(calls.slice(-2), [
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
  ]);
});

Deno.test("tensors that fill the pool to the last byte fit it, without the room between them", async () => {
  await using set = setUp("on");
  const data = Uint8Array.from({ length: 2047 }, (_, at) => at % 100);
  // 2047 and 2049 bytes in 4096: aligned they would take 4160.
  const { outputs } = await set.handle.infer({
    inputs: [{ ...INPUT, shape: [data.length], data }],
    outputs: [{ name: "y", byteSize: data.length + 2 }],
  });
  assert.deepEqual(outputs[0]!.data.subarray(0, data.length), data.map((byte) => 2 * byte));
});

/** For tests: workers whose answers are scripted, and a gateway in this process in front of them. */

import { resolveGatewayConfig } from "../config/mod.ts";
import { Logger } from "../log.ts";
import type { ChildAddresses, ChildState } from "../parent_link.ts";
import {
  CompactMemoryRequestSchema,
  ControlService,
  decodeRequest,
  encodeMessage,
  GRPCInferenceService,
  methodPath,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  SystemSharedMemoryRegisterRequestSchema,
  SystemSharedMemoryUnregisterRequestSchema,
} from "../protocol/mod.ts";
import {
  type CallContext,
  GrpcClient,
  type GrpcServer,
  type Message,
  type MethodHandler,
  serveGrpc,
  type ServerOptions,
} from "../transport/mod.ts";
import { runGateway } from "./gateway.ts";
import { localMethod } from "./worker_rpc.ts";

const SERVICE = GRPCInferenceService.method;
export const INFER = methodPath(SERVICE.modelInfer);

/** A worker that says what a test wants it to say. */
export class FakeWorker implements AsyncDisposable {
  isReady = true;
  /** Ready or not, by name. */
  readonly models = new Map<string, boolean>();
  discipline = "fifo";
  /** What it calls itself. */
  name = "";
  /** Answers ModelInfer; the default echoes the id and names this worker. */
  infer: (message: Message, call: CallContext) => Message | Promise<Message>;
  /** Runs before every call except ModelInfer; may wait or throw. */
  before: (path: string) => void | Promise<void> = () => {};
  /** Regions by name, with their keys. */
  readonly regions = new Map<string, string>();
  readonly compacted: string[][] = [];
  /** ModelInfer calls that began, are in progress, and were in progress at most. */
  inferred = 0;
  active = 0;
  mostActive = 0;

  #server: GrpcServer;

  private constructor(server: GrpcServer) {
    this.#server = server;
    this.infer = (message) => answer(message, this.id);
  }

  /** Starts one on a free port. */
  static async start(
    options: { readonly models?: readonly string[]; readonly tls?: ServerOptions["tls"] } = {},
  ): Promise<FakeWorker> {
    const self: { worker?: FakeWorker } = {};
    const worker = new FakeWorker(await listen(0, () => self.worker!, options.tls));
    self.worker = worker;
    for (const model of options.models ?? ["m"]) worker.models.set(model, true);
    return worker;
  }

  get port(): number {
    return this.#server.port;
  }

  get id(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Cuts every connection and listens no more, as a process does that is killed. */
  async kill(): Promise<void> {
    this.regions.clear();
    await this.#server.shutdown(0);
  }

  /** Listens again on the same port. */
  async revive(): Promise<void> {
    this.#server = await listen(this.port, () => this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown(0);
  }
}

/** A response with the id of the request, which says who gave it. */
export function answer(message: Message, worker: string): Message {
  const { modelName, id } = decodeRequest(ModelInferRequestSchema, message);
  return encodeMessage(ModelInferResponseSchema, { modelName, id, modelVersion: worker });
}

function listen(
  port: number,
  self: () => FakeWorker,
  tls?: ServerOptions["tls"],
): Promise<GrpcServer> {
  const scripted = ([path, handler]: [string, MethodHandler]): [string, MethodHandler] => {
    if (handler.kind !== "unary") throw new TypeError(`${path} is not unary`);
    return [path, {
      kind: "unary",
      handle: async (message, call) => {
        await self().before(path);
        return await handler.handle(message, call);
      },
    }];
  };
  const methods = new Map<string, MethodHandler>([
    [INFER, {
      kind: "unary",
      handle: async (message, call) => {
        const worker = self();
        worker.inferred++;
        worker.mostActive = Math.max(worker.mostActive, ++worker.active);
        try {
          return await worker.infer(message, call);
        } finally {
          worker.active--;
        }
      },
    }],
    scripted(localMethod(SERVICE.serverReady, () => ({ ready: self().isReady }))),
    scripted(localMethod(SERVICE.repositoryIndex, () => ({
      models: Array.from(self().models, ([name, isReady]) => ({
        name,
        state: isReady ? "READY" : "UNAVAILABLE",
        reason: isReady ? "" : "still compiling",
      })),
    }))),
    scripted(localMethod(SERVICE.modelMetadata, ({ name }) => ({ name, platform: self().id }))),
    scripted(localMethod(SERVICE.isSameIPCNamespace, () => ({ same: true }))),
    scripted(localMethod(SERVICE.systemSharedMemoryStatus, () => ({
      regions: Object.fromEntries(
        Array.from(self().regions, ([name, key]) => [name, { name, key }]),
      ),
    }))),
    scripted([methodPath(SERVICE.systemSharedMemoryRegister), {
      kind: "unary",
      handle: (message) => {
        const { name, key } = decodeRequest(SystemSharedMemoryRegisterRequestSchema, message);
        self().regions.set(name, key);
        return [];
      },
    }]),
    scripted([methodPath(SERVICE.systemSharedMemoryUnregister), {
      kind: "unary",
      handle: (message) => {
        const { name } = decodeRequest(SystemSharedMemoryUnregisterRequestSchema, message);
        if (name === "") self().regions.clear();
        else self().regions.delete(name);
        return [];
      },
    }]),
    scripted(localMethod(ControlService.method.modelControlStatus, () => ({
      discipline: self().discipline,
      workerName: self().name,
      models: Array.from(self().models.keys(), (name) => ({ name, weightNbytes: 1n })),
    }))),
    scripted([methodPath(ControlService.method.compactMemory), {
      kind: "unary",
      handle: (message) => {
        self().compacted.push(decodeRequest(CompactMemoryRequestSchema, message).reloadModels);
        return [Uint8Array.of(8, 2)];
      },
    }]),
  ]);
  return serveGrpc({
    transport: "native",
    hostname: "127.0.0.1",
    port,
    methods,
    ...(tls && { tls }),
    maxReceiveBytes: 2 ** 29,
    maxSendBytes: 2 ** 29,
  });
}

/** A gateway in this process. */
export interface TestGateway extends AsyncDisposable {
  readonly grpcPort: number;
  /** Speaks cleartext. */
  readonly client: GrpcClient;
  /** What it logged. */
  readonly lines: string[];
  /** States reported to the supervisor. */
  readonly states: ChildState[];
  /** GETs a path of the admin port. */
  http(path: string): Promise<{ readonly status: number; readonly body: string }>;
  /** Calls ModelInfer; resolves with the worker that answered. */
  infer(model: string, id?: string): Promise<string>;
  /** Ends it as the loss of the supervisor does; resolves with its exit code. */
  stop(): Promise<number>;
  readonly exit: Promise<number>;
}

/** Starts a gateway for these workers; `yaml` adds to its file. Resolves when its ports are open. */
export async function startTestGateway(options: {
  readonly endpoints: readonly string[];
  readonly yaml?: string;
  /** Wait until requests are answered. Default true. */
  readonly untilReady?: boolean;
}): Promise<TestGateway> {
  const text = [
    `endpoints: ${JSON.stringify(options.endpoints)}`,
    'listen: {grpc: "127.0.0.1:0", metrics: "127.0.0.1:0"}',
    "discovery: {health_interval_seconds: 0.05, membership_interval_seconds: 0.05}",
    options.yaml ?? "",
  ].join("\n");
  const { config } = resolveGatewayConfig({ file: { name: "gateway.yml", text } });
  const lines: string[] = [];
  const states: ChildState[] = [];
  const listening = Promise.withResolvers<ChildAddresses>();
  const gone = Promise.withResolvers<void>();
  const exit = runGateway({
    config,
    logger: new Logger({ level: "debug", write: (line) => lines.push(line) }),
    link: {
      report: (state, addresses) => {
        states.push(state);
        if (state === "listening") listening.resolve(addresses!);
      },
      closed: gone.promise,
      [Symbol.dispose]: () => {},
    },
  });
  exit.catch(listening.reject);
  const { grpc, http } = await listening.promise;
  const client = new GrpcClient({ target: grpc!, maxReceiveBytes: 2 ** 29 });
  const stop = async () => {
    await client.close();
    gone.resolve();
    return await exit;
  };
  const gateway: TestGateway = {
    grpcPort: Number(grpc!.split(":").at(-1)),
    client,
    lines,
    states,
    exit,
    stop,
    async http(path) {
      const response = await fetch(`http://${http}${path}`);
      return { status: response.status, body: await response.text() };
    },
    async infer(model, id = "") {
      const { message } = await client.unary(INFER, inferRequest(model, id));
      return decodeRequest(ModelInferResponseSchema, message).modelVersion;
    },
    async [Symbol.asyncDispose]() {
      // One that failed by itself has told whoever waited for `exit`.
      await stop().catch(() => {});
    },
  };
  if (options.untilReady ?? true) await until(() => states.at(-1) === "ready", "ready");
  return gateway;
}

/** A request for a model, with nothing in it. */
export function inferRequest(modelName: string, id = ""): Message {
  return encodeMessage(ModelInferRequestSchema, { modelName, id });
}

/** Resolves when a condition holds; there is no hurry, only an end to patience. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!await condition()) {
    if (performance.now() > endMs) throw new Error(`Never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * What concerns every worker at once: shared-memory regions, the IPC namespace, memory compaction.
 *
 * A region is registered on all workers that are up or on none. Those that come up later get what was
 * registered, before requests go there. Unregistering without a name forgets the regions that were
 * registered through this gateway; those that others registered at a worker directly stay.
 */

import { FailedPreconditionError, InvalidArgumentError, UnavailableError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { GatewayRpc } from "../metrics/mod.ts";
import {
  CompactMemoryRequestSchema,
  CompactMemoryResponseSchema,
  ControlService,
  decodeRequest,
  decodeResponse,
  encodeMessage,
  GRPCInferenceService,
  methodPath,
  quoted,
  SystemSharedMemoryRegisterRequestSchema,
  SystemSharedMemoryUnregisterRequestSchema,
  SystemSharedMemoryUnregisterResponseSchema,
} from "../protocol/mod.ts";
import type { CallContext, Message, MethodHandler, MethodTable } from "../transport/mod.ts";
import type { FleetWorker } from "./fleet_worker.ts";
import { FanOut, type Part } from "./fan_out.ts";
import { statusLabel } from "./infer_proxy.ts";
import { SharedRegions } from "./shared_regions.ts";
import type { WorkerPool } from "./worker_pool.ts";
import { askWorker, localMethod, QUESTION_TIMEOUT_MS } from "./worker_rpc.ts";

export interface BroadcastOptions {
  readonly pool: WorkerPool;
  readonly logger: Logger;
  readonly requestTimeoutMs: number;
  readonly requestEnded: (rpc: GatewayRpc, status: string, seconds: number | undefined) => void;
  readonly workerAnswered: (
    rpc: "SystemSharedMemory" | "CompactMemory",
    worker: FleetWorker,
    seconds: number,
  ) => void;
}

const INFERENCE = GRPCInferenceService.method;
const REGISTER = methodPath(INFERENCE.systemSharedMemoryRegister);
const UNREGISTER = methodPath(INFERENCE.systemSharedMemoryUnregister);
const COMPACT = methodPath(ControlService.method.compactMemory);
/** Reloading weights takes its time. */
const COMPACT_TIMEOUT_MS = 300_000;

export class Broadcast {
  readonly #options: BroadcastOptions;
  readonly #fanOut: FanOut;
  readonly #regions = new SharedRegions();

  constructor(options: BroadcastOptions) {
    this.#options = options;
    this.#fanOut = new FanOut((path, worker, seconds) =>
      options.workerAnswered(
        path === COMPACT ? "CompactMemory" : "SystemSharedMemory",
        worker,
        seconds,
      )
    );
  }

  /** The methods, by path. */
  methods(): MethodTable {
    return new Map<string, MethodHandler>([
      [REGISTER, this.#counted("SystemSharedMemoryRegister", (m, c) => this.#register(m, c))],
      [UNREGISTER, this.#counted("SystemSharedMemoryUnregister", (m, c) => this.#unregister(m, c))],
      [COMPACT, this.#counted("CompactMemory", (m) => this.#compact(m))],
      this.#sameNamespace(),
      localMethod(INFERENCE.systemSharedMemoryStatus, async ({ name }) => ({
        regions: await this.#status(name),
      })),
    ]);
  }

  /** Registers on one worker what is registered on the others. Never rejects. */
  async restore(worker: FleetWorker): Promise<void> {
    const entries = this.#regions.entries();
    if (entries.length === 0) return;
    const endMs = performance.now() + QUESTION_TIMEOUT_MS;
    const parts = await Promise.all(
      entries.map(([, request]) => this.#fanOut.call(worker, REGISTER, request, endMs)),
    );
    const failed = entries.filter((_, index) => parts[index]!.error !== undefined);
    this.#options.logger.info("regions registered again", {
      worker: worker.name,
      registered: entries.length - failed.length,
      failed: failed.length,
    });
  }

  /**
   * Has one worker free its memory and load these models again.
   * @throws {ServerError}
   */
  async compactWorker(worker: FleetWorker, reloadModels: readonly string[]): Promise<void> {
    const request = encodeMessage(CompactMemoryRequestSchema, { reloadModels: [...reloadModels] });
    const { error } = await this.#fanOut.call(worker, COMPACT, request, this.#compactDeadline());
    if (error !== undefined) throw error;
  }

  /** Workers that requests may go to. */
  #upWorkers(): FleetWorker[] {
    return this.#options.pool.workers.filter(({ health }) => health.isRoutable);
  }

  async #register(request: Message, call: CallContext): Promise<Message> {
    const { name } = decodeRequest(SystemSharedMemoryRegisterRequestSchema, request);
    if (name === "") throw new InvalidArgumentError("A shared-memory region needs a name");
    const workers = this.#upWorkers();
    if (workers.length === 0) throw new UnavailableError("No worker is up to register it with");
    const previous = this.#regions.get(name);
    const parts = await this.#fanOut.gated(workers, REGISTER, request, this.#deadlineOf(call));
    const failed = parts.filter(({ error }) => error !== undefined);
    if (failed.length === 0) {
      this.#regions.add(name, request);
      return parts[0]!.message!;
    }
    await this.#rollBack(name, previous, parts);
    const reasons = failed.map(({ worker, error }) => `${worker.id}: ${error!.message}`).join("; ");
    throw new FailedPreconditionError(
      `Shared-memory region ${quoted(name)} could not be registered on ${failed.length} of ` +
        `${workers.length} workers, and now is on none: ${reasons}`,
    );
  }

  /** Takes back what was done, also where it may have been: a worker that answers late has it, too. */
  async #rollBack(name: string, previous: Message | undefined, parts: Part[]): Promise<void> {
    const workers = parts.filter(({ mayBeDone }) => mayBeDone).map(({ worker }) => worker);
    const request = previous ??
      encodeMessage(SystemSharedMemoryUnregisterRequestSchema, { name });
    const path = previous === undefined ? UNREGISTER : REGISTER;
    const endMs = performance.now() + QUESTION_TIMEOUT_MS;
    const undone = await this.#fanOut.gated(workers, path, request, endMs);
    for (const { worker, error } of undone) {
      if (error === undefined) continue;
      this.#options.logger.warn("a region could not be rolled back", {
        worker: worker.name,
        error: error.message,
      });
    }
  }

  async #unregister(request: Message, call: CallContext): Promise<Message> {
    const { name } = decodeRequest(SystemSharedMemoryUnregisterRequestSchema, request);
    const endMs = this.#deadlineOf(call);
    if (name !== "") return await this.#unregisterOne(request, name, endMs);
    const names = this.#regions.entries().map(([each]) => each);
    await Promise.all(names.map((each) =>
      this.#unregisterOne(
        encodeMessage(SystemSharedMemoryUnregisterRequestSchema, { name: each }),
        each,
        endMs,
      )
    ));
    return encodeMessage(SystemSharedMemoryUnregisterResponseSchema, {});
  }

  async #unregisterOne(request: Message, name: string, endMs: number): Promise<Message> {
    // Whatever the workers say: nobody shall have it restored.
    this.#regions.delete(name);
    const workers = this.#upWorkers();
    const parts = await this.#fanOut.gated(workers, UNREGISTER, request, endMs);
    const done = parts.find(({ error }) => error === undefined);
    for (const { worker, error } of parts) {
      if (error === undefined) continue;
      this.#options.logger.warn("a region could not be unregistered", {
        worker: worker.name,
        error: error.message,
      });
    }
    if (done !== undefined) return done.message!;
    const reason = parts[0]?.error?.message ?? "no worker is up";
    throw new UnavailableError(
      `Shared-memory region ${quoted(name)} was unregistered nowhere: ${reason}`,
    );
  }

  /** Regions that every worker has, and has alike: only those serve wherever a request goes. */
  async #status(name: string) {
    const workers = this.#upWorkers();
    if (workers.length === 0) throw new UnavailableError("No worker is up to be asked");
    const answers = await Promise.all(
      workers.map((worker) => askWorker(worker, INFERENCE.systemSharedMemoryStatus, { name })),
    );
    const [first, ...others] = answers.map(({ regions }) => regions);
    return Object.fromEntries(
      Object.entries(first!).filter(([each, { key, offset, byteSize }]) =>
        others.every((regions) => {
          const other = Object.hasOwn(regions, each) ? regions[each] : undefined;
          return other?.key === key && other.offset === offset && other.byteSize === byteSize;
        })
      ),
    );
  }

  #sameNamespace(): [string, MethodHandler] {
    const [path, handler] = localMethod(INFERENCE.isSameIPCNamespace, async ({ name }) => {
      const workers = this.#upWorkers();
      const answers = await Promise.all(
        workers.map((worker) =>
          askWorker(worker, INFERENCE.isSameIPCNamespace, { name })
            .then(({ same }) => same, () => false)
        ),
      );
      return { same: answers.length > 0 && answers.every((same) => same) };
    });
    if (handler.kind !== "unary") throw new TypeError(`${path} is not unary`);
    const { handle } = handler;
    return [path, this.#counted("IsSameIPCNamespace", async (m, c) => await handle(m, c))];
  }

  async #compact(request: Message): Promise<Message> {
    decodeRequest(CompactMemoryRequestSchema, request);
    const workers = this.#upWorkers();
    const parts = await Promise.all(
      workers.map((worker) => this.#fanOut.call(worker, COMPACT, request, this.#compactDeadline())),
    );
    let reloadedModels = 0n;
    let done = 0;
    for (const { worker, message, error } of parts) {
      if (message !== undefined) {
        done++;
        reloadedModels += decodeResponse(CompactMemoryResponseSchema, message).reloadedModels;
      } else {
        this.#options.logger.warn("a worker did not compact", {
          worker: worker.name,
          error: error!.message,
        });
      }
    }
    if (done > 0) return encodeMessage(CompactMemoryResponseSchema, { reloadedModels });
    throw new UnavailableError(
      `No worker compacted its memory: ${parts[0]?.error?.message ?? "none is up"}`,
    );
  }

  /** The caller's deadline if that is nearer. A caller that leaves does not stop what it began. */
  #deadlineOf(call: CallContext): number {
    const own = performance.now() + this.#options.requestTimeoutMs;
    return Math.min(own, call.deadlineMs ?? Infinity);
  }

  #compactDeadline(): number {
    return performance.now() + Math.max(COMPACT_TIMEOUT_MS, this.#options.requestTimeoutMs);
  }

  #counted(
    rpc: GatewayRpc,
    handle: (message: Message, call: CallContext) => Promise<Message>,
  ): MethodHandler {
    return {
      kind: "unary",
      handle: async (message, call) => {
        const startMs = performance.now();
        let status = "OK";
        try {
          return await handle(message, call);
        } catch (error) {
          status = statusLabel(error);
          throw error;
        } finally {
          this.#options.requestEnded(rpc, status, (performance.now() - startMs) / 1000);
        }
      },
    };
  }
}

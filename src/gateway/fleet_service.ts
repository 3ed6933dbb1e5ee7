/** What a client may ask about the server and its models, answered from the fleet as one worker would. */

import type { DescMessage, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { NotFoundError, ServerError, UnavailableError } from "../errors.ts";
import { GRPCInferenceService, methodPath, type ModelStatistics, quoted } from "../protocol/mod.ts";
import type { CallContext, Message, MethodHandler, MethodTable } from "../transport/mod.ts";
import { decodeRequest } from "../protocol/mod.ts";
import type { RoutingTable } from "./fleet.ts";
import type { FleetWorker } from "./fleet_worker.ts";
import type { ModelDirectory } from "./infer_proxy.ts";
import { sumStatistics } from "./model_statistics.ts";
import type { IndexEntry } from "./worker_health.ts";
import type { WorkerPool } from "./worker_pool.ts";
import {
  askWorker,
  brokenConnection,
  failureOf,
  localMethod,
  QUESTION_TIMEOUT_MS,
} from "./worker_rpc.ts";

export interface FleetServiceOptions {
  readonly pool: WorkerPool;
  readonly directory: ModelDirectory;
  readonly table: () => RoutingTable;
  readonly isReady: () => boolean;
  readonly version: string;
}

const SERVICE = GRPCInferenceService.method;

/** The methods, by path. */
export function fleetService(options: FleetServiceOptions): MethodTable {
  const { pool } = options;
  return new Map<string, MethodHandler>([
    localMethod(SERVICE.serverLive, () => ({ live: true })),
    localMethod(SERVICE.serverReady, () => ({ ready: options.isReady() })),
    localMethod(SERVICE.serverMetadata, () => ({
      name: "ReactantServer",
      version: options.version,
      extensions: ["system_shared_memory", "model_configuration", "statistics"],
    })),
    localMethod(SERVICE.modelReady, async ({ name }) => ({
      ready: (await serving(name, options)).length > 0,
    })),
    forwarded(SERVICE.modelMetadata, options),
    forwarded(SERVICE.modelConfig, options),
    localMethod(SERVICE.modelStatistics, async (request) => ({
      modelStats: await statistics(request, options),
    })),
    localMethod(SERVICE.repositoryIndex, async ({ ready, repositoryName }) => ({
      models: mergeIndexes(await indexes(pool.workers, repositoryName))
        .filter(({ isReady }) => isReady || !ready)
        .map(({ name, version, isReady, reason }) => ({
          name,
          version,
          state: isReady ? "READY" : "UNAVAILABLE",
          reason,
        })),
    })),
    localMethod(SERVICE.cudaSharedMemoryStatus, () => ({})),
    localMethod(SERVICE.cudaSharedMemoryRegister, () => {
      throw new ServerError(
        "UNIMPLEMENTED",
        "CUDA shared memory is not supported; register system shared memory instead",
      );
    }),
    localMethod(SERVICE.cudaSharedMemoryUnregister, () => ({})),
  ]);
}

/** One entry per model, sorted: ready if any worker has it ready, otherwise with the first reason given. */
export function mergeIndexes(indexes: Iterable<Iterable<IndexEntry>>): IndexEntry[] {
  const merged = new Map<string, IndexEntry>();
  for (const index of indexes) {
    for (const entry of index) {
      const known = merged.get(entry.name);
      if (known === undefined || (!known.isReady && (entry.isReady || known.reason === ""))) {
        merged.set(entry.name, entry);
      }
    }
  }
  return [...merged.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Every worker's index: as it says now or, where it does not, as it was last heard if it is up. */
async function indexes(
  workers: readonly FleetWorker[],
  repositoryName: string,
): Promise<IndexEntry[][]> {
  const up = workers.filter(({ health }) => health.isRoutable);
  if (up.length === 0) return workers.map(({ health }) => unavailable(health.models.values()));
  return await Promise.all(up.map(async (worker) => {
    try {
      const { models } = await askWorker(worker, SERVICE.repositoryIndex, { repositoryName });
      return models.map(({ name, version, state, reason }) => (
        { name, version, isReady: state === "READY", reason }
      ));
    } catch {
      return [...worker.health.models.values()];
    }
  }));
}

function unavailable(entries: Iterable<IndexEntry>): IndexEntry[] {
  return Array.from(entries, (entry) => ({
    ...entry,
    isReady: false,
    reason: entry.reason || "no worker is up",
  }));
}

/** Workers that serve a model, after a look at the fleet if there seem to be none. */
async function serving(name: string, options: FleetServiceOptions): Promise<FleetWorker[]> {
  const find = () =>
    (options.table().routes.get(name) ?? [])
      .map((id) => options.pool.get(id))
      .filter((worker) => worker !== undefined);
  const found = find();
  if (found.length > 0) return found;
  await options.directory.refresh();
  return find();
}

/** A question about one model, which any worker that serves it can answer. */
function forwarded(
  method: DescMethodUnary<DescMessage & { readonly typeName: string }, DescMessage>,
  options: FleetServiceOptions,
): [string, MethodHandler] {
  const path = methodPath(method);
  return [path, {
    kind: "unary",
    handle: async (message, call) => {
      const { name } = decodeRequest(method.input, message) as MessageShape<DescMessage> & {
        readonly name: string;
      };
      const workers = await serving(name, options);
      if (workers.length === 0) throw notServed(name, options);
      return await askInTurn(workers, path, message, call);
    },
  }];
}

function notServed(name: string, { directory }: FleetServiceOptions): ServerError {
  return directory.knows(name)
    ? new UnavailableError(directory.explain(name))
    : new NotFoundError(`Unknown model ${quoted(name)}`);
}

async function askInTurn(
  workers: readonly FleetWorker[],
  path: string,
  message: Message,
  call: CallContext,
): Promise<Message> {
  let last: ServerError | undefined;
  for (const worker of workers) {
    let hasStatus = false;
    try {
      const response = await worker.ask(path, message, {
        deadlineMs: performance.now() + QUESTION_TIMEOUT_MS,
        parent: call,
        onTrailers: () => hasStatus = true,
      });
      return response.message;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      const isBroken = failureOf(error, hasStatus, call.isAborted) === "transport";
      last = isBroken ? brokenConnection(worker, error) : error;
      if (!isBroken && error.status !== "NOT_FOUND" && error.status !== "UNAVAILABLE") break;
    }
  }
  throw last!;
}

async function statistics(
  request: { readonly name: string; readonly version: string },
  options: FleetServiceOptions,
): Promise<ModelStatistics[]> {
  const { name, version } = request;
  const workers = name === ""
    ? options.pool.workers.filter(({ health }) => health.isRoutable)
    : await serving(name, options);
  if (name !== "" && workers.length === 0) throw notServed(name, options);
  const answers = await Promise.allSettled(
    workers.map((worker) => askWorker(worker, SERVICE.modelStatistics, { name, version })),
  );
  const given = answers.filter((answer) => answer.status === "fulfilled");
  const refused = answers.find((answer) => answer.status === "rejected");
  if (given.length === 0 && refused !== undefined) throw refused.reason;
  return sumStatistics(given.flatMap(({ value }) => value.modelStats));
}

/**
 * Every `gateway_*` metric: name, help, type and labels in one place. Owners only report events to
 * `GatewayMetrics` or answer `GatewayReadings` when somebody scrapes.
 */

import { LATENCY_BOUNDS, UNKNOWN_MODEL } from "./conventions.ts";
import {
  ComputedFamily,
  type Counter,
  CounterFamily,
  type Family,
  type Histogram,
  HistogramFamily,
  type Reading,
} from "./family.ts";
import { addProcessMetrics } from "./process_metrics.ts";
import { MetricsRegistry } from "./registry.ts";

/** What a client asked the gateway for. */
export type GatewayRpc =
  | "ModelInfer"
  | "SystemSharedMemoryRegister"
  | "SystemSharedMemoryUnregister"
  | "IsSameIPCNamespace"
  | "CompactMemory";

/** What the gateway asked a worker for. */
export type WorkerRpc = "ModelInfer" | "SystemSharedMemory" | "CompactMemory";

/** One worker at this moment. */
export interface GatewayWorkerReading {
  /** Its label: the friendly name, or `host:port`. */
  readonly name: string;
  /** Its gRPC address. */
  readonly id: string;
  readonly isReady: boolean;
  /** `undefined` when its metrics are not asked for, or never have been yet. */
  readonly metrics: { readonly endpoint: string; readonly isUp: boolean } | undefined;
}

/** What the scheduling mode shows. Workers are gRPC addresses. */
export interface GatewaySchedulingReading {
  /** What `inflightWork` counts; `undefined` when the mode does not look at load. */
  readonly workBasis: string | undefined;
  readonly inflightWork: readonly { readonly worker: string; readonly work: number }[];
  /** Under `lpt_packing` only. */
  readonly packing: {
    readonly replicas: readonly {
      readonly model: string;
      readonly worker: string;
      readonly weight: number;
      readonly outstanding: number;
      readonly routedTotal: number;
    }[];
    readonly models: readonly {
      readonly model: string;
      readonly replicas: number;
      readonly utilization: number;
      readonly fillQuantum: number;
    }[];
    readonly repacks: ReadonlyMap<string, number>;
  } | undefined;
}

/** What is asked of the gateway at each scrape. */
export interface GatewayReadings {
  models(): number;
  workers(): readonly GatewayWorkerReading[];
  inflightRequests(): number;
  requestsShed(): number;
  /** 0: no cap. */
  maxConcurrentRequests(): number;
  scheduling(): GatewaySchedulingReading;
}

/** Models with series of their own; the bundles of any real fleet are fewer. */
const MAX_MODELS = 10_000;

/** A model's outcomes of one RPC. */
class RpcCells {
  readonly statuses = new Map<string, Counter>();

  constructor(readonly latency: Histogram) {}
}

/**
 * Counts what a gateway does. Reporting costs a map look-up and a few additions. `model` is
 * `undefined` for a name that no worker has, so that clients cannot make up labels.
 */
export class GatewayMetrics {
  readonly #registry = new MetricsRegistry();
  /** Of the process itself, told apart from the workers' by the label that those have. */
  readonly #process = new MetricsRegistry({ worker: "gateway" });
  readonly #requests: CounterFamily;
  readonly #latency: HistogramFamily;
  readonly #workerLatency: HistogramFamily;
  /** By RPC, then by worker. */
  readonly #workerCells = new Map<string, Map<string, Histogram>>();
  /** By RPC, then by model. */
  readonly #cells = new Map<string, Map<string, RpcCells>>();

  constructor(readings: GatewayReadings) {
    const registry = this.#registry;
    this.#requests = registry.add(
      new CounterFamily({
        name: "gateway_requests_total",
        help: "Calls by RPC, model and outcome, as the client saw it.",
        labels: ["rpc", "model", "status"],
      }),
    );
    this.#latency = registry.add(
      new HistogramFamily({
        name: "gateway_request_latency_seconds",
        help: "Time from receiving a call to its answer, whatever the outcome.",
        labels: ["rpc", "model"],
      }, LATENCY_BOUNDS),
    );
    this.#workerLatency = registry.add(
      new HistogramFamily({
        name: "gateway_worker_latency_seconds",
        help: "Time one worker took for one call of the gateway's, whatever the outcome.",
        labels: ["rpc", "worker"],
      }, LATENCY_BOUNDS),
    );
    addFleetFamilies(registry, readings);
    addPackingFamilies(registry, readings);
    addProcessMetrics(this.#process);
  }

  /** What is declared, for documentation; those of the process come last. */
  families(): readonly Family[] {
    return [...this.#registry.families(), ...this.#process.families()];
  }

  /** The exposition, in the Prometheus text format. */
  async text(): Promise<string> {
    return await this.#registry.text() + await this.#process.text();
  }

  /**
   * A call ended. `model` is empty for calls that are about none, or could not be read; those have no
   * latency. `status` is written as in `NotFound`.
   */
  requestEnded(
    rpc: GatewayRpc,
    model: string | undefined,
    status: string,
    seconds: number | undefined,
  ): void {
    const cells = this.#cellsOf(rpc, model ?? UNKNOWN_MODEL);
    let counter = cells.statuses.get(status);
    if (counter === undefined) {
      counter = this.#requests.child(rpc, this.#labelOf(rpc, model ?? UNKNOWN_MODEL), status);
      cells.statuses.set(status, counter);
    }
    counter.value++;
    if (seconds !== undefined) cells.latency.observe(seconds);
  }

  /** The histogram of one worker's answers. */
  workerLatency(rpc: WorkerRpc, worker: string): Histogram {
    let cells = this.#workerCells.get(rpc);
    if (cells === undefined) this.#workerCells.set(rpc, cells = new Map());
    let cell = cells.get(worker);
    if (cell === undefined) cells.set(worker, cell = this.#workerLatency.child(rpc, worker));
    return cell;
  }

  /** A worker has left for good. */
  workerRemoved(worker: string): void {
    this.#workerLatency.drop(([, label]) => label === worker);
    for (const cells of this.#workerCells.values()) cells.delete(worker);
  }

  #cellsOf(rpc: GatewayRpc, model: string): RpcCells {
    let models = this.#cells.get(rpc);
    if (models === undefined) this.#cells.set(rpc, models = new Map());
    let cells = models.get(model);
    if (cells === undefined) {
      const label = this.#labelOf(rpc, model);
      cells = models.get(label);
      if (cells === undefined) {
        models.set(label, cells = new RpcCells(this.#latency.child(rpc, label)));
      }
    }
    return cells;
  }

  #labelOf(rpc: GatewayRpc, model: string): string {
    const models = this.#cells.get(rpc);
    if (models === undefined || models.has(model) || models.size < MAX_MODELS) return model;
    return UNKNOWN_MODEL;
  }
}

function addFleetFamilies(registry: MetricsRegistry, readings: GatewayReadings): void {
  const gauge = adder(registry, "gauge");
  gauge("gateway_routing_table_size", "Models that some worker serves.", [], () => [
    [[], readings.models()],
  ]);
  gauge(
    "gateway_worker_ready",
    "1 while the worker answers that it is ready.",
    ["worker"],
    () => readings.workers().map(({ name, isReady }) => [[name], isReady ? 1 : 0]),
  );
  gauge(
    "gateway_worker_metrics_up",
    "1 when the worker's metrics could be had at this scrape.",
    ["worker", "endpoint"],
    () =>
      readings.workers().flatMap(({ name, metrics }) =>
        metrics === undefined ? [] : [[[name, metrics.endpoint], metrics.isUp ? 1 : 0] as const]
      ),
  );
  gauge("gateway_inflight_requests", "ModelInfer calls in progress.", [], () => [
    [[], readings.inflightRequests()],
  ]);
  adder(registry, "counter")(
    "gateway_requests_shed_total",
    "ModelInfer calls refused because too many were in progress.",
    [],
    () => [[[], readings.requestsShed()]],
  );
  gauge(
    "gateway_max_concurrent_requests",
    "ModelInfer calls that may be in progress; 0: no cap.",
    [],
    () => [[[], readings.maxConcurrentRequests()]],
  );
  gauge(
    "gateway_worker_inflight_work",
    "Work in flight on a worker, in the unit of its basis.",
    ["worker", "basis"],
    () => {
      const { workBasis, inflightWork } = readings.scheduling();
      if (workBasis === undefined) return [];
      const label = labels(readings);
      return inflightWork.map(({ worker, work }) => [[label(worker), workBasis], work]);
    },
  );
}

/** Those that have samples under `lpt_packing` only. */
function addPackingFamilies(registry: MetricsRegistry, readings: GatewayReadings): void {
  type Packing = NonNullable<GatewaySchedulingReading["packing"]>;
  const add = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (packing: Packing, label: (worker: string) => string) => Iterable<Reading>,
  ) =>
    adder(registry, type)(name, help, labelNames, () => {
      const { packing } = readings.scheduling();
      return packing === undefined ? [] : read(packing, labels(readings));
    });
  const replica = ["model", "worker"];
  add(
    "gauge",
    "gateway_placement_weight",
    "Share of a model's traffic meant for a worker; 0 once it is no longer placed there.",
    replica,
    ({ replicas }, label) =>
      replicas.map(({ model, worker, weight }) => [[model, label(worker)], weight]),
  );
  add(
    "gauge",
    "gateway_model_replicas",
    "Workers a model is placed on; 0 once it is placed nowhere.",
    ["model"],
    ({ models }) => models.map(({ model, replicas }) => [[model], replicas]),
  );
  add(
    "gauge",
    "gateway_model_utilization",
    "Devices a model kept busy, as of the last repack.",
    ["model"],
    ({ models }) => models.map(({ model, utilization }) => [[model], utilization]),
  );
  add(
    "gauge",
    "gateway_model_fill_quantum",
    "Items a replica gets before the next one has its turn.",
    ["model"],
    ({ models }) => models.map(({ model, fillQuantum }) => [[model], fillQuantum]),
  );
  add(
    "gauge",
    "gateway_replica_outstanding",
    "Items in flight on a replica.",
    replica,
    ({ replicas }, label) =>
      replicas.map(({ model, worker, outstanding }) => [[model, label(worker)], outstanding]),
  );
  add(
    "counter",
    "gateway_replica_routed_total",
    "Requests sent to a replica.",
    replica,
    ({ replicas }, label) =>
      replicas.map(({ model, worker, routedTotal }) => [[model, label(worker)], routedTotal]),
  );
  add(
    "counter",
    "gateway_repacks_total",
    "Times the models were placed anew, by what caused it.",
    ["trigger"],
    ({ repacks }) => Array.from(repacks, ([trigger, count]) => [[trigger], count]),
  );
}

/** Labels of workers by gRPC address; one that has left keeps its address. */
function labels(readings: GatewayReadings): (worker: string) => string {
  const names = new Map(readings.workers().map(({ id, name }) => [id, name]));
  return (worker) => names.get(worker) ?? worker;
}

function adder(registry: MetricsRegistry, type: "counter" | "gauge") {
  return (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => Iterable<Reading>,
  ) => registry.add(new ComputedFamily(type, { name, help, labels: labelNames }, read));
}

/** Tables of metrics, from the families that the program declares. */

import { GatewayMetrics, WorkerMetrics } from "../../src/metrics/mod.ts";
import { code, table } from "./markdown.ts";

type Families = ReturnType<GatewayMetrics["families"]>;

/** Families of a process, which a worker and the gateway both have. */
const isOfProcess = (name: string) => /^(process|v8)_/.test(name);

/** The `worker_*` families. */
export function workerMetrics(): string {
  return familyTable(workerFamilies().filter(({ name }) => !isOfProcess(name)));
}

/** The `gateway_*` families. */
export function gatewayMetrics(): string {
  return familyTable(gatewayFamilies().filter(({ name }) => !isOfProcess(name)));
}

/** Those of the process. */
export function processMetrics(): string {
  return familyTable(workerFamilies().filter(({ name }) => isOfProcess(name)));
}

/** Every name there is. */
export function metricNames(): string[] {
  return [...workerFamilies(), ...gatewayFamilies()].map(({ name }) => name);
}

function familyTable(families: Families): string {
  return table([
    ["Name", "Type", "Labels", "Meaning"],
    ...families.map(({ name, type, labels, help }) => [
      code(name),
      type,
      // Every sample of a worker says which worker it is of.
      labels.filter((label) => label !== "worker" || name.startsWith("gateway_")).map(code)
        .join(", "),
      help,
    ]),
  ]);
}

/** Declaring families reads nothing, so there is nothing to read here. */
const NOTHING = new Proxy({}, {
  get: () => () => {
    throw new Error("a family was read while it was declared");
  },
});

function workerFamilies(): Families {
  return new WorkerMetrics({
    worker: "",
    gpu: "",
    deviceOrdinal: 0,
    controlMode: "dynamic",
    discipline: "fair",
    maxConcurrentRequests: 0,
    methods: [],
    readings: NOTHING as ConstructorParameters<typeof WorkerMetrics>[0]["readings"],
  }).families();
}

function gatewayFamilies(): Families {
  return new GatewayMetrics(NOTHING as ConstructorParameters<typeof GatewayMetrics>[0]).families();
}

/** What `ctl status` and `ctl models` show. */

import { ServerError } from "../../errors.ts";
import {
  ControlService,
  GatewayControlService,
  type GetSchedulingStatusResponse,
  GRPCInferenceService,
  type ModelControlStatusResponse,
  type ModelSchedulingStatus,
  type ModelStatus,
  type RepackStatus,
  Residency,
  type SchedulingPolicy,
} from "../../protocol/mod.ts";
import { type CommandOutput, EXIT } from "../command.ts";
import type { ParsedFlags } from "../flags.ts";
import { formatBytes, printTable } from "../table.ts";
import { type CtlTarget, printJson, wantsJson } from "./ctl_target.ts";

/** What a server is: a gateway, or a worker by itself. */
type Answer =
  | { readonly kind: "gateway"; readonly status: GetSchedulingStatusResponse }
  | { readonly kind: "worker"; readonly status: ModelControlStatusResponse };

/** `ctl status`. */
export async function showStatus(
  target: CtlTarget,
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const answer = await ask(target);
  if (wantsJson(flags)) printAnswer(answer, output);
  else if (answer.kind === "worker") showWorker(target, answer.status, output);
  else showGateway(target, answer.status, output);
  return EXIT.ok;
}

/** `ctl models`; fails when one of the models named is not there. */
export async function showModels(
  target: CtlTarget,
  names: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const answer = await ask(target);
  const known = new Set(answer.status.models.map(({ name }) => name));
  const isWanted = ({ name }: { readonly name: string }) =>
    names.length === 0 || names.includes(name);
  if (answer.kind === "gateway" && answer.status.policy === undefined) {
    return await showIndex(target, names, flags, output);
  }
  if (answer.kind === "worker") {
    const models = answer.status.models.filter(isWanted);
    if (wantsJson(flags)) printAnswer({ ...answer, status: { ...answer.status, models } }, output);
    else printTable(workerModelRows(models), output.print);
  } else {
    const models = answer.status.models.filter(isWanted);
    if (wantsJson(flags)) printAnswer({ ...answer, status: { ...answer.status, models } }, output);
    else printTable(gatewayModelRows(models), output.print);
  }
  return complainOfMissing(names.filter((name) => !known.has(name)), target, output);
}

async function ask(target: CtlTarget): Promise<Answer> {
  try {
    const method = GatewayControlService.method.getSchedulingStatus;
    return { kind: "gateway", status: await target.call(method, {}) };
  } catch (error) {
    if (!(error instanceof ServerError) || error.status !== "UNIMPLEMENTED") throw error;
    const method = ControlService.method.modelControlStatus;
    return { kind: "worker", status: await target.call(method, {}) };
  }
}

function printAnswer(answer: Answer, output: CommandOutput): void {
  if (answer.kind === "gateway") {
    printJson(GatewayControlService.method.getSchedulingStatus.output, answer.status, output);
  } else printJson(ControlService.method.modelControlStatus.output, answer.status, output);
}

/** A mode without placement knows no more of its models than any client. */
async function showIndex(
  target: CtlTarget,
  names: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const method = GRPCInferenceService.method.repositoryIndex;
  const index = await target.call(method, {});
  const models = index.models.filter(({ name }) => names.length === 0 || names.includes(name));
  if (wantsJson(flags)) printJson(method.output, { ...index, models }, output);
  else {
    printTable([
      ["MODEL", "STATE", "REASON"],
      ...models.map(({ name, state, reason }) => [name, state, reason]),
    ], output.print);
  }
  const known = new Set(index.models.map(({ name }) => name));
  return complainOfMissing(names.filter((name) => !known.has(name)), target, output);
}

function complainOfMissing(
  missing: readonly string[],
  target: CtlTarget,
  output: CommandOutput,
): number {
  for (const name of missing) {
    output.complain(
      `${target.address} has no model ${JSON.stringify(name)}; "ctl models" lists those it has`,
    );
  }
  return missing.length === 0 ? EXIT.ok : EXIT.failure;
}

function showGateway(
  target: CtlTarget,
  status: GetSchedulingStatusResponse,
  { print }: CommandOutput,
): void {
  const { mode, policy, repack, models, workers, warnings } = status;
  if (policy === undefined || repack === undefined) {
    print(`gateway ${target.address}: ${mode}; nothing is placed in this mode`);
    return;
  }
  const placed = models.filter((model) => model.placed).length;
  const drifted = models.filter((model) => model.drifted).length;
  printTable([
    ["gateway", `${target.address}, ${mode}`],
    ["policy", describePolicy(policy)],
    ["repack", describeRepack(repack)],
    ["models", `${models.length} known, ${placed} placed, ${drifted} not on every worker`],
  ], print);
  print("");
  printTable([
    ["WORKER", "READY", "MODELS", "WORK IN FLIGHT", "WEIGHTS", "BUDGET", ""],
    ...workers.map((worker) => [
      nameAndAddress(worker),
      worker.ready ? "yes" : "no",
      String(worker.modelsPlaced),
      number(worker.inflightCompute),
      formatBytes(Number(worker.assignedWeightBytes)),
      worker.weightBudgetBytes === 0n ? "none" : formatBytes(Number(worker.weightBudgetBytes)),
      worker.oversubscribed ? "over budget" : "",
    ]),
  ], print);
  for (const warning of warnings) print(`warning: ${warning}`);
}

/** A worker as it is named in answers: one that nobody named has its address only. */
type NamedWorker = { readonly worker: string; readonly workerName: string };

/** Both, as "ctl status" lists the workers. A worker found by its host's name has its address in its own. */
function nameAndAddress({ worker, workerName }: NamedWorker): string {
  return workerName === "" || workerName.endsWith(`@${worker}`)
    ? workerName || worker
    : `${workerName} (${worker})`;
}

/** The name, for lists of workers: "ctl status" has the addresses. */
function shortName({ worker, workerName }: NamedWorker): string {
  return workerName || worker;
}

function describePolicy(policy: SchedulingPolicy): string {
  return [
    `repack after ${number(policy.rebalanceComputeSeconds)} s of compute ` +
    `(first ${number(policy.firstRebalanceComputeSeconds)} s)`,
    `half-life ${number(policy.emaHalflifeComputeSeconds)} s`,
    `hysteresis ${number(policy.hysteresis)}`,
    `replicas ${policy.defaultReplicas === -1n ? "all" : policy.defaultReplicas}`,
    `${policy.routingPolicy}, ${policy.routingFillMode} of ${number(policy.routingFillFactor)} ` +
    `batches, by ${policy.workBasis}`,
    `compaction ${policy.compactionMode} every ${policy.compactionInterval}`,
    `memory ${policy.forbidMemoryOversubscription ? "guarded" : "not guarded"}`,
    policy.generation === 0n ? "as configured" : `changed ${policy.generation} times`,
  ].join("; ");
}

function describeRepack(repack: RepackStatus): string {
  const next = `${number(repack.computeAccumulatedSeconds)} of ` +
    `${number(repack.activeThresholdSeconds)} s of compute until the next`;
  const { operatorRepacksRequested: asked, operatorRepacksCompleted: done } = repack;
  const waiting = asked > done ? `; ${asked - done} asked for and waiting` : "";
  if (repack.repackCount === 0n) return `none yet; ${next}${waiting}`;
  const at = new Date(repack.lastRepackUnixSeconds * 1000).toISOString().slice(0, 19);
  return `${repack.repackCount} so far; last ${at}Z by ${repack.lastTrigger}: ` +
    `${repack.lastModelsPlaced} placed, ${repack.lastModelsMoved} moved; ${next}${waiting}`;
}

function gatewayModelRows(models: readonly ModelSchedulingStatus[]): string[][] {
  return [
    [
      "MODEL",
      "REPLICAS",
      "UTIL",
      "REQ/S",
      "COST MS",
      "WEIGHTS",
      "FILL",
      "IN FLIGHT",
      "ROUTED",
      "WORKERS",
    ],
    ...models.map((model) => [
      model.name,
      String(model.effectiveReplicas) + (model.configuredReplicas === 0n ? "" : "*"),
      number(model.utilization),
      number(model.arrivalRate),
      number(model.costSeconds * 1000),
      formatBytes(Number(model.weightNbytes)),
      `${model.fillMode} ${model.fillQuantum}`,
      String(model.replicas.reduce((sum, replica) => sum + replica.outstanding, 0n)),
      String(model.replicas.reduce((sum, replica) => sum + replica.routedTotal, 0n)),
      (model.placed ? model.replicas.map(shortName).join(" ") : "not placed") +
      (model.drifted ? " (not on every worker)" : ""),
    ]),
  ];
}

function showWorker(
  target: CtlTarget,
  status: ModelControlStatusResponse,
  { print }: CommandOutput,
): void {
  const { models, residencyMode, discipline, weightCacheMaxBytes, workerName } = status;
  const budget = weightCacheMaxBytes === 0n
    ? "without a bound"
    : `of ${formatBytes(Number(weightCacheMaxBytes))}`;
  const resident = models.filter((model) => model.deviceResident);
  const bytes = resident.reduce((sum, model) => sum + Number(model.weightNbytes), 0);
  printTable([
    [
      "worker",
      `${nameAndAddress({ worker: target.address, workerName })}, discipline ${discipline}, ` +
      `residency ${residencyMode}`,
    ],
    [
      "weights",
      `${formatBytes(bytes)} on the device ${budget}, ${resident.length} of ` +
      `${models.length} models`,
    ],
  ], print);
  print("");
  printTable(workerModelRows(models), print);
}

const RESIDENCIES: Readonly<Record<Residency, string>> = {
  [Residency.RESIDENCY_UNSPECIFIED]: "unknown",
  [Residency.UNPINNED]: "unpinned",
  [Residency.PINNED_SYSTEM]: "system",
  [Residency.PINNED_DEVICE]: "device",
};

function workerModelRows(models: readonly ModelStatus[]): string[][] {
  return [
    ["MODEL", "PINNED", "ON DEVICE", "WEIGHTS", "SHARE", "QUEUE", "REQUESTS", "COMPUTE S", "BATCH"],
    ...models.map((model) => [
      model.name,
      RESIDENCIES[model.residency] ?? "unknown",
      model.deviceResident ? "yes" : "no",
      formatBytes(Number(model.weightNbytes)),
      number(model.weight),
      String(model.queueDepth),
      String(model.requestsServed),
      number(model.totalComputeSeconds),
      model.maxBatchSize === 0n ? "-" : String(model.maxBatchSize),
    ]),
  ];
}

/** Three significant digits, without an exponent for what people read. */
function number(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

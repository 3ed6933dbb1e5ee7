/**
 * A whole node, assembled and checked before anything is started: its role, its devices, what each child
 * is told. Everything it looks at is given, so that a plan can be made of any machine.
 */

import {
  CPU_WORKERS_VARIABLE,
  type Environment,
  formatHostPort,
  materialise,
  type MaterialisedNode,
  MAX_RESTARTS_VARIABLE,
  type Role,
  ROLE_VARIABLE,
} from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import { detectDevices, type DeviceProbes } from "./device_detection.ts";
import { type GatewayPlan, gatewayPorts, planGateway } from "./gateway_plan.ts";
import { findNodeFile, type Flags, lastFlag, nodeWithoutFile } from "./node_source.ts";
import { overlapWarnings } from "./ports.ts";
import type { ProcessorLimits } from "./processors.ts";
import { chooseRole } from "./role.ts";
import { hostMemoryNotes, info, type Note, warning } from "./start_notes.ts";
import { planWorkers, threadNote, type WorkerPlan } from "./worker_plans.ts";

/** Most workers a node without devices may be given. */
const MAX_CPU_WORKERS = 1024;
/** Shortest time children have to leave; longer when their own settings say so. */
const MIN_STOP_SECONDS = 15;
/** Time for leaving beyond what a child's drain may take. */
const STOP_MARGIN_SECONDS = 5;

/** What a plan is made from. */
export interface NodeInputs {
  readonly flags: Flags;
  readonly environment: Environment;
  readonly probes: DeviceProbes;
  readonly limits: ProcessorLimits;
  /** Stores the materialised node file and returns its path. */
  readonly writeNodeFile: (text: string) => string;
  /** Nothing will be started, so folders, plugins and devices may be missing. */
  readonly isDryRun?: boolean;
  /** Read when no other node file is named. */
  readonly standardNodeFile?: string;
  /** Read when no other gateway file is named. */
  readonly standardGatewayFile?: string;
}

/** A node that can be started. */
export interface NodePlan {
  readonly role: Role;
  /** Absent in role `gateway`. */
  readonly node: MaterialisedNode | undefined;
  readonly workers: readonly WorkerPlan[];
  readonly gateway: GatewayPlan | undefined;
  readonly notes: readonly Note[];
  /** Restarts in a row of one child before the node gives up; 0: never gives up. */
  readonly maxRestarts: number;
  /** How long children have to leave, all together. */
  readonly stopSeconds: number;
}

/** Decides everything there is to decide. @throws {ConfigError} when the node cannot run like that */
export async function planNode(inputs: NodeInputs): Promise<NodePlan> {
  const { flags, environment, isDryRun = false } = inputs;
  const maxRestarts = countFrom(inputs, "max-restarts", MAX_RESTARTS_VARIABLE, {
    fallback: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
  });
  const given = { flag: lastFlag(flags, "role"), variable: environment[ROLE_VARIABLE] };
  if (chooseRole({ ...given, file: undefined }) === "gateway") {
    return gatewayOnly(inputs, maxRestarts);
  }
  const outline = findNodeFile(flags, environment, inputs.standardNodeFile);
  const role = chooseRole({ ...given, file: outline?.role });
  if (role === "gateway") return gatewayOnly(inputs, maxRestarts);

  const detected = await detectDevices({
    flag: lastFlag(flags, "gpus"),
    environment,
    choice: outline?.devices ?? "auto",
    probes: inputs.probes,
  });
  const chosen = outline === undefined
    ? nodeWithoutFile(flags, environment, { detected, isDryRun })
    : { outline, devices: detected.selectors, notes: [] };
  const cpuWorkers = countFrom(inputs, "cpu-workers", CPU_WORKERS_VARIABLE, {
    fallback: 1,
    min: 1,
    max: MAX_CPU_WORKERS,
  });
  const { devices } = chosen;
  const made = materialise(chosen.outline, { devices, cpuWorkers, role });
  const notes: Note[] = [...chosen.notes];
  if (devices.length > 0) notes.push(info(`devices ${devices.join(", ")} (${detected.source})`));
  if (made.unused.length > 0) {
    notes.push(info(`devices ${made.unused.join(", ")} are not used by any worker`));
  }
  const nodePath = inputs.writeNodeFile(made.text);
  if (!isDryRun) notes.push(info(`node file written to ${nodePath}`));
  const hasNodeFile = outline !== undefined;
  const { workers, notes: workerNotes } = planWorkers({
    role,
    made,
    hasNodeFile,
    nodePath,
    flags,
    environment,
    limits: inputs.limits,
    isDryRun,
  });
  notes.push(
    ...hostMemoryNotes(workers.map(({ loaded }) => loaded.config)),
    threadNote(workers, inputs.limits),
    ...workerNotes,
  );
  const gateway = role === "all" && workers.length > 1
    ? planGateway({
      workers,
      hasNodeFile,
      flags,
      environment,
      standardFile: inputs.standardGatewayFile,
    })
    : undefined;
  if (gateway !== undefined) {
    notes.push(...overlapWarnings(workerPorts(workers), gatewayPorts(gateway.config)).map(warning));
  } else if (role === "all") {
    const { host, port, metricsPort } = workers[0]!.loaded.config.endpoints;
    notes.push(info(
      `one worker, no gateway: ${workers[0]!.name} serves gRPC on ${
        formatHostPort({ host, port })
      }` +
        (metricsPort === 0 ? "" : ` and HTTP on port ${metricsPort}`),
    ));
  }
  return finish({ role, node: made, workers, gateway, notes, maxRestarts });
}

function gatewayOnly(inputs: NodeInputs, maxRestarts: number): NodePlan {
  const gateway = planGateway({
    workers: [],
    hasNodeFile: false,
    flags: inputs.flags,
    environment: inputs.environment,
    standardFile: inputs.standardGatewayFile,
  });
  return finish({
    role: "gateway",
    node: undefined,
    workers: [],
    gateway,
    notes: [],
    maxRestarts,
  });
}

function finish(plan: Omit<NodePlan, "stopSeconds">): NodePlan {
  const names = [...plan.workers, ...(plan.gateway ? [plan.gateway] : [])].map(({ name }) => name);
  const drains = plan.workers.map(({ loaded }) => loaded.config.endpoints.shutdownGraceSeconds);
  if (plan.gateway) drains.push(plan.gateway.config.listen.shutdownGraceSeconds);
  return {
    ...plan,
    notes: [...plan.notes, info(`role ${plan.role}: ${names.join(", ")}`)],
    stopSeconds: Math.max(MIN_STOP_SECONDS, ...drains.map((drain) => drain + STOP_MARGIN_SECONDS)),
  };
}

function workerPorts(workers: readonly WorkerPlan[]) {
  return workers.flatMap(({ name, loaded: { config: { endpoints } } }) => [
    { host: endpoints.host, port: endpoints.port, who: `${name} (gRPC)` },
    ...(endpoints.metricsPort === 0
      ? []
      : [{ host: endpoints.host, port: endpoints.metricsPort, who: `${name} (metrics)` }]),
  ]);
}

/** A whole number from a flag or a variable; an empty variable is one that is not set. */
function countFrom(
  { flags, environment }: NodeInputs,
  flag: string,
  variable: string,
  range: { readonly fallback: number; readonly min: number; readonly max: number },
): number {
  const given = lastFlag(flags, flag);
  const text = given ?? environment[variable]?.trim();
  if (text === undefined || (given === undefined && text === "")) return range.fallback;
  const count = /^\d+$/.test(text) ? Number(text) : NaN;
  if (count >= range.min && count <= range.max) return count;
  throw new ConfigError(
    `${given === undefined ? variable : `--${flag}`} must be an integer from ${range.min} to ` +
      `${range.max}, got ${JSON.stringify(text)}`,
  );
}

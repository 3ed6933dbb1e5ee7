/** Changes of the scheduling settings as they arrive on the wire, held to the bounds of the configuration. */

import {
  fileSpelling,
  type Leaf,
  MODEL_SCHEDULING_ROWS,
  type Row,
  SCHEDULING_ROWS,
} from "../config/mod.ts";
import { InvalidArgumentError } from "../errors.ts";
import {
  quoted,
  type SchedulingPolicy as WirePolicy,
  type SetModelPlacementRequest,
  type SetSchedulingPolicyRequest,
} from "../protocol/mod.ts";
import type { LivePolicy, ModelPolicyChange } from "./packing/mod.ts";

/** Stands for every ready worker where a message has a number of replicas. */
export const ALL_REPLICAS = -1n;

/** How each field that may change is read; the value is what a configuration file would hold. */
const POLICY_FIELDS = {
  rebalanceComputeSeconds: (policy) => policy.rebalanceComputeSeconds,
  firstRebalanceComputeSeconds: (policy) => policy.firstRebalanceComputeSeconds,
  hysteresis: (policy) => policy.hysteresis,
  emaHalflifeComputeSeconds: (policy) => policy.emaHalflifeComputeSeconds,
  defaultReplicas: (policy) =>
    policy.defaultReplicas === ALL_REPLICAS ? "all" : policy.defaultReplicas,
  routingPolicy: (policy) => policy.routingPolicy,
  workBasis: (policy) => policy.workBasis,
  routingFillFactor: (policy) => policy.routingFillFactor,
  routingFillMode: (policy) => policy.routingFillMode,
  compactionMode: (policy) => policy.compactionMode,
  compactionInterval: (policy) => policy.compactionInterval,
  forbidMemoryOversubscription: (policy) => policy.forbidMemoryOversubscription,
} satisfies Record<keyof LivePolicy, (policy: WirePolicy) => unknown>;

const FIELD_BY_NAME = new Map(
  (Object.keys(POLICY_FIELDS) as (keyof LivePolicy)[]).map((field) => [fileSpelling(field), field]),
);

/** Names that `update_mask` takes. */
export const POLICY_FIELD_NAMES: readonly string[] = [...FIELD_BY_NAME.keys()];

/** Settings that are read at the start alone, and why. */
const START_ONLY = new Map([
  ["mode", "another mode is another router"],
  ["scheduling_mode", "another mode is another router"],
  ["max_worker_share", "it is advisory and nothing reads it"],
  ["endpoints", "the workers are found through it"],
  ["listen", "the listeners are bound"],
]);

/**
 * The checked changes of a call.
 *
 * @throws {InvalidArgumentError} naming the field; then nothing of the call may be applied
 */
export function policyChanges(request: SetSchedulingPolicyRequest): Partial<LivePolicy> {
  const { updateMask, policy } = request;
  if (updateMask.length === 0) {
    throw new InvalidArgumentError(
      `update_mask is empty; name what to change: ${POLICY_FIELD_NAMES.join(", ")}`,
    );
  }
  if (policy === undefined) {
    throw new InvalidArgumentError("policy is not set; put the new values there");
  }
  const changes: Partial<Record<keyof LivePolicy, unknown>> = {};
  for (const name of updateMask) {
    const field = fieldOf(name);
    changes[field] = checked<Leaf>(name, SCHEDULING_ROWS[field], POLICY_FIELDS[field](policy));
  }
  return changes as Partial<LivePolicy>;
}

/**
 * The checked change of one model's settings. The number of replicas is always part of it.
 *
 * @throws {InvalidArgumentError} naming the field
 */
export function modelChange(request: SetModelPlacementRequest): ModelPolicyChange {
  const { replicas, fillMode, fillFactor } = request;
  const change: { -readonly [Key in keyof ModelPolicyChange]: ModelPolicyChange[Key] } = {
    replicas: replicas === 0n
      ? undefined
      : replicas === ALL_REPLICAS
      ? "all"
      : checked("replicas", {
        ...MODEL_SCHEDULING_ROWS.replicas,
        expects: "a count, -1 for every ready worker, or 0 to inherit",
      }, replicas),
  };
  if (fillMode.trim().toLowerCase() === "inherit") change.fillMode = undefined;
  else if (fillMode !== "") {
    change.fillMode = checked("fill_mode", MODEL_SCHEDULING_ROWS.fillMode, fillMode);
  }
  if (fillFactor === 0) change.fillFactor = undefined;
  else if (!(fillFactor < 0)) {
    change.fillFactor = checked("fill_factor", MODEL_SCHEDULING_ROWS.fillFactor, fillFactor);
  }
  return change;
}

function fieldOf(name: string): keyof LivePolicy {
  const field = FIELD_BY_NAME.get(name);
  if (field !== undefined) return field;
  const reason = START_ONLY.get(name);
  if (reason !== undefined) {
    throw new InvalidArgumentError(
      `${name} cannot change while the gateway runs (${reason}); edit its file and restart it`,
    );
  }
  throw new InvalidArgumentError(
    `update_mask names ${quoted(name)}, which is no setting; there are ${
      POLICY_FIELD_NAMES.join(", ")
    }`,
  );
}

function checked<T extends Leaf>(name: string, row: Row<T>, value: unknown): T {
  const accepted = row.fromFile(value);
  if (accepted !== undefined) return accepted;
  const hint = name === "routing_policy" && value === "least_outstanding"
    ? "; least_outstanding is a scheduling.mode"
    : "";
  throw new InvalidArgumentError(
    `${name} must be ${row.expects}, got ${quoted(String(value))}${hint}`,
  );
}

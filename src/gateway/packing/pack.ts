/**
 * Which workers should hold which models: one greedy pass, longest processing time first, as a pure
 * function of what is known. Balances compute and weight memory together.
 */

import type { Replicas } from "../../config/mod.ts";
import type { WorkerId } from "../fleet.ts";
import { repairMemory } from "./repair.ts";
import { Assignment, type PackedWorker, type PackModel, type PackWorker } from "./assignment.ts";

export type { PackedWorker, PackModel, PackWorker } from "./assignment.ts";

/** The workers of every placed model, sorted; each takes an equal part of the model's load. */
export type Placement = ReadonlyMap<string, readonly WorkerId[]>;

/** Everything a pass looks at. */
export interface PackInput {
  readonly models: readonly PackModel[];
  readonly workers: readonly PackWorker[];
  readonly previous: Placement;
  /** Relative improvement below which a model stays where it is. */
  readonly hysteresis: number;
  /** Whether workers whose memory takes the model come first. */
  readonly forbidMemoryOversubscription: boolean;
}

/** What a pass came to. */
export interface PackResult {
  readonly placement: Placement;
  /** Sorted by name. */
  readonly workers: readonly PackedWorker[];
  /** Models that were placed before, on other workers. */
  readonly moved: readonly string[];
  /** Models kept in place although another worker would have been better. */
  readonly held: number;
  /** The most any held or moved model had to gain: old pressure over best, minus 1. */
  readonly largestImprovement: number;
  /** Models that were moved again because the pass had overfilled a worker. */
  readonly repaired: number;
}

/** How many workers a model gets in a fleet of `workers`. */
export function effectiveReplicas(replicas: Replicas, workers: number): number {
  return replicas === "all" ? workers : Math.min(Math.max(replicas, 1), workers);
}

/**
 * Places every model. Models go by utilisation, then weight, then name; each takes the workers whose
 * pressure (the larger of compute and memory fill) would be lowest. Being greedy, the pass can overfill
 * a worker although everything would fit; with `forbidMemoryOversubscription` such an outcome is
 * repaired when it can be.
 */
export function pack(input: PackInput): PackResult {
  const assignment = new Assignment(input.workers, input.models);
  const facts = { held: 0, largestImprovement: 0 };
  for (const model of inPackingOrder(assignment.models)) {
    assignment.assign(model, choose(assignment, model, input, facts));
  }
  const repaired = input.forbidMemoryOversubscription ? repairMemory(assignment) : 0;
  const placement = assignment.placement();
  return {
    placement,
    workers: assignment.packedWorkers(),
    moved: [...placement]
      .filter(([name, workers]) => isMoved(input.previous.get(name), workers))
      .map(([name]) => name),
    held: facts.held,
    largestImprovement: facts.largestImprovement,
    repaired,
  };
}

/**
 * Places models that came up between two passes, and nothing else: what is placed stays, so that a new
 * model does not have to wait, and moves nobody.
 */
export function packNewcomers(input: PackInput): Placement {
  const assignment = new Assignment(input.workers, input.models);
  const newcomers: PackModel[] = [];
  for (const model of assignment.models) {
    const present = (input.previous.get(model.name) ?? [])
      .map((worker) => assignment.indexOf(worker))
      .filter((index) => index >= 0);
    if (present.length > 0) assignment.assign(model, present);
    else newcomers.push(model);
  }
  const facts = { held: 0, largestImprovement: 0 };
  for (const model of inPackingOrder(newcomers)) {
    assignment.assign(model, choose(assignment, model, input, facts));
  }
  return assignment.placement();
}

function inPackingOrder(models: readonly PackModel[]): PackModel[] {
  return models.toSorted((a, b) =>
    b.utilization - a.utilization || b.weightBytes - a.weightBytes || (a.name < b.name ? -1 : 1)
  );
}

function choose(
  assignment: Assignment,
  model: PackModel,
  input: PackInput,
  facts: { held: number; largestImprovement: number },
): number[] {
  const count = effectiveReplicas(model.replicas, assignment.workers.length);
  const previous = (input.previous.get(model.name) ?? [])
    .map((worker) => assignment.indexOf(worker))
    .filter((index) => index >= 0);
  const wasOn = previous.length === (input.previous.get(model.name)?.length ?? 0) ? previous : [];
  return count === 1
    ? [chooseOne(assignment, model, input, wasOn, facts)]
    : chooseSeveral(assignment, model, input, { count, previous });
}

function chooseOne(
  assignment: Assignment,
  model: PackModel,
  input: PackInput,
  previous: readonly number[],
  facts: { held: number; largestImprovement: number },
): number {
  const { utilization, weightBytes } = model;
  const all = assignment.workers.map((_, index) => index);
  const fitting = input.forbidMemoryOversubscription
    ? all.filter((index) => assignment.fits(index, weightBytes))
    : all;
  const candidates = fitting.length > 0 ? fitting : all;
  let best = candidates[0]!;
  let lowest = Infinity;
  for (const index of candidates) {
    const pressure = assignment.pressure(index, utilization, weightBytes);
    if (
      pressure < lowest || (pressure === lowest && assignment.compareHeld(index, best) < 0)
    ) {
      lowest = pressure;
      best = index;
    }
  }
  // A model that had several workers has no single place to stay at.
  const stay = previous.length === 1 ? previous[0]! : -1;
  if (stay < 0 || stay === best || !candidates.includes(stay)) return best;
  const staying = assignment.pressure(stay, utilization, weightBytes);
  if (lowest > 0) {
    facts.largestImprovement = Math.max(facts.largestImprovement, staying / lowest - 1);
  }
  if (staying > lowest * (1 + input.hysteresis)) return best;
  if (staying > lowest) facts.held++;
  return stay;
}

function chooseSeveral(
  assignment: Assignment,
  model: PackModel,
  input: PackInput,
  { count, previous }: { readonly count: number; readonly previous: readonly number[] },
): number[] {
  const part = model.utilization / count;
  const ranked = assignment.workers.map((_, index) => {
    const isPrevious = previous.includes(index);
    const pressure = assignment.pressure(index, part, model.weightBytes);
    return {
      index,
      isTooSmall: input.forbidMemoryOversubscription && !assignment.fits(index, model.weightBytes),
      // The same advantage that a single replica has for staying.
      pressure: isPrevious ? pressure / (1 + input.hysteresis) : pressure,
      isPrevious,
    };
  });
  ranked.sort((a, b) =>
    Number(a.isTooSmall) - Number(b.isTooSmall) || a.pressure - b.pressure ||
    Number(b.isPrevious) - Number(a.isPrevious) || assignment.compareHeld(a.index, b.index)
  );
  return ranked.slice(0, count).map(({ index }) => index);
}

/** Whether a model that was placed is now on other workers. */
function isMoved(
  before: readonly WorkerId[] | undefined,
  after: readonly WorkerId[],
): boolean {
  return before !== undefined &&
    (before.length !== after.length || after.some((worker) => !before.includes(worker)));
}

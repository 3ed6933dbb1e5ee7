/** Where the weights of served models are, in the control service's words. */

import type { ResidencyFloor } from "../config/mod.ts";
import {
  FailedPreconditionError,
  InvalidArgumentError,
  messageOf,
  ResourceExhaustedError,
} from "../errors.ts";
import { quoted, Residency } from "../protocol/mod.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ServedModel } from "./served_model.ts";

const RESIDENCIES = {
  unpinned: Residency.UNPINNED,
  system: Residency.PINNED_SYSTEM,
  device: Residency.PINNED_DEVICE,
} as const satisfies Record<ResidencyFloor, Residency>;

/** Where a model's weights are, or those of all models that a meta calls. */
export interface ResidencyStatus {
  readonly residency: Residency;
  readonly isDeviceResident: boolean;
  readonly isHostResident: boolean;
  readonly weightBytes: number;
}

/** @throws {InvalidArgumentError} when it is none a model can have */
export function floorOf(target: Residency): ResidencyFloor {
  for (const [floor, residency] of Object.entries(RESIDENCIES)) {
    if (residency === target) return floor as ResidencyFloor;
  }
  throw new InvalidArgumentError(`${target} is no residency a model can have`);
}

/** The models a meta calls that are here; a model itself. */
export function modelsOf(
  model: ServedModel,
  registry: ModelRegistry<ServedModel>,
): LoadedModel[] {
  if (model.kind === "model") return [model];
  const stages = Array.from(model.calls, (name) => registry.current(name));
  return stages.filter((stage) => stage?.kind === "model");
}

/** As the status of a model tells it; of several, what holds for all of them. */
export function residencyOf(models: readonly LoadedModel[]): ResidencyStatus {
  const residencies = models.map(({ weights }) => RESIDENCIES[weights.floor]);
  return {
    residency: models.length === 0 ? Residency.UNPINNED : Math.min(...residencies),
    isDeviceResident: models.length > 0 && models.every(({ weights }) => weights.isResident),
    isHostResident: models.length > 0 && models.every(({ weights }) => weights.isHostResident),
    weightBytes: models.reduce((total, { weightBytes }) => total + weightBytes, 0),
  };
}

/**
 * Why a loaded model cannot serve, where residency is managed from outside; `undefined` when it can.
 */
export function residencyProblem(
  model: ServedModel,
  registry: ModelRegistry<ServedModel>,
): string | undefined {
  if (model.kind === "model") return model.weights.unit.refusal()?.message;
  for (const name of model.calls) {
    const stage = registry.current(name);
    if (stage?.kind !== "model") return `It calls model ${quoted(name)}, which is not here`;
    const problem = stage.weights.unit.refusal();
    if (problem) return problem.message;
  }
}

/**
 * Changes the floor of a model, or of all models that a meta calls. What other metas call too is not
 * given up for this one.
 * @returns what holds now, of the last model that was changed
 * @throws {ResourceExhaustedError} when there is no room on the device, {FailedPreconditionError} when
 *   the weights cannot be brought there
 */
export async function setResidency(
  model: ServedModel,
  floor: ResidencyFloor,
  registry: ModelRegistry<ServedModel>,
): Promise<Residency> {
  let models = modelsOf(model, registry);
  if (model.kind === "meta" && floor === "unpinned") {
    const others = [...registry.models()].filter((other): other is MetaModel =>
      other.kind === "meta" && other !== model
    );
    models = models.filter(({ name }) => !others.some(({ calls }) => calls.has(name)));
  }
  for (const { name, weights } of models) {
    try {
      await weights.setFloor(floor);
    } catch (error) {
      if (error instanceof ResourceExhaustedError) throw error;
      throw new FailedPreconditionError(
        `The weights of model ${quoted(name)} cannot be moved: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }
  const last = models.at(-1);
  return last ? RESIDENCIES[last.weights.floor] : RESIDENCIES[floor];
}

/** What regular and meta models share about their hooks. */

import type { HooksConfig } from "../config/mod.ts";
import type { Logger } from "../log.ts";
import type { DeclaredTensor } from "../protocol/mod.ts";
import { formatSpec, type NamedTensor } from "../tensor/mod.ts";
import type { HookFailure, WorkerLoss } from "./hooks/mod.ts";

/** How hooks of every model are run. */
export interface HookOptions {
  readonly hooks: HooksConfig & {
    /** Threads of one model at most. */
    readonly size: number;
  };
  readonly logger: Logger;
  /** Told when a hook thread had to be ended. */
  readonly onHookWorkerLost?: (model: string, reason: WorkerLoss) => void;
  /** Told of every request that failed through a hook. */
  readonly onHookFailure?: (model: string, reason: HookFailure) => void;
}

/** The options of one model's pool, with what the operator grants it, which is logged. */
export function hookPoolOptions(options: HookOptions, model: string) {
  const { hooks, logger, onHookWorkerLost, onHookFailure } = options;
  const grants = hooks.models.get(model);
  const given = Object.entries(grants ?? {}).filter(([, list]) => list.length > 0);
  if (given.length > 0) {
    logger.info("hooks may reach beyond their bundle", { model, ...Object.fromEntries(given) });
  }
  return {
    model,
    size: hooks.size,
    memoryBytes: hooks.memoryBytes,
    callTimeoutMs: hooks.callTimeoutSeconds * 1000,
    loadTimeoutMs: hooks.loadTimeoutSeconds * 1000,
    ...(grants ? { grants } : {}),
    onWorkerLost: (reason: WorkerLoss) => onHookWorkerLost?.(model, reason),
    onFailure: (reason: HookFailure) => onHookFailure?.(model, reason),
    onOutput: (level: "debug" | "info" | "warn" | "error", text: string) =>
      logger[level]("hook output", { model, text }),
  };
}

/** @throws {TypeError} naming the output that is missing, undeclared or of another type or shape */
export function checkOutputs(
  made: readonly NamedTensor[],
  declared: readonly DeclaredTensor[],
): void {
  for (const spec of declared) {
    const tensor = made.find(({ name }) => name === spec.name);
    const name = `output ${JSON.stringify(spec.name)}`;
    if (!tensor) throw new TypeError(`${name} is missing`);
    const fits = tensor.datatype === spec.datatype && tensor.shape.length === spec.shape.length &&
      spec.shape.every((extent, axis) => extent < 0 || extent === tensor.shape[axis]);
    if (!fits) {
      throw new TypeError(`${name} must be ${formatSpec(spec)}, got ${formatSpec(tensor)}`);
    }
  }
  if (made.length > declared.length) {
    const extra = made.find(({ name }) => !declared.some((spec) => spec.name === name));
    throw new TypeError(`output ${JSON.stringify(extra?.name)} is not declared`);
  }
}

/** What regular and meta models share about their hooks. */

import type { DeclaredTensor } from "../protocol/mod.ts";
import { formatSpec, type NamedTensor } from "../tensor/mod.ts";

/** How hooks of every model are run. */
export interface HookOptions {
  readonly hooks: {
    /** Workers of one model at most. */
    readonly size: number;
    /** Bound on one call of a request without an earlier deadline. */
    readonly callTimeoutMs: number;
    /** Bound on evaluating the hook file. */
    readonly loadTimeoutMs: number;
  };
  /** Told when a hook worker had to be ended. */
  readonly onHookWorkerLost?: (model: string, reason: string) => void;
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

/**
 * A model made of other models: its hook's `run` chains them. It has no program and no weights; it owns
 * its hook pool.
 */

import { type MetaBundle, readHook } from "../bundle/mod.ts";
import { InternalError, messageOf } from "../errors.ts";
import { ClientContract } from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { type HookCallLimits, type HookMemory, HookPool, type MetaServices } from "./hooks/mod.ts";
import type { LoadOptions } from "./loaded_model.ts";
import { checkOutputs, type HookOptions, hookPoolOptions } from "./model_hooks.ts";
import { Usage } from "./usage.ts";

/** Successful runs. `computeSeconds`: spent inside sub-calls. */
export interface MetaCounters {
  requests: number;
  computeSeconds: number;
}

export class MetaModel implements Disposable {
  readonly kind = "meta";
  /** Follows its folder's name. */
  name: string;
  readonly usage = new Usage();
  readonly bundle: MetaBundle;
  readonly contract: ClientContract;
  /** Models it may call. */
  readonly calls: ReadonlySet<string>;
  /** A newer version goes on counting in those of the older one. */
  counters: MetaCounters = { requests: 0, computeSeconds: 0 };
  readonly #hooks: HookPool;
  readonly #onHookFailure: HookOptions["onHookFailure"];

  private constructor(
    bundle: MetaBundle,
    hooks: HookPool,
    onHookFailure: HookOptions["onHookFailure"],
  ) {
    const { clientInputs, clientOutputs, calls } = bundle.manifest;
    this.name = bundle.name;
    this.bundle = bundle;
    this.contract = new ClientContract(bundle.name, clientInputs, clientOutputs);
    this.calls = new Set(calls);
    this.#hooks = hooks;
    this.#onHookFailure = onHookFailure;
  }

  /** Evaluates the hook file. @throws {BundleError} */
  static async load(
    bundle: MetaBundle,
    options: HookOptions & Pick<LoadOptions, "onRead">,
  ): Promise<MetaModel> {
    const source = await readHook(bundle.name, bundle.hook);
    await options.onRead();
    const hooks = await HookPool.open({
      ...hookPoolOptions(options, bundle.name),
      kind: "meta",
      directory: bundle.hook.directory,
      source,
    });
    return new MetaModel(bundle, hooks, options.onHookFailure);
  }

  /** What the threads of its hook hold of memory. */
  hookMemory(): HookMemory {
    return this.#hooks.memory();
  }

  /**
   * Runs once.
   * @param inputs client inputs as `contract` checked them
   * @throws {ServerError} a sub-call's own that `run` let through, else INTERNAL
   */
  async run(
    inputs: readonly NamedTensor[],
    limits: HookCallLimits,
    services: MetaServices,
  ): Promise<NamedTensor[]> {
    const outputs = await this.#hooks.call("run", inputs, limits, services);
    try {
      checkOutputs(outputs, this.contract.outputs);
    } catch (error) {
      this.#onHookFailure?.(this.name, "output");
      throw new InternalError(
        `run of model ${JSON.stringify(this.name)} gave bad tensors: ${messageOf(error)}`,
      );
    }
    return outputs;
  }

  [Symbol.dispose](): void {
    this.#hooks[Symbol.dispose]();
    this.bundle[Symbol.dispose]();
  }
}

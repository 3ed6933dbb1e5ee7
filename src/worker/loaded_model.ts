/**
 * One version of a model, ready to serve: compiled programs and weights, both of which it may share with
 * other versions, and hooks of its own. Disposing it is safe while a dispatch runs, because the
 * runtime frees a handle only when no call uses it any more.
 */

import {
  BundleError,
  InternalError,
  InvalidArgumentError,
  messageOf,
  ServerError,
} from "../errors.ts";
import {
  checkSignature,
  formatVariant,
  type ModelBundle,
  type ProgramFile,
  readHook,
  readProgram,
  selectVariant,
} from "../bundle/mod.ts";
import { ClientContract } from "../protocol/mod.ts";
import type {
  Backend,
  CompileSettings,
  DeviceAccount,
  ExecutableCache,
  ModelWeights,
  Program,
  WeightStore,
} from "../runtime/mod.ts";
import type { ResidencyFloor } from "../config/mod.ts";
import type {
  DispatchInputs,
  OutputTargets,
  RunOptions,
  RunOutcome,
  ScheduledModel,
  StagedInputs,
} from "../scheduler/mod.ts";
import { byteLengthOf, type NamedTensor } from "../tensor/mod.ts";
import { LEAST_LOAN_BYTES } from "../transport/mod.ts";
import { DeviceInputs } from "./device_inputs.ts";
import { type HookCallLimits, type HookMemory, type HookName, HookPool } from "./hooks/mod.ts";
import { checkOutputs, type HookOptions, hookPoolOptions } from "./model_hooks.ts";
import type { Share, SharedPool } from "./shared_pool.ts";
import { Usage } from "./usage.ts";

export interface LoadOptions extends HookOptions {
  readonly backend: Backend;
  readonly compileSettings: CompileSettings;
  /** Where compiled programs may come from. */
  readonly executableCache: ExecutableCache | undefined;
  /** Runs compilations; bounds how many are in progress across all models. */
  readonly compile: <T>(work: () => Promise<T>) => Promise<T>;
  /** Share weight and cap on coalesced rows, from the configuration. */
  readonly weight: number;
  readonly maxRows: number | undefined;
  /** Called when every file of the bundle has been read; rejects to give up. */
  readonly onRead: () => Promise<void>;
  /** Programs in use, by `programKey`. */
  readonly programs: SharedPool<BuiltProgram>;
  readonly weights: WeightStore;
  /** Where the weights must always be; `undefined`: the store decides. */
  readonly floor: ResidencyFloor | undefined;
  /** Whether requests wait for the model. */
  readonly isWanted: (model: ScheduledModel) => boolean;
  /** Told that the weights could not be had, in vain for whoever waits. */
  readonly onWeightsLost: (model: ScheduledModel, error: unknown) => void;
}

/** A request ready for the scheduler. */
export interface PreparedInputs {
  /** In program order. */
  readonly inputs: readonly NamedTensor[];
  readonly rows: number;
  readonly variantKey: string;
}

interface CompiledVariant {
  /** By compiled size, ascending; `[0]` where the inputs have no batch axis. */
  readonly sizes: number[];
  readonly programs: Map<number, Share<BuiltProgram>>;
}

/** How a model's programs came to be. */
export interface ProgramTotals {
  readonly count: number;
  /** How many were in use already, by the version before or by another model. */
  readonly reused: number;
  /** How many came from the executable cache. */
  readonly cached: number;
  /** Time spent compiling or loading them, one after the other. */
  readonly seconds: number;
}

export class LoadedModel implements ScheduledModel, Disposable {
  readonly kind = "model";
  /** Follows its folder's name. */
  name: string;
  readonly usage = new Usage();
  readonly bundle: ModelBundle;
  readonly weight: number;
  readonly maxRows: number | undefined;
  /** Largest compiled size, with the configured cap; 0 for a model without a batch axis. */
  readonly maxBatchSize: number;
  readonly inputBatchAxes: readonly (number | undefined)[];
  readonly outputBatchAxes: readonly (number | undefined)[];
  readonly isCoalescable: boolean;
  /** Whether any program gives a result that is worth lending memory for. */
  readonly hasLargeResults: boolean;
  /** What clients send and receive. */
  readonly contract: ClientContract;
  readonly programTotals: ProgramTotals;
  readonly #backend: Backend;
  readonly #account: DeviceAccount;
  readonly #variants: ReadonlyMap<string, CompiledVariant>;
  readonly weights: ModelWeights;
  readonly #hooks: HookPool | undefined;
  readonly #onHookFailure: LoadOptions["onHookFailure"];
  readonly #programContract: ClientContract;
  #isDisposed = false;

  private constructor(
    bundle: ModelBundle,
    options: LoadOptions,
    variants: ReadonlyMap<string, CompiledVariant>,
    weights: ModelWeights,
    hooks: HookPool | undefined,
    programTotals: ProgramTotals,
  ) {
    const { executableInputs, executableOutputs, clientInputs, clientOutputs } = bundle.manifest;
    this.contract = new ClientContract(bundle.name, clientInputs, clientOutputs);
    this.#programContract = new ClientContract(bundle.name, executableInputs, executableOutputs);
    this.name = bundle.name;
    this.bundle = bundle;
    this.weight = options.weight;
    this.maxRows = options.maxRows;
    this.inputBatchAxes = executableInputs.map((tensor) => tensor.batchAxis);
    this.outputBatchAxes = executableOutputs.map((tensor) => tensor.batchAxis);
    this.isCoalescable = executableInputs.length > 0 &&
      [...this.inputBatchAxes, ...this.outputBatchAxes].every((axis) => axis !== undefined);
    const largest = Math.max(...[...variants.values()].flatMap(({ sizes }) => sizes));
    this.maxBatchSize = Math.min(largest, options.maxRows ?? largest);
    this.hasLargeResults = [...variants.values()].some(({ programs }) =>
      [...programs.values()].some(({ value: { program: { signature } } }) =>
        signature.results.some((spec) => byteLengthOf(spec) >= LEAST_LOAN_BYTES)
      )
    );
    this.#backend = options.backend;
    this.#account = options.weights.account;
    this.#variants = variants;
    this.weights = weights;
    this.#hooks = hooks;
    this.#onHookFailure = options.onHookFailure;
    this.programTotals = programTotals;
  }

  /**
   * Compiles every program of a bundle, checks each against manifest and weights, uploads the weights and
   * evaluates the hook file; programs and weights that are in use already are shared. Takes ownership of
   * the bundle, also when it fails.
   * @throws {BundleError}
   */
  static async load(bundle: ModelBundle, options: LoadOptions): Promise<LoadedModel> {
    const owned: Disposable[] = [bundle];
    const own = <T extends Disposable>(value: T): T => {
      owned.push(value);
      return value;
    };
    try {
      const variants = new Map<string, CompiledVariant>();
      const files = bundle.programs.flatMap(({ files }) => files);
      const codes = await Promise.all(files.map((file) => readProgram(bundle.name, file)));
      const hookSource = bundle.hook && await readHook(bundle.name, bundle.hook);
      await options.onRead();
      // All settle before anything is judged, so that a failure leaves no compilation behind.
      const compiled = await Promise.allSettled(
        files.map((file, index) => compileChecked(bundle, file, codes[index]!, options, own)),
      );
      const totals = { count: files.length, reused: 0, cached: 0, seconds: 0 };
      for (const [index, result] of compiled.entries()) {
        if (result.status === "rejected") throw result.reason;
        const { program } = result.value;
        if (program.isReused) totals.reused++;
        else {
          if (program.value.isCached) totals.cached++;
          totals.seconds += program.value.seconds;
        }
        const key = files[index]!.variant.key.join();
        let variant = variants.get(key);
        if (!variant) variants.set(key, variant = { sizes: [], programs: new Map() });
        variant.sizes.push(result.value.batchSize);
        variant.programs.set(result.value.batchSize, program);
      }
      for (const { sizes } of variants.values()) sizes.sort((a, b) => a - b);
      const hooks = bundle.hook && own(await openHooks(bundle, hookSource!, options));
      const made: { model?: LoadedModel } = {};
      const weights = own(
        await options.weights.attach({
          model: bundle.name,
          weights: bundle.weights,
          floor: options.floor,
          ...deviceNeeds(bundle, variants, options.backend),
          isWanted: () => made.model !== undefined && options.isWanted(made.model),
          onLoadFailed: (error) => made.model && options.onWeightsLost(made.model, error),
        }),
      );
      return made.model = new LoadedModel(bundle, options, variants, weights, hooks, totals);
    } catch (error) {
      for (const value of owned.reverse()) value[Symbol.dispose]();
      if (error instanceof BundleError) throw error;
      throw new BundleError(bundle.name, messageOf(error), { cause: error });
    }
  }

  get hasHooks(): boolean {
    return this.#hooks !== undefined;
  }

  get weightBytes(): number {
    return this.bundle.weights.byteLength;
  }

  /** Whether the weights are on the device; where they may be brought in, they are on their way if not. */
  isRunnable(): boolean {
    return this.weights.request();
  }

  /** What the threads of its hooks hold of memory; `undefined` without hooks. */
  hookMemory(): HookMemory | undefined {
    return this.#hooks?.memory();
  }

  /**
   * One request's program inputs, by the hook where there is one.
   * @param inputs client inputs as `contract` checked them
   * @throws {ServerError} INTERNAL when the hook fails or forgets an input, INVALID_ARGUMENT when no
   *   program was compiled for the extents
   */
  prepare(
    inputs: readonly NamedTensor[],
    rows: number | undefined,
    limits: HookCallLimits,
  ): PreparedInputs | Promise<PreparedInputs> {
    if (!this.#hooks?.has("preprocess")) return this.#prepared(inputs, rows);
    return this.#hooks.call("preprocess", inputs, limits).then((made) => {
      const checked = this.#checkHook("preprocess", () => this.#programContract.checkInputs(made));
      return this.#prepared(checked.inputs, checked.rows);
    });
  }

  /**
   * One request's client outputs, by the hook where there is one.
   * @throws {ServerError} INTERNAL when the hook fails or gives what `client_outputs` does not declare
   */
  finish(
    outputs: NamedTensor[],
    limits: HookCallLimits,
  ): NamedTensor[] | Promise<NamedTensor[]> {
    if (!this.#hooks?.has("postprocess")) return outputs;
    return this.#hooks.call("postprocess", outputs, limits).then((made) => {
      this.#checkHook("postprocess", () => checkOutputs(made, this.contract.outputs));
      return made;
    });
  }

  /** Compiled sizes over all variants, ascending, each once. */
  get allSizes(): number[] {
    const all = new Set([...this.#variants.values()].flatMap(({ sizes }) => sizes));
    return [...all].sort((a, b) => a - b);
  }

  sizes(variantKey: string): readonly number[] | undefined {
    return this.#variants.get(variantKey)?.sizes;
  }

  /** Whether the weights are on the device. */
  isReady(): boolean {
    return this.weights.isResident;
  }

  /** Runs the program of a variant and size. @throws {ServerError} INTERNAL with the runtime's message */
  run(dispatch: DispatchInputs & RunOptions): Promise<RunOutcome> {
    return this.#run(dispatch, undefined, dispatch);
  }

  /** Begins to copy inputs to the device. Not of weights: only `run` has to do with them. */
  stage(dispatch: DispatchInputs): StagedInputs {
    const staged = new DeviceInputs(this.#backend, dispatch.inputs, this.#account);
    return {
      copied: staged.copied,
      run: async (options) => {
        using inputs = staged;
        return await this.#run(dispatch, inputs, options);
      },
      release: () => staged[Symbol.dispose](),
    };
  }

  /** @param staged the inputs, where they are on their way to the device already */
  async #run(
    { variantKey, size, inputs }: DispatchInputs,
    staged: DeviceInputs | undefined,
    { targets, after, onWaiting, onWait, onExecuted }: RunOptions,
  ): Promise<RunOutcome> {
    const share = this.#variants.get(variantKey)?.programs.get(size);
    if (!share) throw new InternalError(`Model ${this.#quoted} has no program of size ${size}`);
    const { program } = share.value;
    try {
      const bytes = dispatchBytes(program, this.weightBytes) - (staged?.byteLength ?? 0);
      const use = this.weights.use(Math.max(0, bytes));
      if (use instanceof Promise) onWaiting?.();
      using held = use instanceof Promise ? await timed(use, onWait) : use;
      if (after) await after;
      const ahead = staged && await staged.copied ? staged : undefined;
      const { outputs, stages } = await this.#backend.run(
        program,
        ahead ? [] : inputs,
        ahead ? [...ahead.buffers, ...held.buffers] : held.buffers,
        { targets: targets && this.#placesFor(program, targets), onExecuted },
      );
      const { results } = program.signature;
      return {
        outputs: this.bundle.manifest.executableOutputs.map(({ name }, index) => ({
          name,
          datatype: results[index]!.datatype,
          shape: results[index]!.shape,
          data: outputs[index]!,
        })),
        stages: ahead ? { ...stages, input: ahead.seconds } : stages,
      };
    } catch (error) {
      if (error instanceof ServerError) throw error;
      const reason = messageOf(error).slice(0, 500);
      throw new InternalError(`Executing model ${this.#quoted} failed: ${reason}`, {
        cause: error,
      });
    }
  }

  /**
   * Runs a program once on zeros. The first runs of a program are slower than all later ones, and the
   * scheduler wants to know what a dispatch costs before the first request pays for finding out.
   * @returns seconds
   * @throws {ServerError}
   */
  async warmUp(variantKey: string, size: number): Promise<number> {
    const { program } = this.#variants.get(variantKey)!.programs.get(size)!.value;
    const inputs = this.bundle.manifest.executableInputs.map(({ name }, index) => {
      const spec = program.signature.parameters[index]!;
      return { name, ...spec, data: new Uint8Array(byteLengthOf(spec)) };
    });
    const startMs = performance.now();
    await this.run({ variantKey, size, inputs });
    return (performance.now() - startMs) / 1000;
  }

  /** Programs that nobody else had made, by variant and size. */
  *newPrograms(): Generator<{ variantKey: string; size: number }> {
    for (const [variantKey, { programs }] of this.#variants) {
      for (const [size, { isReused }] of programs) if (!isReused) yield { variantKey, size };
    }
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#hooks?.[Symbol.dispose]();
    for (const { programs } of this.#variants.values()) {
      for (const program of programs.values()) program[Symbol.dispose]();
    }
    this.weights[Symbol.dispose]();
    this.bundle[Symbol.dispose]();
  }

  /**
   * Where each result goes. Only a device that computes in host memory writes to a client's memory: the
   * engine of another would fail where part of that is gone, and take the device with it. What is ours
   * stays.
   */
  #placesFor(
    { signature }: Program,
    targets: OutputTargets,
  ): (Uint8Array | undefined)[] | undefined {
    if (!this.#backend.adopt && !targets.isOurs) return undefined;
    const { executableOutputs } = this.bundle.manifest;
    return signature.results.map((spec, index) => {
      const byteLength = byteLengthOf(spec);
      const room = targets.get(executableOutputs[index]!.name, byteLength);
      return room && room.length >= byteLength ? room.subarray(0, byteLength) : undefined;
    });
  }

  get #quoted(): string {
    return JSON.stringify(this.name);
  }

  /** A tensor a hook got wrong is the hook's failure, not the client's. */
  #checkHook<T>(hook: HookName, check: () => T): T {
    try {
      return check();
    } catch (error) {
      this.#onHookFailure?.(this.name, "output");
      throw new InternalError(
        `${hook} of model ${this.#quoted} gave bad tensors: ${messageOf(error)}`,
      );
    }
  }

  #prepared(inputs: readonly NamedTensor[], rows = 1): PreparedInputs {
    const variantKey = this.#variantOf(inputs);
    const { sizes } = this.#variants.get(variantKey)!;
    if (sizes[0] !== 0) this.#checkRows(rows, sizes);
    return { inputs, rows, variantKey };
  }

  #variantOf(inputs: readonly NamedTensor[]): string {
    if (this.#variants.size === 1 && this.#variants.has("")) return "";
    const { executableInputs, variants } = this.bundle.manifest;
    return selectVariant(executableInputs, variants, inputs.map(({ shape }) => shape)).key.join();
  }

  #checkRows(rows: number, sizes: readonly number[]): void {
    const largest = sizes[sizes.length - 1]!;
    if (rows === 0) throw new InvalidArgumentError(`Model ${this.#quoted} got a batch of 0 rows`);
    if (rows > largest) {
      throw new InvalidArgumentError(
        `Batch size ${rows} is more than model ${this.#quoted} was compiled for (${largest})`,
      );
    }
    // Padding would leak into outputs that have no batch axis to cut it off along.
    if (!this.isCoalescable && !sizes.includes(rows)) {
      throw new InvalidArgumentError(
        `Model ${this.#quoted} takes batches of exactly ${sizes.join(", ")} rows, got ${rows}`,
      );
    }
  }
}

async function compileChecked(
  bundle: ModelBundle,
  file: ProgramFile,
  code: Uint8Array,
  options: LoadOptions,
  own: <T extends Disposable>(value: T) => T,
): Promise<{ program: Share<BuiltProgram>; batchSize: number }> {
  const key = await programKey(code, options.compileSettings);
  try {
    const program = own(
      await options.programs.acquire(key, () => options.compile(() => build(code, options))),
    );
    const { signature } = program.value.program;
    return { program, batchSize: checkSignature(bundle, file, signature).batchSize };
  } catch (error) {
    if (error instanceof BundleError) throw error;
    const variant = formatVariant(file.variant);
    throw new BundleError(
      bundle.name,
      `${file.fileName}${variant === "" ? "" : ` (${variant})`} does not compile: ${
        messageOf(error)
      }`,
      { cause: error },
    );
  }
}

/** A program and how it came to be. */
export interface BuiltProgram {
  readonly program: Program;
  /** Whether it came from the executable cache. */
  readonly isCached: boolean;
  /** Time it took. */
  readonly seconds: number;
}

/** Two programs with one key are interchangeable in this process: everything else is the backend's. */
async function programKey(code: Uint8Array, settings: CompileSettings): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", code as BufferSource);
  return `${new Uint8Array(digest).toHex()} ${JSON.stringify(settings)}`;
}

async function build(code: Uint8Array, options: LoadOptions): Promise<BuiltProgram> {
  const { backend, compileSettings, executableCache } = options;
  const startMs = performance.now();
  const { program, isCached } = await executableCache?.load(code, compileSettings) ??
    { program: await backend.compile(code, compileSettings), isCached: false };
  return { program, isCached, seconds: (performance.now() - startMs) / 1000 };
}

/** Tells how long something was waited for, in vain or not. */
async function timed<T>(
  wait: Promise<T>,
  onWait: ((seconds: number) => void) | undefined,
): Promise<T> {
  const startMs = performance.now();
  try {
    return await wait;
  } finally {
    onWait?.((performance.now() - startMs) / 1000);
  }
}

/**
 * The most that a dispatch takes of the device besides weights, and, where the copies of one are done beside
 * the execution of another, the most that it has there meanwhile. Both 0 where the compiler does not say.
 */
function deviceNeeds(
  { weights }: ModelBundle,
  variants: ReadonlyMap<string, CompiledVariant>,
  { overlapsTransfers }: Backend,
): { scratchBytes: number; stagedBytes: number } {
  const most = { scratchBytes: 0, stagedBytes: 0 };
  for (const { programs } of variants.values()) {
    for (const { value: { program } } of programs.values()) {
      const dispatched = dispatchBytes(program, weights.byteLength);
      most.scratchBytes = Math.max(most.scratchBytes, dispatched);
      if (!overlapsTransfers) continue;
      most.stagedBytes = Math.max(most.stagedBytes, movedBytes(program, weights.byteLength));
    }
  }
  return most;
}

/** What one dispatch takes of the device besides weights; 0 where the compiler does not say. */
function dispatchBytes(program: Program, weightBytes: number): number {
  return movedBytes(program, weightBytes) + (program.memory?.temporaryBytes ?? 0);
}

/** What goes in and comes out of a dispatch, without weights. */
function movedBytes({ memory }: Program, weightBytes: number): number {
  return memory ? Math.max(0, memory.argumentBytes - weightBytes) + memory.outputBytes : 0;
}

async function openHooks(
  bundle: ModelBundle,
  source: string,
  options: LoadOptions,
): Promise<HookPool> {
  return await HookPool.open({
    ...hookPoolOptions(options, bundle.name),
    kind: "model",
    directory: bundle.directory,
    source,
  });
}

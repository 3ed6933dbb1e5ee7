/**
 * One model ready to serve: compiled programs, weights on the device, hooks. It owns all of them;
 * disposing it is safe while a dispatch runs, because the runtime frees a handle only when no call uses
 * it any more.
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
  type ManifestTensor,
  type ModelBundle,
  type ProgramFile,
  readHook,
  readProgram,
  selectVariant,
} from "../bundle/mod.ts";
import type { Backend, CompileSettings, DeviceBuffer, Program } from "../runtime/mod.ts";
import type { ScheduledModel } from "../scheduler/mod.ts";
import { formatShape, formatSpec, type NamedTensor } from "../tensor/mod.ts";
import { type HookCallLimits, HookPool } from "./hooks/mod.ts";

export interface LoadOptions {
  readonly backend: Backend;
  readonly compileSettings: CompileSettings;
  /** Runs compilations; bounds how many are in progress across all models. */
  readonly compile: <T>(work: () => Promise<T>) => Promise<T>;
  /** Hook workers of one model at most. */
  readonly hookWorkers: number;
  readonly hookCallTimeoutMs: number;
  readonly hookLoadTimeoutMs: number;
  /** Share weight and cap on coalesced rows, from the configuration. */
  readonly weight: number;
  readonly maxRows: number | undefined;
  /** Told when a hook worker had to be ended. */
  readonly onHookWorkerLost?: (model: string, reason: string) => void;
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
  readonly programs: Map<number, Program>;
}

export class LoadedModel implements ScheduledModel, Disposable {
  readonly name: string;
  readonly bundle: ModelBundle;
  readonly weight: number;
  readonly maxRows: number | undefined;
  /** Largest compiled size, with the configured cap; 0 for a model without a batch axis. */
  readonly maxBatchSize: number;
  readonly inputBatchAxes: readonly (number | undefined)[];
  readonly outputBatchAxes: readonly (number | undefined)[];
  readonly isCoalescable: boolean;
  readonly #backend: Backend;
  readonly #variants: ReadonlyMap<string, CompiledVariant>;
  readonly #weights: readonly DeviceBuffer[];
  readonly #hooks: HookPool | undefined;
  #isDisposed = false;

  private constructor(
    bundle: ModelBundle,
    options: LoadOptions,
    variants: ReadonlyMap<string, CompiledVariant>,
    weights: readonly DeviceBuffer[],
    hooks: HookPool | undefined,
  ) {
    const { executableInputs, executableOutputs } = bundle.manifest;
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
    this.#backend = options.backend;
    this.#variants = variants;
    this.#weights = weights;
    this.#hooks = hooks;
  }

  /**
   * Compiles every program of a bundle, checks each against manifest and weights, uploads the weights and
   * evaluates the hook file. Takes ownership of the bundle, also when it fails.
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
      // All settle before anything is judged, so that a failure leaves no compilation behind.
      const compiled = await Promise.allSettled(
        files.map(async (file) => await compileChecked(bundle, file, options, own)),
      );
      for (const [index, result] of compiled.entries()) {
        if (result.status === "rejected") throw result.reason;
        const key = files[index]!.variant.key.join();
        let variant = variants.get(key);
        if (!variant) variants.set(key, variant = { sizes: [], programs: new Map() });
        variant.sizes.push(result.value.batchSize);
        variant.programs.set(result.value.batchSize, result.value.program);
      }
      for (const { sizes } of variants.values()) sizes.sort((a, b) => a - b);
      const weights: DeviceBuffer[] = [];
      for (const [index, spec] of bundle.weights.specs.entries()) {
        const data = await bundle.weights.read(index);
        weights.push(own(await options.backend.upload(spec, data)));
      }
      const hooks = bundle.hook && own(await openHooks(bundle, options));
      return new LoadedModel(bundle, options, variants, weights, hooks);
    } catch (error) {
      for (const value of owned.reverse()) value[Symbol.dispose]();
      if (error instanceof BundleError) throw error;
      throw new BundleError(bundle.name, messageOf(error), { cause: error });
    }
  }

  get weightBytes(): number {
    return this.bundle.weights.byteLength;
  }

  get hasPreprocess(): boolean {
    return this.#hooks?.has("preprocess") ?? false;
  }

  get hasPostprocess(): boolean {
    return this.#hooks?.has("postprocess") ?? false;
  }

  /**
   * Client tensors to program inputs: by the hook where there is one, as they are otherwise.
   * @throws {ServerError}
   */
  async preprocess(
    inputs: readonly NamedTensor[],
    limits: HookCallLimits,
  ): Promise<PreparedInputs> {
    const prepared = await this.#hooks!.call("preprocess", inputs, limits);
    return this.prepare(prepared, "preprocess");
  }

  /** One request's program outputs to client outputs. @throws {ServerError} */
  postprocess(outputs: readonly NamedTensor[], limits: HookCallLimits): Promise<NamedTensor[]> {
    return this.#hooks!.call("postprocess", outputs, limits);
  }

  /**
   * Orders and checks the program inputs of one request.
   * @param source who made them: an input a hook forgot or mistyped is the hook's failure, an extent no
   *   program was compiled for is the client's
   * @throws {InvalidArgumentError | InternalError} naming the tensor
   */
  prepare(
    tensors: readonly NamedTensor[],
    source: "client" | "preprocess" = "client",
  ): PreparedInputs {
    const declared = this.bundle.manifest.executableInputs;
    const inputs = declared.map((spec, index) => {
      // Clients nearly always send inputs in the declared order.
      const tensor = tensors[index]?.name === spec.name
        ? tensors[index]
        : tensors.find(({ name }) => name === spec.name);
      const problem = tensor ? mismatch(tensor, spec) : "is missing";
      if (problem !== undefined) throw this.#badInput(spec, problem, source);
      return tensor!;
    });
    const rows = this.#rowsOf(inputs, source);
    const variant = this.#variantOf(inputs);
    const { sizes } = this.#variants.get(variant)!;
    if (sizes[0] !== 0) this.#checkRows(rows, sizes);
    return { inputs, rows, variantKey: variant };
  }

  sizes(variantKey: string): readonly number[] | undefined {
    return this.#variants.get(variantKey)?.sizes;
  }

  /** Runs the program of a variant and size. @throws {ServerError} INTERNAL with the runtime's message */
  async run(
    { variantKey, size, inputs }: {
      variantKey: string;
      size: number;
      inputs: readonly NamedTensor[];
    },
  ): Promise<NamedTensor[]> {
    const program = this.#variants.get(variantKey)?.programs.get(size);
    if (!program) throw new InternalError(`Model ${this.#quoted} has no program of size ${size}`);
    try {
      const data = await this.#backend.run(program, inputs, this.#weights);
      return this.bundle.manifest.executableOutputs.map((output, index) => ({
        name: output.name,
        ...program.signature.results[index]!,
        data: data[index]!,
      }));
    } catch (error) {
      if (error instanceof ServerError) throw error;
      const reason = messageOf(error).slice(0, 500);
      throw new InternalError(`Executing model ${this.#quoted} failed: ${reason}`, {
        cause: error,
      });
    }
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#hooks?.[Symbol.dispose]();
    for (const { programs } of this.#variants.values()) {
      for (const program of programs.values()) program[Symbol.dispose]();
    }
    for (const weight of this.#weights) weight[Symbol.dispose]();
    this.bundle[Symbol.dispose]();
  }

  get #quoted(): string {
    return JSON.stringify(this.name);
  }

  #badInput(spec: ManifestTensor, problem: string, source: "client" | "preprocess"): ServerError {
    const tensor = JSON.stringify(spec.name);
    return source === "client"
      ? new InvalidArgumentError(`Input ${tensor} of model ${this.#quoted} ${problem}`)
      : new InternalError(
        `preprocess of model ${this.#quoted} gave bad inputs: ${tensor} ${problem}`,
      );
  }

  /** The batch extent, which every input with a batch axis must share; 1 without one. */
  #rowsOf(inputs: readonly NamedTensor[], source: "client" | "preprocess"): number {
    let rows: number | undefined;
    for (const [index, axis] of this.inputBatchAxes.entries()) {
      if (axis === undefined) continue;
      const extent = inputs[index]!.shape[axis]!;
      if (rows !== undefined && extent !== rows) {
        const spec = this.bundle.manifest.executableInputs[index]!;
        throw this.#badInput(
          spec,
          `has batch size ${extent} where the inputs before it have ${rows}`,
          source,
        );
      }
      rows = extent;
    }
    return rows ?? 1;
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

/** Why a tensor does not fit its declaration, batch and variable axes aside. */
function mismatch(tensor: NamedTensor, spec: ManifestTensor): string | undefined {
  const { shape } = tensor;
  if (
    tensor.datatype === spec.datatype && shape.length === spec.shape.length &&
    spec.shape.every((extent, axis) => extent < 0 || extent === shape[axis])
  ) return undefined;
  return `must be ${formatSpec(spec)}, got ${tensor.datatype}${formatShape(shape)}`;
}

async function compileChecked(
  bundle: ModelBundle,
  file: ProgramFile,
  options: LoadOptions,
  own: <T extends Disposable>(value: T) => T,
): Promise<{ program: Program; batchSize: number }> {
  const code = await readProgram(bundle.name, file);
  try {
    const program = own(
      await options.compile(() => options.backend.compile(code, options.compileSettings)),
    );
    return { program, batchSize: checkSignature(bundle, file, program.signature).batchSize };
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

async function openHooks(bundle: ModelBundle, options: LoadOptions): Promise<HookPool> {
  const hook = bundle.hook!;
  return await HookPool.open({
    model: bundle.name,
    directory: hook.directory,
    source: await readHook(bundle.name, hook),
    size: options.hookWorkers,
    callTimeoutMs: options.hookCallTimeoutMs,
    loadTimeoutMs: options.hookLoadTimeoutMs,
    onWorkerLost: (reason) => options.onHookWorkerLost?.(bundle.name, reason),
  });
}

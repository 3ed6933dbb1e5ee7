/** A bundle's weights as the program wants them: in argument order, in program layout. */
import { setImmediate } from "node:timers/promises";
import { BundleError, messageOf } from "../errors.ts";
import { datatypeInfo, type TensorSpec } from "../tensor/mod.ts";
import type { AxisOrder } from "./manifest_tensors.ts";
import { quote } from "./manifest_reader.ts";
import { readSafetensors, type SafetensorsIndex, type StoredTensor } from "./safetensors.ts";
import { parseStringArray } from "./safetensors_header.ts";
import { reverseAxes } from "./transpose.ts";
import { WeightFile } from "./weight_file.ts";

/** Name of the weights file in a bundle. */
export const WEIGHTS_FILE = "weights.safetensors";

/** One weight argument of the programs. `shape` is in program (wire) order. */
export interface WeightSpec extends TensorSpec {
  readonly name: string;
  readonly byteLength: number;
}

/**
 * The weights of one loaded bundle. States: open, disposed. While open it holds the file, mapped; every
 * view it gave out ends with it, so whoever uploads from one holds it until that is done.
 */
export class Weights implements Disposable {
  /** In argument order: the program parameters after the inputs. */
  readonly specs: readonly WeightSpec[];
  /** Sum of the bytes of all weights: the model's footprint. */
  readonly byteLength: number;
  /** Whether every weight is in program layout in the file already, so that `read` copies nothing. */
  readonly isProgramLayout: boolean;
  /** Equal identities mean equal specs and equal bytes. */
  readonly identity: string;
  /** Where the file was when it was opened. */
  readonly path: string;
  /** Of the file alone: what `weightFileIdentity` gives for it. */
  readonly fileIdentity: string;
  readonly warnings: readonly string[];
  readonly #bundle: string;
  readonly #file: WeightFile;
  readonly #stored: readonly StoredTensor[];
  readonly #isReversed: boolean;
  /** Who keeps the file open: the owner, until this is disposed, and whoever asked for it. */
  #holders = 1;
  #isDisposed = false;

  private constructor(bundle: string, path: string, file: WeightFile, axisOrder: AxisOrder) {
    this.#bundle = bundle;
    this.path = path;
    this.fileIdentity = file.identity;
    this.#file = file;
    this.#isReversed = axisOrder === "column_major";
    this.identity = `${file.identity} ${axisOrder}`;
    const index = readSafetensors(file);
    file.check();
    const { order, warnings } = readArgumentOrder(index);
    this.#stored = order;
    this.warnings = warnings;
    this.specs = order.map(({ name, datatype, shape, byteLength }) => ({
      name,
      datatype,
      shape: this.#isReversed ? [...shape].reverse() : shape,
      byteLength,
    }));
    this.byteLength = this.specs.reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.isProgramLayout = order.every((tensor) => !this.#needsReversal(tensor));
  }

  /**
   * Opens and checks a weights file; reads no tensor data.
   * @param bundle model name, for messages
   * @throws {BundleError}
   */
  static open(bundle: string, path: string, axisOrder: AxisOrder): Weights {
    let file: WeightFile | undefined;
    try {
      file = WeightFile.open(path);
      return new Weights(bundle, path, file, axisOrder);
    } catch (error) {
      file?.[Symbol.dispose]();
      if (error instanceof Deno.errors.NotFound) {
        throw new BundleError(
          bundle,
          `${WEIGHTS_FILE} is missing (a model without weights needs one without tensors)`,
          { cause: error },
        );
      }
      throw new BundleError(bundle, `${WEIGHTS_FILE}: ${messageOf(error)}`, { cause: error });
    }
  }

  /**
   * The bytes of weight `index`, row-major for its spec. A view of the file where the layout is the
   * program's already (valid until this is disposed), else a new array; `target`, when given, receives
   * a copy in either case. Permuting takes about a second per GB and lets other work run in between.
   * Whoever copies from a view asks `check` before the copy is used; other results have been checked.
   * @throws {BundleError} when the file was changed after it was opened
   */
  async read(index: number, target?: Uint8Array): Promise<Uint8Array> {
    const stored = this.#stored[index];
    if (stored === undefined) throw new RangeError(`there is no weight ${index}`);
    if (target !== undefined && target.length !== stored.byteLength) {
      throw new RangeError(
        `weight ${quote(stored.name)} has ${stored.byteLength} bytes, the target ${target.length}`,
      );
    }
    const source = this.#view(stored);
    if (!this.#needsReversal(stored)) {
      if (target === undefined) return source;
      target.set(source);
      this.check();
      return target;
    }
    const result = target ?? new Uint8Array(stored.byteLength);
    const { byteSize } = datatypeInfo(stored.datatype);
    for (const _pause of reverseAxes(source, result, stored.shape, byteSize)) {
      await setImmediate();
      this.#view(stored); // the file must still be as it was, and open
    }
    this.check();
    return result;
  }

  /**
   * Whether all that was read so far was what the file is to hold.
   * @throws {BundleError} when the file was changed, or cut short while it was read
   */
  check(): void {
    this.#checked(() => this.#file.check());
  }

  /** Whether `read` gives a view of the file for weight `index`, instead of a permuted copy. */
  isView(index: number): boolean {
    const stored = this.#stored[index];
    return stored !== undefined && !this.#needsReversal(stored);
  }

  /** Keeps the file open until disposed, also when the owner disposes this before. */
  hold(): Disposable {
    if (this.#holders === 0) throw new TypeError("these weights are disposed");
    this.#holders++;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#release();
        isHeld = false;
      },
    };
  }

  /** Closes the file, when nobody holds it. Views given out must not be used any more then. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#release();
  }

  #release(): void {
    if (--this.#holders === 0) this.#file[Symbol.dispose]();
  }

  #needsReversal({ shape, byteLength }: StoredTensor): boolean {
    return this.#isReversed && byteLength > 0 && shape.filter((extent) => extent > 1).length > 1;
  }

  #view(stored: StoredTensor): Uint8Array {
    return this.#checked(() => this.#file.view(stored.offset, stored.byteLength));
  }

  #checked<T>(look: () => T): T {
    if (this.#holders === 0) {
      throw new TypeError(`the weights of ${quote(this.#bundle)} are disposed`);
    }
    try {
      return look();
    } catch (error) {
      throw new BundleError(this.#bundle, `${WEIGHTS_FILE}: ${messageOf(error)}`, { cause: error });
    }
  }
}

/** The weights in argument order. There is no fallback order: a guess would run and give nonsense. */
function readArgumentOrder(
  { metadata, tensors }: SafetensorsIndex,
): { order: StoredTensor[]; warnings: string[] } {
  const text = metadata.get("argument_order");
  if (text === undefined) {
    if (tensors.size === 0) return { order: [], warnings: [] };
    throw new Error(
      `has ${tensors.size} tensors but no argument_order in __metadata__, which says in what order ` +
        "the program takes them",
    );
  }
  const names = parseStringArray(text, "__metadata__.argument_order");
  const order = names.map((name) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      throw new Error(`argument_order lists ${quote(name)}, which is not there`);
    }
    return tensor;
  });
  const listed = new Set(names);
  const unused = [...tensors.keys()].filter((name) => !listed.has(name));
  if (unused.length === 0) return { order, warnings: [] };
  const examples = unused.slice(0, 5).map(quote).join(", ");
  return {
    order,
    warnings: [
      `${WEIGHTS_FILE} has ${unused.length} tensors that argument_order does not list, which are ` +
      `ignored: ${examples}${unused.length > 5 ? ", …" : ""}`,
    ],
  };
}

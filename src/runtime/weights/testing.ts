/** A weight store over a device without a plugin, for tests of this folder. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Weights } from "../../bundle/mod.ts";
import type { ResidencyFloor } from "../../config/mod.ts";
import { silentLogger } from "../../log.ts";
import type { DeviceMemory } from "../backend.ts";
import { MockBackend } from "../mock_backend.ts";
import type { ModelWeights } from "./model_weights.ts";
import { WeightStore, type WeightStoreOptions } from "./weight_store.ts";

/** Bytes of each tensor of the test's weights. */
export const TENSOR = 8;

/** A store over a device without a plugin, with as many models as a test asks for. */
export class Fixture implements AsyncDisposable {
  /** What the device's allocator says; a test moves it. */
  memory: DeviceMemory | undefined;
  readonly backend = new MockBackend({ programs: {}, memory: () => this.memory });
  readonly store: WeightStore;
  readonly failures: [model: string, error: unknown][] = [];
  /** Models that requests wait for. */
  readonly wanted = new Set<string>();
  ready = 0;
  readonly #folder = Deno.makeTempDirSync();
  readonly #files: Weights[] = [];

  constructor(options: Partial<WeightStoreOptions> & { arenaBytes?: number } = {}) {
    const { arenaBytes } = options;
    this.store = new WeightStore({
      backend: this.backend,
      logger: silentLogger,
      arena: arenaBytes === undefined ? undefined : { bytes: arenaBytes, from: "the test" },
      fraction: 1,
      wiggle: 0,
      isExternallyManaged: false,
      sharedMode: undefined,
      onChange: () => this.ready++,
      ...options,
    });
  }

  /** Weights of `tensors` tensors, each of `TENSOR` bytes that say which one it is. */
  file(model: string, tensors = 1): Weights {
    const names = Array.from({ length: tensors }, (_, index) => `t${index}`);
    const header: Record<string, unknown> = {
      __metadata__: { argument_order: JSON.stringify(names) },
    };
    names.forEach((name, index) => {
      header[name] = {
        dtype: "U8",
        shape: [TENSOR],
        data_offsets: [index * TENSOR, (index + 1) * TENSOR],
      };
    });
    const text = new TextEncoder().encode(JSON.stringify(header));
    const bytes = new Uint8Array(8 + text.length + tensors * TENSOR);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    for (let index = 0; index < tensors; index++) {
      bytes.fill(
        index + 1,
        8 + text.length + index * TENSOR,
        8 + text.length + (index + 1) * TENSOR,
      );
    }
    const path = join(this.#folder, `${model}.safetensors`);
    Deno.writeFileSync(path, bytes);
    const weights = Weights.open(model, path, "row_major");
    this.#files.push(weights);
    return weights;
  }

  attach(
    model: string,
    options: {
      weights?: Weights;
      floor?: ResidencyFloor;
      tensors?: number;
      scratch?: number;
      staged?: number;
    } = {},
  ): Promise<ModelWeights> {
    return this.store.attach({
      model,
      weights: options.weights ?? this.file(model, options.tensors),
      floor: options.floor,
      scratchBytes: options.scratch ?? 0,
      stagedBytes: options.staged ?? 0,
      isWanted: () => this.wanted.has(model),
      onLoadFailed: (error) => this.failures.push([model, error]),
    });
  }

  get buffers(): number {
    return this.backend.liveHandles().buffer!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    for (const file of this.#files) file[Symbol.dispose]();
    Deno.removeSync(this.#folder, { recursive: true });
    assert.equal(this.buffers, 0, "a buffer was left on the device");
    assert.equal(this.store.account.inUseBytes, 0, "memory was left in the account");
  }
}

/** One dispatch. */
export async function dispatch(weights: ModelWeights): Promise<void> {
  using use = await weights.use();
  assert.ok(use.buffers.length > 0);
}

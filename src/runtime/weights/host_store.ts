/**
 * The host tier: weights in host memory in program layout, made once and kept, so that bringing them to
 * the device is a plain copy. Private to this process, or one copy for all workers of the node.
 */

import { Mapping, SystemCallError } from "../../../ffi/libc/mod.ts";
import { messageOf } from "../../errors.ts";
import type { Weights } from "../../bundle/mod.ts";
import type { Logger } from "../../log.ts";
import { fillLayout, layOut } from "./host_layout.ts";
import type { MemoryRoom } from "./memory_room.ts";
import { acquireRegion, regionKey } from "./shared_region.ts";

/** Weights in host memory. Views end with it. */
export interface HostCopy extends Disposable {
  readonly isShared: boolean;
  /**
   * Whether what was read of it is right, and the rest may be read: a shared one can be cut short by
   * whoever may write to it.
   */
  readonly isWhole: boolean;
  /** The bytes of weight `index`, row-major for its spec; not to be written to. */
  bytes(index: number): Uint8Array;
  /** All weights, as `layOut` lays them out. */
  readonly contents: Uint8Array;
}

export interface HostStoreOptions {
  /** Permission bits of shared regions; `undefined`: every copy is private. */
  readonly sharedMode: number | undefined;
  readonly logger: Logger;
  /** The host memory there is, where it is bounded. */
  readonly room?: MemoryRoom | undefined;
}

export class HostStore {
  readonly #options: HostStoreOptions;

  constructor(options: HostStoreOptions) {
    this.#options = options;
  }

  /**
   * Makes a host copy. Where a shared one cannot be had, a private one is made and the log says why.
   * @param model for the log
   * @throws {BundleError} when the file is changed meanwhile
   * @throws {ResourceExhaustedError} when there is no room for it
   * @throws {SystemCallError} when there is no memory
   */
  async materialise(model: string, weights: Weights): Promise<HostCopy> {
    const { sharedMode, logger } = this.#options;
    if (sharedMode !== undefined && weights.byteLength > 0) {
      try {
        return await this.#share(model, weights, sharedMode);
      } catch (error) {
        if (!(error instanceof SystemCallError)) throw error;
        logger.warn("weights cannot be shared, this worker keeps a copy of its own", {
          model,
          bytes: weights.byteLength,
          reason: `${messageOf(error)}${remedyFor(error)}`,
        });
      }
    }
    return await this.keepPrivate(model, weights);
  }

  /** Makes a host copy of this process alone. @throws as `materialise` does */
  async keepPrivate(model: string, weights: Weights): Promise<HostCopy> {
    using _room = await this.#options.room?.claim(model, weights.byteLength);
    return await keepPrivate(weights);
  }

  async #share(model: string, weights: Weights, mode: number): Promise<HostCopy> {
    const layout = layOut(weights);
    const region = await acquireRegion({
      key: await regionKey(weights.identity, weights.specs),
      byteLength: layout.byteLength,
      source: { model, path: weights.path, identity: weights.fileIdentity },
      mode,
      logger: this.#options.logger,
      claim: () => this.#options.room?.claim(model, layout.byteLength),
      fill: (target, start) => fillLayout(weights, layout, target, start),
    });
    this.#options.logger.debug("shared weights", {
      model,
      region: region.name,
      bytes: layout.byteLength,
      isReused: region.isReused,
    });
    return {
      isShared: true,
      get isWhole() {
        return region.isWhole;
      },
      contents: region.bytes(0, layout.byteLength),
      bytes: (index) => region.bytes(layout.offsets[index]!, weights.specs[index]!.byteLength),
      [Symbol.dispose]: () => region[Symbol.dispose](),
    };
  }
}

async function keepPrivate(weights: Weights): Promise<HostCopy> {
  const layout = layOut(weights);
  const mapping = Mapping.anonymous(layout.byteLength);
  try {
    await fillLayout(weights, layout, mapping, 0);
  } catch (error) {
    mapping[Symbol.dispose]();
    throw error;
  }
  return {
    isShared: false,
    isWhole: true,
    contents: mapping.bytes(),
    bytes: (index) => mapping.bytes(layout.offsets[index]!, weights.specs[index]!.byteLength),
    [Symbol.dispose]: () => mapping[Symbol.dispose](),
  };
}

function remedyFor({ code }: SystemCallError): string {
  if (code === "ENOSPC" || code === "ENOMEM" || code === "EFBIG") {
    return "; give /dev/shm more room (--shm-size in a container)";
  }
  if (code === "EACCES" || code === "EPERM") {
    return "; run the workers as one user, or give them a group and shared_host_weights_mode 660";
  }
  return "";
}

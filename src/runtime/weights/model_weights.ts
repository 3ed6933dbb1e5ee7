/** One model's weights, as the model sees them. */

import type { ResidencyFloor } from "../../config/mod.ts";
import type { AttachRequest } from "./weight_store.ts";
import type { UnitHolder, WeightUnit, WeightUse } from "./weight_unit.ts";

/** What it needs of the store. */
export interface ModelWeightsServices {
  /** The scratch has changed: the budget follows. */
  resolve(): void;
  /** @throws {ResourceExhaustedError} where there is no room to pin the weights */
  checkPin(): void;
  /** See `ModelWeights.measure`. */
  measure(run: () => Promise<void>): Promise<number | undefined>;
  detach(): void;
}

/** States: attached, disposed. Disposing lets go of the weights, which go when nobody has them. */
export class ModelWeights implements UnitHolder, Disposable {
  readonly model: string;
  readonly unit: WeightUnit;
  readonly isWanted: () => boolean;
  readonly onLoadFailed: (error: unknown) => void;
  /** See `AttachRequest`. */
  readonly stagedBytes: number;
  readonly #services: ModelWeightsServices;
  #floor: ResidencyFloor;
  #scratchBytes: number;
  #isAttached = true;

  constructor(
    unit: WeightUnit,
    request: AttachRequest,
    floor: ResidencyFloor,
    services: ModelWeightsServices,
  ) {
    this.unit = unit;
    this.model = request.model;
    this.isWanted = request.isWanted;
    this.onLoadFailed = request.onLoadFailed;
    this.#services = services;
    this.#floor = floor;
    this.#scratchBytes = request.scratchBytes;
    this.stagedBytes = request.stagedBytes;
  }

  /** The least it keeps. */
  get floor(): ResidencyFloor {
    return this.#floor;
  }

  /** Of the tensors, without what an allocator adds. */
  get byteLength(): number {
    return this.unit.weights.byteLength;
  }

  /** On the device now. */
  get isResident(): boolean {
    return this.unit.isResident;
  }

  /** Copied in host memory now. */
  get isHostResident(): boolean {
    return this.unit.isHostResident;
  }

  /** The most device memory that a dispatch takes besides weights. */
  get scratchBytes(): number {
    return this.#scratchBytes;
  }

  /** See `WeightUnit.request`. */
  request(): boolean {
    return this.unit.request();
  }

  /** See `WeightUnit.use`. */
  use(scratchBytes = 0): WeightUse | Promise<WeightUse> {
    return this.unit.use(scratchBytes);
  }

  /** Throws what is in the way of serving the model now, if anything is. @throws {UnavailableError} */
  checkServable(): void {
    const refusal = this.unit.refusal();
    if (refusal) throw refusal;
  }

  /**
   * Brings the weights in, whoever manages residency: for warming up and for compaction. Where there is
   * little room they may have left again when this resolves.
   * @throws {ResourceExhaustedError} when they are larger than the budget
   */
  async load(): Promise<void> {
    await this.unit.bring(() => {});
  }

  /** Ends what `load` began: what others are to bring in is not on the device by itself. */
  async settle(isExternallyManaged: boolean): Promise<void> {
    if (isExternallyManaged && !this.unit.isPinned) await this.unit.release();
  }

  /**
   * Runs a dispatch on which nothing else moves in device memory. What it really needed besides weights
   * takes the place of the compiler's word, where that was less.
   */
  async measure(run: () => Promise<void>): Promise<void> {
    using _use = await this.unit.bringIntoUse();
    const bytes = await this.#services.measure(run);
    if (bytes === undefined || bytes <= this.#scratchBytes) return;
    this.#scratchBytes = bytes;
    this.#services.resolve();
  }

  /**
   * Changes the floor; host and device follow before this resolves. On failure it is what it was, unless
   * it was changed again meanwhile.
   * @throws {ResourceExhaustedError} when pinned weights are to be more than there is room for
   */
  async setFloor(floor: ResidencyFloor): Promise<void> {
    // It may still be on its way there.
    if (floor === this.#floor) return await this.unit.applyFloor();
    if (floor === "device") this.#services.checkPin();
    const before = this.#floor;
    this.#floor = floor;
    try {
      await this.unit.applyFloor();
    } catch (error) {
      if (this.#floor === floor) this.#floor = before;
      await this.unit.applyFloor();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (!this.#isAttached) return;
    this.#isAttached = false;
    this.#services.detach();
  }
}

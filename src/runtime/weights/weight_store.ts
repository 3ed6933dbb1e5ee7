/**
 * All weights of a worker, and how much of the device they may take. Without a budget (a device that does
 * not say how much memory it has) everything stays on the device; with one, weights that are not pinned
 * come when work waits for them and leave when others need their place.
 */

import type { Weights } from "../../bundle/mod.ts";
import type { ResidencyFloor } from "../../config/mod.ts";
import { ResourceExhaustedError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { WeightReading } from "../../metrics/mod.ts";
import type { Backend } from "../backend.ts";
import { DeviceAccount } from "../device_account.ts";
import { type Budget, budgetTable, solveBudget } from "./budget.ts";
import { HostArena } from "./host_arena.ts";
import { HostStore } from "./host_store.ts";
import { LoadQueue } from "./load_queue.ts";
import type { MemoryRoom } from "./memory_room.ts";
import { ModelWeights } from "./model_weights.ts";
import { ResidencyLedger } from "./residency_ledger.ts";
import { sweepRegions } from "./shared_region.ts";
import { TransferGate } from "./transfer_gate.ts";
import { type UnitServices, WeightUnit } from "./weight_unit.ts";

/** Device memory is given out in multiples of this (XLA's allocator, `kMinAllocationSize`). */
const CUDA_GRANULARITY = 256;

/** The device memory there is for everything. */
export interface Arena {
  readonly bytes: number;
  /** Where the figure comes from, for the log. */
  readonly from: string;
}

export interface WeightStoreOptions {
  readonly backend: Backend;
  readonly logger: Logger;
  /** `undefined`: unknown, and so no budget. */
  readonly arena: Arena | undefined;
  /** Share of the arena for weights; 0: no budget, everything stays on the device. */
  readonly fraction: number;
  /** Share of the arena kept free. */
  readonly wiggle: number;
  /** Whether somebody outside decides what is on the device; takes effect only with a budget. */
  readonly isExternallyManaged: boolean;
  /** Permission bits of shared host copies; `undefined`: every copy is private. */
  readonly sharedMode: number | undefined;
  /** The host memory that weights find their place in, where that is bounded. */
  readonly room?: MemoryRoom | undefined;
  /** Told when a model that could not run may be able to now. */
  readonly onChange: () => void;
}

/** A model's weights, to be looked after. */
export interface AttachRequest {
  readonly model: string;
  readonly weights: Weights;
  /** `undefined`: the host keeps a copy where there is a budget, else nothing but the file. */
  readonly floor: ResidencyFloor | undefined;
  /** Device memory a dispatch of the model needs besides, as its compiler says. */
  readonly scratchBytes: number;
  /** What it may have there while a dispatch of any model executes: what goes in or comes out of one. */
  readonly stagedBytes: number;
  readonly isWanted: () => boolean;
  readonly onLoadFailed: (error: unknown) => void;
}

/** What a compaction did. */
export interface Compaction {
  readonly reloaded: number;
  /** On demand, afterwards. */
  readonly residentBytes: number;
}

export class WeightStore implements AsyncDisposable {
  readonly hasCache: boolean;
  readonly isExternallyManaged: boolean;
  /** What weights, and dispatches that use them, take of the device. */
  readonly account = new DeviceAccount();
  readonly #options: WeightStoreOptions;
  readonly #services: UnitServices;
  readonly #ledger: ResidencyLedger<WeightUnit>;
  readonly #queue: LoadQueue<WeightUnit>;
  readonly #gate = new TransferGate();
  /** By the identity of the weights. */
  readonly #units = new Map<string, WeightUnit>();
  readonly #attached = new Set<ModelWeights>();
  readonly #closing = new Set<Promise<void>>();
  #loads = 0;
  #loadSeconds = 0;
  #loadedBytes = 0;
  #compactions = 0;

  constructor(options: WeightStoreOptions) {
    const { arena, fraction, backend, logger, sharedMode, room } = options;
    this.#options = options;
    this.hasCache = arena !== undefined && fraction > 0;
    this.isExternallyManaged = this.hasCache && options.isExternallyManaged;
    this.#ledger = new ResidencyLedger(this.hasCache ? this.budget.onDemandBytes : Infinity);
    this.#queue = new LoadQueue({
      ledger: this.#ledger,
      isWanted: (unit) => unit.isWanted,
      free: (unit) => unit.free(),
      tooLarge: (unit) => this.#tooLarge(unit),
    });
    this.#services = {
      backend,
      logger,
      hostStore: new HostStore({
        sharedMode: this.hasCache ? sharedMode : undefined,
        logger,
        room,
      }),
      // An arena's size is what somebody chose; it is not asked again for every part of it.
      room: backend.platform === "cpu" && !this.hasCache ? room : undefined,
      scratchBytes: () => this.budget.scratchBytes,
      arena: this.hasCache && backend.adopt
        ? new HostArena({ limitBytes: arena!.bytes })
        : undefined,
      ledger: this.#ledger,
      queue: this.#queue,
      gate: this.#gate,
      account: this.account,
      hasCache: this.hasCache,
      isExternallyManaged: this.isExternallyManaged,
      resolve: () => this.#resolve(),
      changed: () => this.#changed(),
      ready: options.onChange,
      loaded: (unit, seconds) => {
        this.#loads++;
        this.#loadSeconds += seconds;
        this.#loadedBytes += unit.deviceBytes;
      },
      makeRoom: () => this.#evictIdle(),
    };
  }

  /** As it is now: it follows what is pinned, and what the models' programs need besides weights. */
  get budget(): Budget {
    return this.#solve(this.#ledger?.pinnedBytes ?? 0);
  }

  /** As it will be when pinned versions of models have gone that newer ones are to replace. */
  get #lastingBudget(): Budget {
    const newest = new Map<string, WeightUnit>();
    for (const { model, unit } of this.#attached) newest.set(model, unit);
    let { pinnedBytes } = this.#ledger;
    for (const unit of this.#units.values()) {
      const stays = unit.holders.values().some(({ model, floor }) =>
        floor === "device" && newest.get(model) === unit
      );
      if (!stays && this.#ledger.isPinned(unit)) pinnedBytes -= unit.deviceBytes;
    }
    return this.#solve(pinnedBytes);
  }

  #solve(pinnedBytes: number): Budget {
    const { arena, fraction, wiggle } = this.#options;
    const most = (bytesOf: (weights: ModelWeights) => number) =>
      Math.max(0, ...Array.from(this.#attached, bytesOf));
    return solveBudget({
      arenaBytes: arena?.bytes ?? 0,
      fraction,
      wiggle,
      scratchBytes: most(({ scratchBytes }) => scratchBytes) +
        most(({ stagedBytes }) => stagedBytes),
      pinnedBytes,
    });
  }

  /**
   * Takes a model's weights into care: host copy and pinned device copy, where its floor asks for them,
   * are there when this resolves.
   * @throws {ResourceExhaustedError} when they are larger than what all weights may take
   * @throws what reading or uploading them throws
   */
  async attach(request: AttachRequest): Promise<ModelWeights> {
    const floor = request.floor ?? (this.hasCache ? "system" : "unpinned");
    const { identity } = request.weights;
    let unit = this.#units.get(identity);
    if (!unit) {
      const bytes = this.#deviceBytes(request.weights);
      unit = new WeightUnit(request.weights, bytes, this.#services);
      this.#units.set(identity, unit);
    }
    const attached = new ModelWeights(unit, request, floor, {
      resolve: () => this.#resolve(),
      checkPin: () => this.#checkPin(unit),
      measure: (run) => this.#measure(run),
      detach: () => this.#detach(unit, attached),
    });
    unit.holders.add(attached);
    this.#attached.add(attached);
    try {
      this.#resolve();
      const most = floor === "device" ? this.budget.poolBytes : this.#lastingBudget.onDemandBytes;
      if (this.hasCache && unit.deviceBytes > most) throw this.#tooLarge(unit);
      await unit.applyFloor();
      return attached;
    } catch (error) {
      attached[Symbol.dispose]();
      throw error;
    }
  }

  /** Models that are looked after. */
  get models(): Iterable<ModelWeights> {
    return this.#attached;
  }

  /**
   * Takes everything off the device that is not pinned, so that its memory is in one piece again, then
   * brings some of it back. Nothing may run meanwhile.
   * @param reload ignored where residency is managed from outside
   * @throws what a load throws
   */
  async compact(reload: Iterable<ModelWeights> = []): Promise<Compaction> {
    if (!this.hasCache) return { reloaded: 0, residentBytes: 0 };
    const before = this.#ledger.residentBytes;
    {
      using _still = await this.#gate.close();
      this.#evictIdle();
    }
    this.#compactions++;
    let reloaded = 0;
    for (const weights of this.isExternallyManaged ? [] : reload) {
      if (weights.isResident || !this.#attached.has(weights)) continue;
      try {
        await weights.load();
        reloaded++;
      } catch (error) {
        // One that was removed meanwhile is nothing to bring back.
        if (this.#attached.has(weights)) throw error;
      }
    }
    const residentBytes = this.#ledger.residentBytes;
    this.#options.logger.info("device memory compacted", {
      before,
      after: residentBytes,
      reloaded,
    });
    return { reloaded, residentBytes };
  }

  /** Logs the arithmetic of the budget, and what is wrong with it. */
  announceBudget(): void {
    const { arena, logger } = this.#options;
    if (!this.hasCache) return;
    const { budget } = this;
    for (const row of budgetTable(budget, arena!.from)) logger.info("weight budget", { ...row });
    if (budget.isOverCommitted) {
      const { pinnedBytes, poolBytes } = budget;
      logger.warn("more weights are pinned than there is room for", { pinnedBytes, poolBytes });
    }
    for (const { model, byteLength, unit } of this.#attached) {
      if (unit.isPinned || unit.deviceBytes <= budget.onDemandBytes) continue;
      const fields = { model, bytes: byteLength, onDemandBytes: budget.onDemandBytes };
      logger.warn("a model is larger than what weights may take, its requests will fail", fields);
    }
  }

  /** Removes shared host copies that processes and models left behind that are no more. */
  async sweep(): Promise<void> {
    if (this.#options.sharedMode === undefined || !this.hasCache) return;
    const { logger } = this.#options;
    try {
      const swept = await sweepRegions();
      if (swept.removed > 0) logger.info("stale shared weights removed", { ...swept });
    } catch (error) {
      logger.warn("stale shared weights could not be looked for", { error });
    }
  }

  /** Figures for metrics; `undefined` where weights do not come and go. */
  reading(): WeightReading | undefined {
    if (!this.hasCache) return undefined;
    const { budget } = this;
    return {
      residentBytes: this.#ledger.residentBytes,
      maxBytes: budget.onDemandBytes,
      pinnedBytes: budget.pinnedBytes,
      maxScratchBytes: budget.scratchBytes,
      poolBytes: budget.poolBytes,
      loads: this.#loads,
      loadSeconds: this.#loadSeconds,
      loadedBytes: this.#loadedBytes,
      evictions: this.#ledger.evictions,
      compactions: this.#compactions,
    };
  }

  /** Lets go of everything. Nothing may run any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const attached of [...this.#attached]) attached[Symbol.dispose]();
    await this.released();
    this.#services.arena?.[Symbol.dispose]();
  }

  /** Resolves when what nobody holds any more has been let go of: a load in progress comes to its end first. */
  async released(): Promise<void> {
    while (this.#closing.size > 0) await Promise.all(this.#closing);
  }

  /**
   * Host memory that weights on a device which computes there take, and what is kept for the next ones;
   * `undefined` for other devices, and where nothing ever leaves the device.
   */
  get hostPoolBytes(): number | undefined {
    const { arena } = this.#services;
    return arena && arena.usedBytes + arena.freeBytes;
  }

  #detach(unit: WeightUnit, attached: ModelWeights): void {
    unit.holders.delete(attached);
    this.#attached.delete(attached);
    const { logger } = this.#options;
    if (unit.holders.size > 0) {
      // What the others want may be less.
      unit.applyFloor().catch((error) =>
        logger.warn("weights could not be moved", { model: unit.model, error })
      );
      return;
    }
    this.#units.delete(unit.weights.identity);
    const closing = unit.close().catch((error) => {
      logger.error("weights could not be freed", { model: attached.model, error });
    });
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
  }

  #resolve(): void {
    if (this.hasCache) {
      this.#ledger.budgetBytes = this.budget.onDemandBytes;
      this.#ledger.limitBytes = this.#lastingBudget.onDemandBytes;
    }
    this.#changed();
  }

  #changed(): void {
    for (const unit of this.#ledger.trim({ isWanted: (unit) => unit.isWanted })) unit.free();
    this.#queue.pump();
  }

  /** More than there is room for may be pinned by configuration, which warns, but not while running. */
  #checkPin(unit: WeightUnit): void {
    const { pinnedBytes, poolBytes } = this.budget;
    if (!this.hasCache || unit.isPinned || pinnedBytes + unit.deviceBytes <= poolBytes) return;
    throw new ResourceExhaustedError(
      `The ${unit.deviceBytes} bytes of weights of model ${JSON.stringify(unit.model)} cannot be ` +
        `pinned: ${pinnedBytes} bytes are pinned already, of the ${poolBytes} that all weights may take`,
    );
  }

  #evictIdle(): void {
    for (const unit of this.#ledger.recency) if (this.#ledger.release(unit)) unit.free();
    this.#queue.pump();
  }

  /**
   * What a run takes of the device's memory besides weights, where its allocator says so and this run
   * needed more than any before; no upload comes in between. `undefined`: it cannot be told.
   */
  async #measure(run: () => Promise<void>): Promise<number | undefined> {
    const { backend } = this.#options;
    using _still = await this.#gate.close();
    const before = backend.memory();
    await run();
    const after = backend.memory();
    const [peakBefore, peak] = [before?.peakInUseBytes, after?.peakInUseBytes];
    if (!before || peakBefore === undefined || peak === undefined) return undefined;
    return peak > peakBefore ? Math.max(0, peak - before.inUseBytes) : undefined;
  }

  #deviceBytes({ specs, byteLength }: Weights): number {
    if (this.#options.backend.platform === "cpu") return byteLength;
    const rounded = (bytes: number) => Math.ceil(bytes / CUDA_GRANULARITY) * CUDA_GRANULARITY;
    return specs.reduce((sum, spec) => sum + rounded(spec.byteLength), 0);
  }

  #tooLarge(unit: WeightUnit): Error {
    const { budget } = this;
    const { arenaBytes, scratchBytes, pinnedBytes, poolBytes, onDemandBytes } = budget;
    const most = unit.isPinned
      ? `the ${poolBytes} that all weights may take`
      : `the ${onDemandBytes} that weights may take on demand`;
    return new ResourceExhaustedError(
      `The weights of model ${
        JSON.stringify(unit.model)
      } need ${unit.deviceBytes} bytes of device ` +
        `memory, more than ${most} (arena ${arenaBytes}, kept free ` +
        `${arenaBytes - budget.ceilingBytes}, scratch ${scratchBytes}, pinned ${pinnedBytes})`,
    );
  }
}

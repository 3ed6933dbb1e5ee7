/**
 * One set of weights and where it is: the file always, a copy in host memory and one on the device as its
 * holders want and the budget allows. Several versions of a model, and a model that was renamed, hold the
 * same set when they came from the same file.
 */

import type { Weights } from "../../bundle/mod.ts";
import type { ResidencyFloor } from "../../config/mod.ts";
import { messageOf, ResourceExhaustedError, UnavailableError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { Backend, DeviceBuffer } from "../backend.ts";
import type { DeviceAccount } from "../device_account.ts";
import { copyToDevice, type DeviceCopy } from "./device_copy.ts";
import type { HostArena } from "./host_arena.ts";
import type { HostCopy, HostStore } from "./host_store.ts";
import type { LoadQueue } from "./load_queue.ts";
import type { MemoryRoom } from "./memory_room.ts";
import type { ResidencyLedger } from "./residency_ledger.ts";
import type { TransferGate } from "./transfer_gate.ts";

/** What units need of the store they are in. */
export interface UnitServices {
  readonly backend: Backend;
  readonly logger: Logger;
  readonly hostStore: HostStore;
  /** Where a device that computes in host memory keeps weights that come and go. */
  readonly arena: HostArena | undefined;
  /** The host memory that weights on the device take, where they do and it is bounded. */
  readonly room: MemoryRoom | undefined;
  /** What dispatches take of a device's memory besides weights, at most. */
  scratchBytes(): number;
  readonly ledger: ResidencyLedger<WeightUnit>;
  readonly queue: LoadQueue<WeightUnit>;
  readonly gate: TransferGate;
  readonly account: DeviceAccount;
  /** Whether weights come and go at all; else all stay on the device. */
  readonly hasCache: boolean;
  /** Whether somebody outside decides what is on the device. */
  readonly isExternallyManaged: boolean;
  /** Pins have changed: the budget follows. */
  resolve(): void;
  /** Something may have made room. */
  changed(): void;
  /** What could not run may be able to now. */
  ready(): void;
  /** An on-demand load is done. */
  loaded(unit: WeightUnit, seconds: number): void;
  /** Frees whatever can be freed of other units; the device has refused memory. */
  makeRoom(): void;
}

/** One model's interest in a unit. */
export interface UnitHolder {
  readonly model: string;
  readonly floor: ResidencyFloor;
  /** Whether requests wait for it. */
  readonly isWanted: () => boolean;
  /** Requests that wait for it wait in vain. */
  readonly onLoadFailed: (error: unknown) => void;
}

/** Weights on the device, kept there until disposed. */
export interface WeightUse extends Disposable {
  readonly buffers: readonly DeviceBuffer[];
}

const FLOORS: readonly ResidencyFloor[] = ["unpinned", "system", "device"];

export class WeightUnit {
  readonly weights: Weights;
  /** On the device, with what its allocator rounds up to. */
  readonly deviceBytes: number;
  readonly holders = new Set<UnitHolder>();
  readonly #services: UnitServices;
  readonly #hold: Disposable;
  #host: HostCopy | undefined;
  #copy: DeviceCopy | undefined;
  #loading: Promise<void> | undefined;
  /** Changes of floor, one after the other. */
  #changes: Promise<void> = Promise.resolve();
  #pendingChanges = 0;
  #idle: (() => void)[] = [];
  /** Who waits to have them on the device. */
  #awaiting = 0;
  /** Keeps them there until all of those have begun. */
  #held: Disposable | undefined;
  #isClosed = false;

  constructor(weights: Weights, deviceBytes: number, services: UnitServices) {
    this.weights = weights;
    this.deviceBytes = deviceBytes;
    this.#services = services;
    this.#hold = weights.hold();
    services.ledger.add(this, deviceBytes);
  }

  /** Of one of the models, for messages. */
  get model(): string {
    const [holder] = this.holders;
    return holder?.model ?? "";
  }

  /** The highest of its holders' floors. */
  get floor(): ResidencyFloor {
    const ranks = Array.from(this.holders, ({ floor }) => FLOORS.indexOf(floor));
    return FLOORS[Math.max(0, ...ranks)]!;
  }

  get isPinned(): boolean {
    return !this.#services.hasCache || this.floor === "device";
  }

  get isResident(): boolean {
    return this.#copy !== undefined;
  }

  get isHostResident(): boolean {
    return this.#host !== undefined;
  }

  get isWanted(): boolean {
    return this.holders.values().some((holder) => holder.isWanted());
  }

  /** What is in the way of serving it now, whatever is done: its size, or whoever manages residency. */
  refusal(): Error | undefined {
    const { isExternallyManaged, hasCache } = this.#services;
    if (this.isResident || !hasCache || !isExternallyManaged) return undefined;
    return new UnavailableError(
      `The weights of model ${JSON.stringify(this.model)} are not on the device; ` +
        "residency is managed with SetModelResidency here",
    );
  }

  /** Brings its tiers in line with the floors of its holders. */
  applyFloor(): Promise<void> {
    if (this.holders.size > 0 && this.isPinned) {
      // At once, so that whoever wants to pin more sees it.
      this.#services.ledger.pin(this);
      this.#services.resolve();
    }
    this.#pendingChanges++;
    const change = this.#changes.then(() => this.#applyFloor()).finally(() => {
      this.#pendingChanges--;
    });
    this.#changes = change.catch(() => {});
    return change;
  }

  /**
   * Begins a use, for which the weights stay. They are brought in first where they are missing, ahead of
   * everyone else who waits for memory, because the device waits for this one.
   * @param scratchBytes device memory that the use takes besides, for the account
   * @throws {UnavailableError} where residency is managed from outside
   * @throws {ResourceExhaustedError} when they are larger than the budget
   */
  use(scratchBytes = 0): WeightUse | Promise<WeightUse> {
    if (this.#copy) return this.#begin(this.#copy, scratchBytes);
    const refusal = this.refusal();
    if (refusal) throw refusal;
    return this.bringIntoUse(scratchBytes);
  }

  /**
   * Brings the weights in, whoever manages residency, and calls back while they are there. They cannot
   * leave before: where there is room for one, two that wait would take each other's place for ever.
   */
  async bring<T>(begin: () => T): Promise<T> {
    for (;;) {
      this.#awaiting++;
      try {
        await this.load({ isUrgent: true });
        if (this.#copy) return begin();
      } finally {
        if (--this.#awaiting === 0) {
          this.#held?.[Symbol.dispose]();
          this.#held = undefined;
        }
      }
    }
  }

  /** As `use`, whoever manages residency. */
  bringIntoUse(scratchBytes = 0): Promise<WeightUse> {
    return this.bring(() => this.#begin(this.#copy!, scratchBytes));
  }

  /**
   * Whether a dispatch should begin now. Where the weights are missing they are on their way from here
   * on; one that can never succeed should begin too, and be told why.
   */
  request(): boolean {
    if (this.#copy || this.refusal()) return true;
    if (this.#loading) this.#services.queue.pump();
    else {
      this.load({ isUrgent: false }).catch((error) => {
        for (const holder of this.holders) holder.onLoadFailed(error);
      });
    }
    return this.isResident;
  }

  /**
   * Brings the weights to the device; one load, however many ask. One that is not urgent is given up
   * where nobody wants it any more when its turn comes; they are not on the device then.
   */
  load({ isUrgent }: { readonly isUrgent: boolean }): Promise<void> {
    if (this.#copy) return Promise.resolve();
    // Nothing may get in line that the ledger does not know.
    if (this.#isClosed) return Promise.reject(new UnavailableError("The model is gone"));
    if (this.#loading) {
      if (isUrgent) this.#services.queue.hurry(this);
      return this.#loading;
    }
    this.#loading = this.#load(isUrgent).finally(() => {
      this.#loading = undefined;
      this.#services.changed();
      this.#services.ready();
    });
    return this.#loading;
  }

  /** Gives back the device memory; the ledger has let go of it. */
  free(): void {
    if (!this.#copy) return;
    this.#copy[Symbol.dispose]();
    this.#copy = undefined;
    this.#services.account.give(this.deviceBytes);
  }

  /** Takes the weights off the device, when nobody uses them any more, unless they are pinned by then. */
  async release(): Promise<void> {
    const { ledger } = this.#services;
    await this.#loading?.catch(() => {});
    while (ledger.usesOf(this) > 0) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
    if (this.isPinned && this.holders.size > 0) return;
    if (ledger.release(this)) this.free();
    this.#services.changed();
  }

  /** Frees everything, when nobody uses it any more. Not to be used afterwards. */
  async close(): Promise<void> {
    const { queue, ledger } = this.#services;
    this.#isClosed = true;
    queue.leave(this, new UnavailableError("The model is gone"));
    if (this.#pendingChanges > 0 || this.#loading || ledger.usesOf(this) > 0) {
      await this.#changes;
      await this.release();
    } else {
      // At once, so that whoever comes next finds the memory free.
      this.free();
    }
    ledger.remove(this);
    this.#host?.[Symbol.dispose]();
    this.#host = undefined;
    this.#hold[Symbol.dispose]();
    this.#services.resolve();
  }

  async #applyFloor(): Promise<void> {
    const { ledger, hasCache, isExternallyManaged, hostStore } = this.#services;
    if (this.holders.size === 0) return;
    if (this.isPinned) {
      // A load that was in line already may have been given up.
      while (this.isPinned && !this.isResident) await this.load({ isUrgent: false });
      return;
    }
    const wasResident = this.isResident;
    ledger.unpin(this);
    this.#services.resolve();
    if (this.floor === "system" && hasCache) {
      this.#host ??= await this.#hostCopy(() => hostStore.materialise(this.model, this.weights));
    } else if (this.#host) {
      // A load may be reading from it.
      await this.#loading?.catch(() => {});
      this.#host[Symbol.dispose]();
      this.#host = undefined;
    }
    if (isExternallyManaged && wasResident) await this.release();
  }

  async #load(isUrgent: boolean): Promise<void> {
    const { queue, gate, ledger, account, room } = this.#services;
    if (!await queue.enter(this, isUrgent)) return;
    await gate.pass(async () => {
      const startMs = performance.now();
      account.take(this.deviceBytes);
      try {
        // What was read of the file is a second copy until V8 collects it.
        const besides = this.deviceBytes + this.#services.scratchBytes();
        using _room = await room?.claim(this.model, this.deviceBytes, besides);
        this.#copy = await this.#copyToDevice();
      } catch (error) {
        account.give(this.deviceBytes);
        ledger.failed(this);
        throw error;
      }
      ledger.loaded(this);
      if (this.#awaiting > 0) {
        ledger.hold(this);
        this.#held = this.#untilDisposed();
      }
      if (!this.isPinned) this.#services.loaded(this, (performance.now() - startMs) / 1000);
    });
  }

  async #copyToDevice(): Promise<DeviceCopy> {
    await this.#replaceCutHost();
    const copy = await this.#copyOnce();
    if (this.#host?.isWhole ?? true) return copy;
    // It was cut short while it was copied: what is on the device now may be zeros in part.
    copy[Symbol.dispose]();
    await this.#replaceCutHost();
    return await this.#copyOnce();
  }

  /** Makes a copy of this process alone where the shared one was cut short. */
  async #replaceCutHost(): Promise<void> {
    const { logger, hostStore } = this.#services;
    if (!this.#host || this.#host.isWhole) return;
    logger.warn("shared weights were cut short, this worker keeps a copy of its own", {
      model: this.model,
    });
    this.#host[Symbol.dispose]();
    this.#host = undefined;
    this.#host = await this.#hostCopy(() => hostStore.keepPrivate(this.model, this.weights));
  }

  /** A host copy; none where there is no room for one, and every load reads the file. */
  async #hostCopy(make: () => Promise<HostCopy>): Promise<HostCopy | undefined> {
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof ResourceExhaustedError)) throw error;
      this.#services.logger.warn("no host copy of weights is kept, every load reads the file", {
        model: this.model,
        reason: error.message,
      });
      return undefined;
    }
  }

  async #copyOnce(): Promise<DeviceCopy> {
    const { backend, logger, arena, makeRoom } = this.#services;
    const options = { backend, weights: this.weights, host: this.#host, arena };
    try {
      return await copyToDevice(options);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "RESOURCE_EXHAUSTED") throw error;
      const fields = { model: this.model, bytes: this.deviceBytes, reason: messageOf(error) };
      logger.warn(
        "the device has no memory for weights, others leave and it is tried again",
        fields,
      );
      makeRoom();
      return await copyToDevice(options);
    }
  }

  #begin({ buffers }: DeviceCopy, scratchBytes: number): WeightUse {
    this.#services.ledger.beginUse(this);
    this.#services.account.take(scratchBytes);
    return { buffers, ...this.#untilDisposed(scratchBytes) };
  }

  /** Ends a use that the ledger knows of. */
  #untilDisposed(scratchBytes = 0): Disposable {
    const { ledger, account } = this.#services;
    let isUsed = true;
    return {
      [Symbol.dispose]: () => {
        if (!isUsed) return;
        isUsed = false;
        account.give(scratchBytes);
        ledger.endUse(this);
        if (ledger.usesOf(this) > 0) return;
        for (const callback of this.#idle.splice(0)) callback();
        this.#services.changed();
      },
    };
  }
}

/**
 * Puts models in place, replaces, renames and removes them while requests run. A model is made aside,
 * completely, and takes its name's place in one step that nothing can come in between of; the one before
 * serves until then, stays where the new one cannot be made, and is freed when the last request that
 * began on it is done.
 */

import { type Bundle, findNestedMetas, fingerprintBundle } from "../bundle/mod.ts";
import { BundleError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { DeclaredTensor } from "../protocol/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import { Limiter } from "./limiter.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { MadeModel, ModelLoader } from "./loader.ts";
import type { ModelRegistry } from "./model_registry.ts";
import {
  type KnownModel,
  type PlannedLoad,
  type PlannedRename,
  type ReloadPlan,
  retrySeconds,
} from "./reload_plan.ts";
import type { RepositorySnapshot, Sighting } from "./reload_snapshot.ts";
import type { ServedModel } from "./served_model.ts";

/** Bundles read at once: each holds descriptors meanwhile, and a folder may have thousands of them. */
const MAX_CONCURRENT_READS = 16;

/** Told of changes, right when they happen. */
export interface LifecycleObserver {
  /** A model is in place, or a newer version of it. */
  loaded(model: string): void;
  /** An attempt to load a bundle failed. */
  failed(model: string): void;
  /** Models have other names, all at once. */
  renamed(names: ReadonlyMap<string, string>): void;
  removed(model: string): void;
}

export interface ModelLifecycleOptions {
  readonly registry: ModelRegistry<ServedModel>;
  readonly scheduler: Scheduler;
  readonly loader: Pick<ModelLoader, "read" | "make">;
  readonly logger: Logger;
  readonly observer: LifecycleObserver;
  /** How long the first retry of a failed bundle waits, for the next ones to double. */
  readonly pollSeconds: number;
  /** Once true, models that have not begun to load are left alone. */
  readonly isStopping: () => boolean;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
}

/** A load that has begun. */
interface Load extends PlannedLoad {
  /** At the start half a model is better than none; later, a bundle that changes is left alone. */
  readonly isStart: boolean;
}

/** One whose bundle has been read, to be made into a model. */
interface ReadLoad extends Load {
  readonly bundle: Bundle;
}

export class ModelLifecycle {
  readonly #options: ModelLifecycleOptions;
  readonly #now: () => number;
  readonly #known = new Map<string, KnownModel>();
  readonly #busy = new Set<string>();
  readonly #work = new Set<Promise<void>>();
  readonly #reads = new Limiter(MAX_CONCURRENT_READS);

  constructor(options: ModelLifecycleOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** What has become of each model. */
  get known(): ReadonlyMap<string, KnownModel> {
    return this.#known;
  }

  /** Names that are being worked on. */
  get busy(): ReadonlySet<string> {
    return this.#busy;
  }

  /** Models whose newest bundle could not be loaded, so that an older version serves. */
  *failedUpdates(): Generator<string> {
    for (const [name, { serving, failure }] of this.#known) if (serving && failure) yield name;
  }

  /** Loads what a worker finds when it starts. Resolves when each bundle is ready or failed. */
  start(snapshot: RepositorySnapshot): Promise<void> {
    const loads = [...snapshot.models].map(([name, sighting]) => ({ name, sighting }));
    return this.#track(
      loads.map(nameOf),
      (release) => this.#load(loads.map((load) => ({ ...load, isStart: true })), release),
    );
  }

  /** Begins to carry out a plan; resolves when that is done. Never rejects. */
  apply(plan: ReloadPlan): Promise<void> {
    for (const { name, sighting } of plan.confirmed) this.#confirm(name, sighting);
    for (const name of plan.unloads) this.#unload(name);
    const names = [
      ...plan.renames.flatMap(({ from, to }) => [from, to]),
      ...plan.loads.map(nameOf),
    ];
    if (names.length === 0) return Promise.resolve();
    return this.#track(names, async (release) => {
      const unmoved = await this.#rename(plan.renames);
      const loads = [...unmoved, ...plan.loads].map((load) => ({ ...load, isStart: false }));
      await this.#load(loads, release);
    });
  }

  /** Resolves when nothing is being worked on. */
  async idle(): Promise<void> {
    while (this.#work.size > 0) await Promise.all(this.#work);
  }

  /** Keeps names busy while they are worked on; each may be released before all are done. */
  async #track(
    names: readonly string[],
    work: (release: (name: string) => void) => Promise<void>,
  ): Promise<void> {
    const held = new Set(names);
    const release = (name: string) => {
      if (held.delete(name)) this.#busy.delete(name);
    };
    for (const name of held) this.#busy.add(name);
    const running = work(release).catch((error) => {
      this.#options.logger.error("models could not be changed", { models: names, error });
    });
    this.#work.add(running);
    await running;
    this.#work.delete(running);
    for (const name of names) release(name);
  }

  async #load(loads: readonly Load[], release: (name: string) => void): Promise<void> {
    for (const { name } of loads) this.#options.registry.beginLoading(name);
    const read = await Promise.all(
      loads.map((load) => this.#reads.run(() => this.#read(load))),
    );
    const allowed = this.#refuseNestedMetas(read.filter((one) => one !== undefined));
    await Promise.all(allowed.map(async (load) => {
      const startMs = performance.now();
      const made = await this.#make(load);
      if (made) this.#putInPlace(load, made, startMs);
      release(load.name);
    }));
  }

  /** Reads a bundle; `undefined` when it cannot be read, of which everyone has been told then. */
  async #read(load: Load): Promise<ReadLoad | undefined> {
    try {
      if (load.sighting.problem !== undefined) throw load.sighting.problem;
      const bundle = await this.#options.loader.read(load.sighting.directory, load.name);
      return { ...load, bundle };
    } catch (error) {
      await this.#failUnlessChanged(load, error);
      return undefined;
    }
  }

  /** Makes a model of a bundle; `undefined` when it cannot be, or is not wanted any more. */
  async #make(load: ReadLoad): Promise<MadeModel | undefined> {
    const { loader, isStopping } = this.#options;
    if (isStopping()) {
      load.bundle[Symbol.dispose]();
      return undefined;
    }
    let made: MadeModel;
    try {
      made = await loader.make(load.bundle, async () => {
        if (!load.isStart && await hasChanged(load)) {
          throw new BundleError(load.name, "it was changed while it was loaded");
        }
      });
    } catch (error) {
      await this.#failUnlessChanged(load, error);
      return undefined;
    }
    if (!isStopping()) return made;
    made.model[Symbol.dispose]();
    return undefined;
  }

  /** Gives a made model its name's place. Nothing in here waits. */
  #putInPlace(load: ReadLoad, made: MadeModel, startMs: number): void {
    const { registry, observer } = this.#options;
    const { model } = made;
    const { name, sighting } = load;
    const refusal = this.#nestedMeta(load.bundle);
    if (refusal) {
      model[Symbol.dispose]();
      this.#fail(load, refusal, true);
      return;
    }
    const before = registry.current(name);
    this.#admit(made);
    this.#carryCounters(before, model);
    registry.setReady(name, model);
    observer.loaded(name);
    this.#freeQueueAfter(before, model);
    this.#known.set(name, { serving: sighting });
    this.#retryMetas();
    this.#logLoaded(model, load.isStart, before !== undefined, startMs);
  }

  /**
   * Renames models whose folders were renamed. Each is loaded again from where it is now, with the
   * programs and weights of the old one, so that nothing about it still points to the old folder.
   * @returns loads that take the place of renames that failed
   */
  async #rename(renames: readonly PlannedRename[]): Promise<PlannedLoad[]> {
    const { registry, scheduler, observer, logger } = this.#options;
    const failed = new Map<string, PlannedLoad>();
    const made = await Promise.all(renames.map(async (rename) => {
      const { to, sighting } = rename;
      try {
        return { ...rename, ...await this.#makeRenamed(rename) };
      } catch (error) {
        logger.warn("a renamed model is loaded anew", { model: to, reason: messageOf(error) });
        failed.set(to, { name: to, sighting });
        return undefined;
      }
    }));
    let moves = made.filter((move) => move !== undefined);
    for (let gap; (gap = moves.find(({ from }) => failed.has(from)));) {
      // Whatever was to take its old name has yet to be loaded: until then this one serves there.
      gap.model[Symbol.dispose]();
      failed.set(gap.to, { name: gap.to, sighting: gap.sighting });
      moves = moves.filter((move) => move !== gap);
    }
    const targets = new Set(moves.map(({ to }) => to));
    const occupants = moves.map(({ to }) => registry.current(to));
    for (const { from, model } of moves) this.#carryCounters(registry.current(from), model);
    scheduler.rename(
      moves.flatMap(({ from, model }) => model.kind === "model" ? [{ from, model }] : []),
    );
    registry.rename(moves);
    observer.renamed(new Map(moves.map(({ from, to }) => [from, to])));
    for (const { from } of moves) this.#known.delete(from);
    for (const [index, move] of moves.entries()) {
      this.#known.set(move.to, { serving: move.sighting });
      this.#admit(move);
      this.#freeQueueAfter(occupants[index], move.model);
      logger.info("model renamed", { from: move.from, model: move.to });
      this.#warnOfCallers(move.from);
    }
    for (const { from, to } of renames) {
      if (failed.has(to) && !targets.has(from) && !failed.has(from)) this.#unload(from);
    }
    return [...failed.values()];
  }

  /** @throws {Error} of whatever keeps the folder from being the one that is served under the old name */
  async #makeRenamed({ to, sighting }: PlannedRename): Promise<MadeModel> {
    const { loader } = this.#options;
    const bundle = await loader.read(sighting.directory, to);
    const refusal = this.#nestedMeta(bundle);
    if (refusal) {
      bundle[Symbol.dispose]();
      throw refusal;
    }
    return await loader.make(bundle, async () => {
      if (!await hasChanged({ name: to, sighting })) return;
      throw new BundleError(to, "it was changed while it was renamed");
    });
  }

  #unload(name: string): void {
    const { registry, scheduler, observer, logger } = this.#options;
    this.#known.delete(name);
    registry.remove(name);
    scheduler.remove(name);
    observer.removed(name);
    logger.info("model unloaded", { model: name });
    this.#warnOfCallers(name);
    this.#retryMetas();
  }

  /** What is there is what is served already. */
  #confirm(name: string, sighting: Sighting): void {
    const { failure } = this.#known.get(name)!;
    this.#known.set(name, { serving: sighting });
    if (failure) this.#options.logger.info("a failed update was taken back", { model: name });
  }

  #admit({ model, costs }: MadeModel): void {
    if (model.kind !== "model") return;
    const { scheduler } = this.#options;
    scheduler.admit(model);
    for (const { variantKey, size, seconds } of costs) {
      scheduler.seedCost(model.name, variantKey, size, seconds);
    }
  }

  /** A meta counts by itself; regular models count in their queues, which stay. */
  #carryCounters(before: ServedModel | undefined, model: ServedModel): void {
    if (before?.kind === "meta" && model.kind === "meta") model.counters = before.counters;
  }

  /** Where a meta took a regular model's place, its queue goes with the last request. */
  #freeQueueAfter(before: ServedModel | undefined, model: ServedModel): void {
    if (before?.kind !== "model" || model.kind !== "meta") return;
    const { registry, scheduler } = this.#options;
    const { name } = model;
    before.usage.onIdle(() => {
      if (registry.current(name)?.kind !== "model") scheduler.remove(name);
    });
  }

  /** Refuses metas that call metas, among bundles that come together and those that serve. */
  #refuseNestedMetas(loads: readonly ReadLoad[]): ReadLoad[] {
    const nested = new Map(
      findNestedMetas(loads.map(({ bundle }) => bundle)).map(({ name, error }) => [name, error]),
    );
    const together = new Set(loads.map(nameOf));
    return loads.filter((load) => {
      const { name, bundle } = load;
      const refusal = nested.get(name) ?? this.#nestedMeta(bundle, together);
      if (refusal) {
        bundle[Symbol.dispose]();
        this.#fail(load, refusal, true);
        return false;
      }
      for (const callee of bundle.manifest.calls) {
        if (together.has(callee) || this.#options.registry.has(callee)) continue;
        const fields = { model: name, callee };
        this.#options.logger.warn("a meta model calls a model that is not here", fields);
      }
      return true;
    });
  }

  /**
   * Why a bundle may not serve beside those that do: nested metas are refused, whichever came later.
   * @param replaced names whose models are about to be others
   */
  #nestedMeta(
    { name, kind, manifest }: Bundle,
    replaced: ReadonlySet<string> = new Set(),
  ): BundleError | undefined {
    if (kind !== "meta") return undefined;
    for (const model of this.#options.registry.models()) {
      if (model.kind !== "meta" || model.name === name || replaced.has(model.name)) continue;
      const other = JSON.stringify(model.name);
      if (manifest.calls.includes(model.name)) {
        const problem = `manifest key "meta.calls" lists ${other}, which is a meta model itself`;
        return new BundleError(name, problem);
      }
      if (model.calls.has(name)) {
        return new BundleError(
          name,
          `the meta model ${other} calls it, so it cannot be one itself`,
        );
      }
    }
    return undefined;
  }

  /** What was refused because of other models may be right now. */
  #retryMetas(): void {
    for (const [name, known] of this.#known) {
      if (!known.failure?.isMetaRule) continue;
      this.#known.set(name, { ...known, failure: { ...known.failure, retryAtMs: 0 } });
    }
  }

  #warnOfCallers(callee: string): void {
    const { registry, logger } = this.#options;
    for (const model of registry.models()) {
      if (model.kind !== "meta" || !model.calls.has(callee) || registry.has(callee)) continue;
      logger.warn("a meta model calls a model that is not here", { model: model.name, callee });
    }
  }

  async #failUnlessChanged(load: Load, error: unknown): Promise<void> {
    const isChanged = !load.isStart && load.sighting.problem === undefined &&
      await hasChanged(load);
    if (isChanged) this.#leave(load);
    else this.#fail(load, error);
  }

  /** A bundle that was changed while it was loaded is left to the next polls. */
  #leave({ name }: PlannedLoad): void {
    if (!this.#known.has(name)) this.#known.set(name, {});
    this.#options.logger.info("a bundle was changed while it was loaded", { model: name });
  }

  #fail({ name, sighting }: PlannedLoad, error: unknown, isMetaRule = false): void {
    const { registry, observer, logger, pollSeconds } = this.#options;
    const { serving, failure } = this.#known.get(name) ?? {};
    const isSame = failure?.sighting.contents === sighting.contents;
    const attempts = isSame ? failure!.attempts + 1 : 1;
    const retryAtMs = this.#now() + 1000 * retrySeconds(attempts, pollSeconds);
    this.#known.set(name, { serving, failure: { sighting, attempts, retryAtMs, isMetaRule } });
    registry.setFailed(name, messageOf(error));
    observer.failed(name);
    // A bundle's own fault is told by its message; only a defect of ours needs the stack.
    const cause = error instanceof BundleError ? { reason: error.message } : { error };
    const message = serving ? "model not updated, the version before serves" : "model not loaded";
    const fields = { model: name, ...cause, ...(attempts > 1 ? { attempts } : {}) };
    if (attempts > 1) logger.warn(message, fields);
    else logger.error(message, fields);
  }

  #logLoaded(model: ServedModel, isStart: boolean, isUpdate: boolean, startMs: number): void {
    const { clientInputs, clientOutputs } = model.bundle.manifest;
    this.#options.logger.info(isUpdate ? "model updated" : "model loaded", {
      model: model.name,
      trigger: isStart ? "start" : "change",
      inputs: clientInputs.map(describe),
      outputs: clientOutputs.map(describe),
      ...(model.kind === "meta" ? { calls: [...model.calls] } : programFields(model)),
      seconds: Math.round(performance.now() - startMs) / 1000,
    });
  }
}

/** `x: FP32[n,784]`: `n` is the batch axis, `?` any other of variable extent. */
function describe({ name, datatype, shape, batchAxis }: DeclaredTensor): string {
  const extents = shape.map((extent, axis) => {
    if (axis === batchAxis) return "n";
    return extent < 0 ? "?" : String(extent);
  });
  return `${name}: ${datatype}[${extents.join(",")}]`;
}

function programFields(model: LoadedModel): Record<string, unknown> {
  const { count, reused, cached, seconds } = model.programTotals;
  return {
    batchSizes: model.allSizes.filter((size) => size > 0),
    weightBytes: model.weightBytes,
    residency: model.weights.floor,
    programs: count,
    programsReused: reused,
    programsCached: cached,
    programSeconds: Math.round(seconds * 1e6) / 1e6,
  };
}

/** Whether a bundle is not any more what it was when it was seen. */
async function hasChanged({ name, sighting }: PlannedLoad): Promise<boolean> {
  try {
    const { contents } = await fingerprintBundle(name, sighting.directory);
    return contents !== sighting.contents;
  } catch {
    // It cannot be read any more, so it is not what it was.
    return true;
  }
}

function nameOf({ name }: PlannedLoad): string {
  return name;
}

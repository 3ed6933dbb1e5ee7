/**
 * Every model of a worker by name, in one of three states: loading, ready, or failed with the reason.
 * The registry owns the models that are ready. One that is removed or replaced is retired: no request
 * finds it any more, those that have it already finish on it, and then it is disposed.
 */

import { NotFoundError, UnavailableError } from "../errors.ts";
import type { Usage } from "./usage.ts";

/** One version of a model, as the registry sees it. */
export interface RegisteredModel extends Disposable {
  /** Follows its folder's name. */
  name: string;
  readonly usage: Usage;
}

/** What a model's name stands for right now. */
export type ModelState<M> =
  | { readonly state: "loading" }
  | { readonly state: "ready"; readonly model: M }
  | { readonly state: "failed"; readonly reason: string };

/** A repository index row. */
export interface IndexEntry {
  readonly name: string;
  readonly isReady: boolean;
  /** Why it is not ready; empty when it is. */
  readonly reason: string;
}

export class ModelRegistry<M extends RegisteredModel> implements Disposable {
  readonly #entries = new Map<string, ModelState<M>>();
  /** Models that only requests in progress still use. */
  readonly #retired = new Set<M>();

  /** Announces a model that is not there yet; one that is, or has failed, stays as it is. */
  beginLoading(name: string): void {
    if (!this.#entries.has(name)) this.#entries.set(name, { state: "loading" });
  }

  /** Puts a loaded model in place; one of the same name before it is retired. Takes ownership. */
  setReady(name: string, model: M): void {
    const before = this.current(name);
    this.#entries.set(name, { state: "ready", model });
    if (before) this.#retire(before);
  }

  /** Records why a model could not be loaded; one that was ready before keeps serving. */
  setFailed(name: string, reason: string): void {
    if (!this.current(name)) this.#entries.set(name, { state: "failed", reason });
  }

  /** Forgets a name; a model that was ready is retired. */
  remove(name: string): void {
    const before = this.current(name);
    this.#entries.delete(name);
    if (before) this.#retire(before);
  }

  /**
   * Puts renamed models, loaded under their new names, in the places of the old ones, all at once, so
   * that names may also change places. Whatever else had such a name is retired. Takes ownership.
   */
  rename(moves: readonly { readonly from: string; readonly model: M }[]): void {
    const names = new Map(moves.map(({ from, model }) => [from, model.name]));
    for (const model of this.#retired) model.name = names.get(model.name) ?? model.name;
    const before = moves.map(({ from }) => this.current(from));
    for (const { from } of moves) this.#entries.delete(from);
    for (const [index, { model }] of moves.entries()) {
      this.setReady(model.name, model);
      const old = before[index];
      if (!old) continue;
      // Requests in progress are booked, and queued, under the new name.
      old.name = model.name;
      this.#retire(old);
    }
  }

  /** The model that a name stands for, if it can infer. */
  current(name: string): M | undefined {
    const entry = this.#entries.get(name);
    return entry?.state === "ready" ? entry.model : undefined;
  }

  /** Whether the name is that of a model, in whichever state. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /**
   * A model that can infer.
   * @throws {NotFoundError} for an unknown name, {UnavailableError} with the reason while it is loading
   *   or when it could not be loaded
   */
  ready(name: string): M {
    const entry = this.#entries.get(name);
    if (entry?.state === "ready") return entry.model;
    if (!entry) throw new NotFoundError(`Unknown model ${JSON.stringify(name.slice(0, 200))}`);
    if (entry.state === "loading") {
      throw new UnavailableError(`Model ${JSON.stringify(name)} is still loading`);
    }
    throw new UnavailableError(`Model ${JSON.stringify(name)} is unavailable: ${entry.reason}`);
  }

  isReady(name: string): boolean {
    return this.#entries.get(name)?.state === "ready";
  }

  /** Models that can infer. */
  *models(): Generator<M> {
    for (const entry of this.#entries.values()) if (entry.state === "ready") yield entry.model;
  }

  /** How far loading has come. */
  progress(): { total: number; ready: number; loading: number; failed: number } {
    const counts = { total: this.#entries.size, ready: 0, loading: 0, failed: 0 };
    for (const { state } of this.#entries.values()) counts[state]++;
    return counts;
  }

  /** Every known model, sorted by name. */
  index(): IndexEntry[] {
    return [...this.#entries]
      .map(([name, entry]) => ({
        name,
        isReady: entry.state === "ready",
        reason: entry.state === "failed"
          ? entry.reason
          : entry.state === "loading"
          ? "loading"
          : "",
      }))
      .sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  }

  [Symbol.dispose](): void {
    for (const model of [...this.models(), ...this.#retired]) model[Symbol.dispose]();
    this.#entries.clear();
    this.#retired.clear();
  }

  #retire(model: M): void {
    this.#retired.add(model);
    model.usage.onIdle(() => {
      if (this.#retired.delete(model)) model[Symbol.dispose]();
    });
  }
}

/**
 * Every model of a worker by name, in one of three states: loading, ready, or failed with the reason.
 * The registry owns the models that are ready; removing or replacing one disposes it.
 */

import { NotFoundError, UnavailableError } from "../errors.ts";

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

export class ModelRegistry<M extends Disposable> implements Disposable {
  readonly #entries = new Map<string, ModelState<M>>();

  /** Announces a model whose loading has begun; one that is ready keeps serving meanwhile. */
  beginLoading(name: string): void {
    if (this.#entries.get(name)?.state !== "ready") this.#entries.set(name, { state: "loading" });
  }

  /** Puts a loaded model in place; one of the same name before it is disposed. Takes ownership. */
  setReady(name: string, model: M): void {
    const before = this.#entries.get(name);
    this.#entries.set(name, { state: "ready", model });
    if (before?.state === "ready") before.model[Symbol.dispose]();
  }

  /** Records why a model could not be loaded; one that was ready before keeps serving. */
  setFailed(name: string, reason: string): void {
    if (this.#entries.get(name)?.state !== "ready") {
      this.#entries.set(name, { state: "failed", reason });
    }
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
    for (const model of this.models()) model[Symbol.dispose]();
    this.#entries.clear();
  }
}

/** The families of a process, and their text. */

import { type Metric, Registry } from "prom-client";
import type { Family, Labels, Sample } from "./family.ts";

/** The content type of `MetricsRegistry.text`. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Samples rendered before the event loop gets a turn, so that a scrape of a worker with many models
 * does not hold up requests.
 */
const SAMPLES_PER_TURN = 1000;

/** Holds families and renders them in the order they were added. */
export class MetricsRegistry {
  readonly #constant: Labels;
  readonly #families = new Map<string, Family>();
  /** prom-client's part: the text format, from samples we hand it. */
  readonly #formatter = new Registry();
  readonly #snapshot = new Map<string, readonly Sample[]>();
  #rendering: Promise<string> | undefined;

  /** @param constant labels put first on every sample; those with an empty value are left out */
  constructor(constant: Labels = {}) {
    this.#constant = Object.fromEntries(Object.entries(constant).filter(([, value]) => value));
  }

  /** Adds a family and returns it. Its name must be new. */
  add<F extends Family>(family: F): F {
    const { name, help, type } = family;
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type, values: this.#snapshot.get(name) }),
    };
    // The formatter needs no more of a metric than `name` and `get`; its types ask for its own classes.
    this.#formatter.registerMetric(metric as unknown as Metric);
    this.#families.set(name, family);
    return family;
  }

  /**
   * The Prometheus text format, version 0.0.4; families without samples are left out. Calls that
   * overlap share one rendering.
   */
  text(): Promise<string> {
    this.#rendering ??= this.#render().finally(() => this.#rendering = undefined);
    return this.#rendering;
  }

  async #render(): Promise<string> {
    const parts: string[] = [];
    let rendered = 0;
    for (const family of this.#families.values()) {
      const samples = [...family.samples(this.#constant)];
      if (samples.length === 0) continue;
      this.#snapshot.set(family.name, samples);
      parts.push(await this.#formatter.getSingleMetricAsString(family.name));
      this.#snapshot.delete(family.name);
      rendered += samples.length;
      if (rendered >= SAMPLES_PER_TURN) {
        rendered = 0;
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
    }
    return `${parts.join("\n")}\n`;
  }
}

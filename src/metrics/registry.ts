/** The families of a process, and their text. */

import { type Metric, Registry } from "prom-client";
import type { Family, Labels, Sample } from "./family.ts";

/** The content type of `MetricsRegistry.text`. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Samples rendered before the event loop gets a turn, so that a scrape of a worker with many models
 * does not hold up requests: about 2 ms at the 4 to 8 µs that the formatter takes per line.
 */
const SAMPLES_PER_TURN = 400;

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

  /** Every family, in the order they were added, with samples or without. */
  families(): readonly Family[] {
    return [...this.#families.values()];
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
    let room = SAMPLES_PER_TURN;
    for (const family of this.#families.values()) {
      let piece: Sample[] = [];
      let pieces = 0;
      const flush = async () => {
        parts.push(await this.#format(family.name, piece, pieces++ === 0));
        piece = [];
      };
      for (const sample of family.samples(this.#constant)) {
        piece.push(sample);
        if (--room > 0) continue;
        await flush();
        room = SAMPLES_PER_TURN;
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      if (piece.length > 0) await flush();
    }
    return `${parts.join("\n")}\n`;
  }

  async #format(name: string, samples: readonly Sample[], withHeader: boolean): Promise<string> {
    this.#snapshot.set(name, samples);
    const text = await this.#formatter.getSingleMetricAsString(name);
    this.#snapshot.delete(name);
    // The header, `# HELP` and `# TYPE`, belongs to a family once, in however many pieces it comes.
    return withHeader ? text : text.split("\n").slice(2).join("\n");
  }
}

/**
 * Metric families whose samples live in plain fields. A caller binds a child once and then only adds
 * to numbers; label objects are built when a child is made and text when somebody asks. prom-client's
 * own metrics hash their labels on every observation, which the request path cannot afford.
 */

/** Labels of one sample, in output order. */
export type Labels = Readonly<Record<string, string>>;

/** One line of output, in the shape prom-client renders. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** When it is not the family's: the `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
}

/** What every family has. */
export interface FamilyOptions {
  readonly name: string;
  readonly help: string;
  /** Names of its own labels, in output order. */
  readonly labels?: readonly string[];
}

/** A family as the registry sees it. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram" | "summary";
  /** Names of its own labels, in output order. */
  readonly labels: readonly string[];
  /** Every sample now; `constant` labels come first on each. */
  samples(constant: Labels): Iterable<Sample>;
}

/** A number that only grows. */
export class Counter {
  value = 0;

  add(amount = 1): void {
    this.value += amount;
  }
}

/** How observations are distributed over buckets. */
export class Histogram {
  /** Per bucket, not cumulative; the last one is for what exceeds every bound. */
  readonly counts: number[];
  sum = 0;
  readonly #bounds: readonly number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Array(bounds.length + 1).fill(0);
  }

  /** A bound belongs to its bucket, as Prometheus defines it. */
  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.sum += value;
  }
}

/** Children by label values. There is no limit here: callers only pass values from a bounded set. */
abstract class ChildFamily<Child> implements Family {
  readonly name: string;
  readonly help: string;
  abstract readonly type: Family["type"];
  readonly labels: readonly string[];
  readonly #children = new Map<string, { values: readonly string[]; child: Child }>();

  constructor({ name, help, labels = [] }: FamilyOptions) {
    this.name = name;
    this.help = help;
    this.labels = labels;
  }

  /** The child with these label values, made on first use. Keep it rather than ask again. */
  child(...values: readonly string[]): Child {
    const key = values.join("\u0000");
    let entry = this.#children.get(key);
    if (entry === undefined) {
      if (values.length !== this.labels.length) {
        throw new TypeError(`${this.name} takes ${this.labels.length} labels`);
      }
      entry = { values, child: this.create() };
      this.#children.set(key, entry);
    }
    return entry.child;
  }

  /**
   * Gives children another first label value, all at once; `undefined` drops a child. A child held
   * elsewhere goes on counting, seen or not.
   */
  relabel(change: (first: string) => string | undefined): void {
    const entries = [...this.#children.values()];
    this.#children.clear();
    for (const { values: [first, ...rest], child } of entries) {
      const changed = change(first!);
      if (changed === undefined) continue;
      const values = [changed, ...rest];
      this.#children.set(values.join("\u0000"), { values, child });
    }
  }

  /** Drops the children whose label values are meant. */
  drop(isMeant: (values: readonly string[]) => boolean): void {
    for (const [key, { values }] of this.#children) {
      if (isMeant(values)) this.#children.delete(key);
    }
  }

  *samples(constant: Labels): Iterable<Sample> {
    for (const { values, child } of this.#children.values()) {
      yield* this.samplesOf(child, labelsOf(constant, this.labels, values));
    }
  }

  protected abstract create(): Child;
  protected abstract samplesOf(child: Child, labels: Labels): Iterable<Sample>;
}

/** Counters by label values. */
export class CounterFamily extends ChildFamily<Counter> {
  readonly type = "counter";

  protected create(): Counter {
    return new Counter();
  }

  protected *samplesOf({ value }: Counter, labels: Labels): Iterable<Sample> {
    yield { labels, value };
  }
}

/** Histograms by label values, all with the same upper bounds. */
export class HistogramFamily extends ChildFamily<Histogram> {
  readonly type = "histogram";
  readonly #bounds: readonly number[];

  /** @param bounds upper bounds, ascending; `+Inf` is understood */
  constructor(options: FamilyOptions, bounds: readonly number[]) {
    super(options);
    this.#bounds = bounds;
  }

  protected create(): Histogram {
    return new Histogram(this.#bounds);
  }

  protected *samplesOf({ counts, sum }: Histogram, labels: Labels): Iterable<Sample> {
    let total = 0;
    for (let bucket = 0; bucket < counts.length; bucket++) {
      total += counts[bucket]!;
      const bound = this.#bounds[bucket];
      yield {
        metricName: `${this.name}_bucket`,
        labels: { ...labels, le: bound === undefined ? "+Inf" : String(bound) },
        value: total,
      };
    }
    yield { metricName: `${this.name}_sum`, labels, value: sum };
    yield { metricName: `${this.name}_count`, labels, value: total };
  }
}

/** One sample of a computed family: its label values, then its number. */
export type Reading = readonly [labelValues: readonly string[], value: number];

/** For a family of one sample: none while there is no number. */
export function single(read: () => number | undefined): () => Iterable<Reading> {
  return () => {
    const value = read();
    return value === undefined ? [] : [[[], value]];
  };
}

/** What can be computed; a summary is quantiles only, each a sample with the label `quantile`. */
type ComputedType = "counter" | "gauge" | "summary";

/** A family read from its owner at each scrape; what the owner does not name is not exported. */
export class ComputedFamily implements Family {
  readonly name: string;
  readonly help: string;
  readonly type: ComputedType;
  readonly labels: readonly string[];
  readonly #read: () => Iterable<Reading>;

  constructor(
    type: ComputedType,
    { name, help, labels = [] }: FamilyOptions,
    read: () => Iterable<Reading>,
  ) {
    this.name = name;
    this.help = help;
    this.type = type;
    this.labels = labels;
    this.#read = read;
  }

  *samples(constant: Labels): Iterable<Sample> {
    for (const [values, value] of this.#read()) {
      yield { labels: labelsOf(constant, this.labels, values), value };
    }
  }
}

function labelsOf(
  constant: Labels,
  names: readonly string[],
  values: readonly string[],
): Labels {
  const labels: Record<string, string> = { ...constant };
  names.forEach((name, index) => labels[name] = values[index]!);
  return labels;
}

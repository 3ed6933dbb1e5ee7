/**
 * Which compiled size a dispatch uses and which requests it takes: pure decisions over row counts.
 * Requests are taken from the front of one model's queue, in order, and never split.
 */

/** The front of a queue, as far as planning cares. */
export interface PlannedRequest {
  /** Extent along the batch axis; 1 for a model without one. */
  readonly rows: number;
  /** Which compiled variant the prepared inputs need. */
  readonly variantKey: string;
  /** Which version of the model they were prepared for: a dispatch never mixes two. */
  readonly model?: unknown;
}

export interface PlanOptions {
  /** Compiled batch sizes of the front request's variant, ascending; `[0]`: one program for any size. */
  readonly sizes: readonly number[];
  /** Whether requests of this model may share a dispatch at all. */
  readonly isCoalescable: boolean;
  /** Cap on rows coalesced into one dispatch; a single larger request still passes. */
  readonly maxRows: number | undefined;
  /**
   * Learned seconds per dispatch of a size. Used only when every size of the variant has been measured;
   * until then a size is taken to cost as much as it has rows.
   */
  readonly costs?: ReadonlyMap<number, number>;
}

export interface BatchPlan {
  /** How many requests to take from the front. */
  readonly take: number;
  /** The compiled size to run: the smallest that holds the rows taken. 0: the only, unsized program. */
  readonly size: number;
  /** Rows really taken. */
  readonly rows: number;
}

/**
 * Sizes that cost at most this much more per row than the cheapest are as good, and the one that serves most
 * rows is run. Measured costs differ that much by chance, and leave out what each dispatch costs the host.
 */
const AS_GOOD = 1.1;

/** The smallest compiled size that holds `rows`, or `undefined` when none does. */
export function smallestFit(sizes: readonly number[], rows: number): number | undefined {
  return sizes.find((size) => size === 0 || size >= rows);
}

/**
 * Plans one dispatch. The original chose a size from all queued rows and then filled it with whole
 * requests, so 1 + 4 rows ran as one row padded to 4. Here requests are taken while they fit the largest
 * size (and the cap), and among the prefixes that fit, the longest is chosen of those that cost least per
 * row served, or hardly more. Before costs are known that is the fullest batch. Afterwards twenty rows
 * of a model compiled for 1 and 32 run as one padded 32 when that is really cheaper than twenty single
 * dispatches, which a rule over row counts alone cannot see. No request waits for others.
 *
 * @param queue at least one request; the front one must fit some size (requests are checked on entry)
 */
export function planBatch(queue: Iterable<PlannedRequest>, options: PlanOptions): BatchPlan {
  const { sizes, isCoalescable } = options;
  const maxSize = sizes[sizes.length - 1]!;
  const cap = Math.min(maxSize, options.maxRows ?? Infinity);
  const costs = sizes.every((size) => options.costs?.has(size)) ? options.costs : undefined;
  let best: BatchPlan | undefined;
  let leastCost = Infinity;
  const asGood = costs === undefined ? 1 : AS_GOOD;
  let take = 0;
  let rows = 0;
  let front: PlannedRequest | undefined;
  for (const request of queue) {
    if (front !== undefined) {
      if (!isCoalescable || maxSize === 0) break;
      if (request.variantKey !== front.variantKey || request.model !== front.model) break;
      if (rows + request.rows > cap) break;
    }
    front ??= request;
    take++;
    rows += request.rows;
    const size = smallestFit(sizes, rows);
    if (size === undefined) break;
    const cost = (costs?.get(size) ?? size) / rows;
    leastCost = Math.min(leastCost, cost);
    if (cost <= asGood * leastCost) best = { take, size, rows };
    if (rows >= cap) break;
  }
  if (best === undefined) throw new RangeError(`no compiled size holds ${rows} rows`);
  return best;
}

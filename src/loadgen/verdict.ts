/** What a run comes to, and the exit code that says so. */

import type { SkippedModel } from "./load_model.ts";
import type { LoadResult, RampResult } from "./report.ts";
import type { NodeCounters } from "./scrape.ts";
import type { LoadgenSettings } from "./settings.ts";
import type { Tally } from "./tally.ts";

/** Exit codes of the load generator. */
export const LOADGEN_EXIT = {
  ok: 0,
  /** Requests failed that had no reason to. */
  failures: 1,
  /** There is no model to load. */
  noModel: 2,
  /** A model had fewer successes than asked for. */
  shortfall: 3,
  /** Answers stopped coming. */
  stalled: 4,
} as const;

/** What the verdict is about. */
export interface Facts {
  readonly settings: LoadgenSettings;
  readonly seconds: number;
  readonly tally: Tally;
  readonly checked: number;
  readonly unsent: number;
  readonly abandoned: number;
  readonly skipped: readonly SkippedModel[];
  readonly ramp: RampResult | undefined;
  readonly isStalled: boolean;
  readonly countersBefore: NodeCounters | undefined;
  readonly countersAfter: NodeCounters | undefined;
}

/** Judges a run. A stall comes before failures, and those before a shortfall. */
export function verdictOf(facts: Facts): LoadResult {
  const { isStalled, ...rest } = facts;
  const shortfalls = shortfallsOf(facts);
  const [code, verdict] = judge(facts, shortfalls, isStalled);
  return { ...rest, code, verdict, shortfalls };
}

function judge(
  facts: Facts,
  shortfalls: readonly string[],
  isStalled: boolean,
): [number, string] {
  const { settings, tally } = facts;
  const { counts } = tally;
  if (isStalled) return [LOADGEN_EXIT.stalled, "STALLED: answers stopped coming"];
  const isRamp = settings.rampStepSeconds > 0;
  const hasDeadline = settings.deadlineSeconds > 0;
  // A ramp means to overload, a deadline to give up: what follows from that is no failure.
  const isTolerant = isRamp || hasDeadline;
  const failures = [
    [counts.error, "errors"],
    [counts.wrong, "wrong answers"],
    [isTolerant ? 0 : counts.teardown, "cut connections"],
    [isTolerant ? 0 : counts.dead, "missed deadlines"],
    [isTolerant ? 0 : counts.shed, "shed requests"],
  ].filter(([count]) => count !== 0);
  if (failures.length > 0) {
    const list = failures.map(([count, what]) => `${count} ${what}`).join(", ");
    return [LOADGEN_EXIT.failures, `FAILED: ${list}`];
  }
  if (counts.ok === 0 && settings.minOkPerModel > 0) {
    // Whatever is tolerated: a server that answers nothing must not look well to a script.
    return [LOADGEN_EXIT.shortfall, "SHORTFALL: no request succeeded"];
  }
  if (shortfalls.length > 0) {
    return [
      LOADGEN_EXIT.shortfall,
      `SHORTFALL: ${shortfalls.length} of ${tally.models.size} models had too few successes`,
    ];
  }
  const unsent = facts.unsent > 0 ? `, ${facts.unsent} never sent` : "";
  return [LOADGEN_EXIT.ok, `OK: ${counts.ok} requests to ${tally.models.size} models${unsent}`];
}

function shortfallsOf({ settings, tally }: Facts): string[] {
  if (settings.deadlineSeconds > 0) return [];
  const { minOkPerModel } = settings;
  return [...tally.models].flatMap(([name, { counts }]) =>
    counts.ok >= minOkPerModel ? [] : [`${name} has ${counts.ok} successes of ${minOkPerModel}`]
  );
}

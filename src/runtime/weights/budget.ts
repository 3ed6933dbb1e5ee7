/** How much of the device weights may take: integer arithmetic over a few figures, in bytes. */

/** What the budget is solved from. */
export interface BudgetTerms {
  /** What the device's allocator may use altogether. */
  readonly arenaBytes: number;
  /** Share of the arena that weights may take at most. */
  readonly fraction: number;
  /** Share of the arena that is kept free. */
  readonly wiggle: number;
  /** The most that dispatches need besides weights: one, and where copies overlap what another one moves. */
  readonly scratchBytes: number;
  /** Weights that stay on the device for good. */
  readonly pinnedBytes: number;
}

/** What came of it. */
export interface Budget extends BudgetTerms {
  /** The arena without what is kept free. */
  readonly ceilingBytes: number;
  /** All weights together, pinned ones included. */
  readonly poolBytes: number;
  /** Weights that come and go. */
  readonly onDemandBytes: number;
  /** The pinned weights alone are more than the pool. */
  readonly isOverCommitted: boolean;
}

/** Solves a budget. Fractions of bytes are cut off. */
export function solveBudget(terms: BudgetTerms): Budget {
  const { arenaBytes, fraction, wiggle, scratchBytes, pinnedBytes } = terms;
  const ceilingBytes = Math.floor((1 - wiggle) * arenaBytes);
  const poolBytes = Math.max(
    0,
    Math.min(Math.floor(fraction * arenaBytes), ceilingBytes - scratchBytes),
  );
  const onDemandBytes = Math.min(Math.max(poolBytes - pinnedBytes, 0), poolBytes);
  return {
    ...terms,
    ceilingBytes,
    poolBytes,
    onDemandBytes,
    isOverCommitted: pinnedBytes > poolBytes,
  };
}

/** One line of the arithmetic. */
export interface BudgetRow {
  readonly term: string;
  readonly bytes: number;
  /** Where the figure comes from. */
  readonly from: string;
}

/** The arithmetic as a table, for people who wonder where their memory went. */
export function budgetTable(budget: Budget, arenaFrom: string): BudgetRow[] {
  const { arenaBytes, fraction, wiggle, ceilingBytes, scratchBytes, poolBytes } = budget;
  return [
    { term: "arena", bytes: arenaBytes, from: arenaFrom },
    { term: "kept free", bytes: arenaBytes - ceilingBytes, from: `${wiggle} of the arena` },
    { term: "scratch", bytes: scratchBytes, from: "the most that dispatches need besides weights" },
    {
      term: "weight pool",
      bytes: poolBytes,
      from: `the rest, at most ${fraction} of the arena`,
    },
    { term: "pinned", bytes: budget.pinnedBytes, from: "weights that never leave the device" },
    { term: "on demand", bytes: budget.onDemandBytes, from: "weight pool less pinned" },
  ];
}

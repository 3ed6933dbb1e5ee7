/**
 * Whether a series grows, and how surely. A slope alone is no proof: memory comes in steps, and collectors
 * let it lie. So the series is cut into equal pieces of time, the least of each piece is what was really
 * kept, and the growth of those is estimated with Sen's slope and the confidence interval that belongs to
 * it (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968).
 */

/** One reading. */
export interface Point {
  readonly seconds: number;
  readonly value: number;
}

export interface Trend {
  /** Change per second: the median of the slopes of all pairs. */
  readonly slope: number;
  /** The slope is above this with 95 % confidence (one-sided). */
  readonly lowerSlope: number;
  /** How long the series lasted, in seconds. */
  readonly seconds: number;
}

/** Pieces: enough for the interval to mean something, few enough that each spans collections. */
const PIECES = 12;
/** One-sided 95 % point of the normal distribution. */
const Z = 1.645;

/** The trend of the least values of equal pieces of time; `undefined` for fewer than 4 pieces with data. */
export function trendOf(points: readonly Point[]): Trend | undefined {
  const first = points[0]?.seconds ?? 0;
  const seconds = (points.at(-1)?.seconds ?? 0) - first;
  const least: (Point | undefined)[] = new Array(PIECES).fill(undefined);
  for (const point of points) {
    const piece = Math.min(PIECES - 1, Math.floor((point.seconds - first) / seconds * PIECES));
    const known = least[piece];
    if (known === undefined || point.value < known.value) least[piece] = point;
  }
  const minima = least.filter((point) => point !== undefined);
  if (minima.length < 4) return undefined;
  const slopes: number[] = [];
  for (const [index, early] of minima.entries()) {
    for (const late of minima.slice(index + 1)) {
      slopes.push((late.value - early.value) / (late.seconds - early.seconds));
    }
  }
  slopes.sort((a, b) => a - b);
  const n = minima.length;
  // Half the width of the interval, in ranks; ties make it narrower, which only errs towards alarm.
  const halfWidth = Z * Math.sqrt(n * (n - 1) * (2 * n + 5) / 18);
  const lower = Math.max(0, Math.floor((slopes.length - halfWidth) / 2));
  const middle = (slopes.length - 1) / 2;
  return {
    slope: (slopes[Math.floor(middle)]! + slopes[Math.ceil(middle)]!) / 2,
    lowerSlope: slopes[lower]!,
    seconds,
  };
}

/** A line that flattens has in its later half less than this part of the slope it has as a whole. */
const LEVEL_SHARE = 0.2;

/**
 * Whether a series goes on growing, and has not come to rest meanwhile: in its later half still as fast, about,
 * as before, and fast enough for the whole time to come to more than what is always allowed.
 */
function goesOn(points: readonly Point[], trend: Trend, always: number): boolean {
  const middle = points[0]!.seconds + trend.seconds / 2;
  const late = trendOf(points.filter(({ seconds }) => seconds >= middle));
  return late === undefined ||
    (late.slope > LEVEL_SHARE * trend.slope && late.slope * trend.seconds > always);
}

/** What is said of one series. */
export interface Judgement {
  readonly isLeak: boolean;
  readonly text: string;
}

/**
 * Judged times below this, in seconds, cannot tell a process that still settles from one that leaks: what
 * is allowed for settling is allowed in part, the less the longer they are.
 */
const SETTLED_SECONDS = 300;

/** Growth that is no leak, in the series' own unit. */
export interface Allowance {
  /** However long the measured time is. */
  readonly always: number;
  /** Added to it when the measured time is next to nothing: heaps and caches that fill. */
  readonly settling: number;
  readonly unit: string;
}

/** A leak is growth that is sure, more than is allowed over the time measured, and has not come to rest. */
export function judgeGrowth(
  name: string,
  points: readonly Point[],
  { always, settling, unit }: Allowance,
): Judgement {
  const trend = trendOf(points);
  if (trend === undefined) {
    return { isLeak: false, text: `${name}: too few readings to say` };
  }
  const grown = trend.slope * trend.seconds;
  const surely = trend.lowerSlope * trend.seconds;
  const allowance = always + settling * Math.max(0, 1 - trend.seconds / SETTLED_SECONDS);
  const isLeak = surely > allowance && goesOn(points, trend, always);
  return {
    isLeak,
    text: `${name}: ${signed(grown)} ${unit} in ${Math.round(trend.seconds)} s, at least ` +
      `${signed(surely)} with 95 % confidence, ${allowance.toFixed(1)} allowed` +
      (isLeak ? ": LEAK" : ""),
  };
}

function signed(value: number): string {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(1)}`;
}

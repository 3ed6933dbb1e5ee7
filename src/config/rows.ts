/**
 * A row describes one configuration key completely: its type, default, range, names and help. Every
 * reader (file, variable, flag), `--help` and `config print` work from the same rows.
 */

/** A configuration value. `undefined` stands for "not set" where a key has no default. */
export type Leaf = string | number | boolean | readonly string[] | undefined;

/** How a key's value is written. */
export type RowKind = "integer" | "number" | "boolean" | "text" | "choice" | "list";

/** One key. */
export interface Row<T extends Leaf = Leaf> {
  readonly kind: RowKind;
  readonly default: T;
  readonly help: string;
  /** Completes "must be …"; also shown by `--help`. */
  readonly expects: string;
  /** Environment variable, when it is not `INFERENCE_SERVER_` + the path in upper case. */
  readonly variable?: string;
  /** Flag without its dashes, when it is not the last part of the path. */
  readonly flag?: string;
  /** What a text or list names on disk, so that shells can complete it. */
  readonly holds?: "file" | "folder";
  /** What stands between the items of a list that is given as text. */
  readonly separator?: string;
  /** A value as YAML gave it (integers as `bigint`); `undefined` when it does not fit. */
  readonly fromFile: (value: unknown) => T | undefined;
  /** The text of a variable or flag; `undefined` when it does not fit. */
  readonly fromText: (text: string) => T | undefined;
}

interface Names {
  readonly help: string;
  readonly variable?: string;
  readonly flag?: string;
  readonly holds?: "file" | "folder";
}

/** Bounds of a number, all optional. */
export interface Bounds {
  /** Inclusive lower bound. */
  readonly min?: number;
  /** Exclusive lower bound. */
  readonly above?: number;
  /** Inclusive upper bound. */
  readonly max?: number;
  /** Exclusive upper bound. */
  readonly below?: number;
}

/** A whole number. A file must write it without a decimal point: `64.0` is refused. */
export function integer<D extends number | undefined>(
  fallback: D,
  options: Names & Bounds,
): Row<D | number> {
  const fits = (value: number) => Number.isSafeInteger(value) && within(value, options);
  return {
    kind: "integer",
    default: fallback,
    ...names(options),
    expects: `an integer${describeBounds(options)}`,
    fromFile: (value) => {
      const number = typeof value === "bigint" ? Number(value) : NaN;
      return fits(number) ? number : undefined;
    },
    fromText: (text) => {
      const number = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : NaN;
      return fits(number) ? number : undefined;
    },
  };
}

/** Any finite number. */
export function number<D extends number | undefined>(
  fallback: D,
  options: Names & Bounds,
): Row<D | number> {
  const fits = (value: number) => Number.isFinite(value) && within(value, options);
  return {
    kind: "number",
    default: fallback,
    ...names(options),
    expects: `a number${describeBounds(options)}`,
    fromFile: (value) => {
      const number = typeof value === "bigint" || typeof value === "number" ? Number(value) : NaN;
      return fits(number) ? number : undefined;
    },
    fromText: (text) => {
      const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : NaN;
      return fits(number) ? number : undefined;
    },
  };
}

/**
 * True or false. A file must use a YAML boolean; a variable or flag one of `1 true yes on 0 false no
 * off` in any case. Anything else, the empty text included, is an error rather than "false".
 */
export function boolean<D extends boolean | undefined>(
  fallback: D,
  options: Names,
): Row<D | boolean> {
  return {
    kind: "boolean",
    default: fallback,
    ...names(options),
    expects: "true or false",
    fromFile: (value) => typeof value === "boolean" ? value : undefined,
    fromText: parseBoolean,
  };
}

/** One of some words, in any case and with surrounding space ignored. `aliases` are other spellings. */
export function choice<const T extends string>(
  fallback: NoInfer<T>,
  values: readonly T[],
  options: Names & { readonly aliases?: Readonly<Record<string, NoInfer<T>>> },
): Row<T> {
  return { ...choiceOf(values, options), default: fallback };
}

/** A `choice` that may be left unset. */
export function optionalChoice<const T extends string>(
  values: readonly T[],
  options: Names & { readonly aliases?: Readonly<Record<string, NoInfer<T>>> },
): Row<T | undefined> {
  return { ...choiceOf(values, options), default: undefined };
}

function choiceOf<T extends string>(
  values: readonly T[],
  options: Names & { readonly aliases?: Readonly<Record<string, T>> },
): Omit<Row<T>, "default"> {
  const words = new Map<string, T>([
    ...values.map((value) => [value, value] as const),
    ...Object.entries(options.aliases ?? {}),
  ]);
  const parse = (text: string) => words.get(text.trim().toLowerCase());
  return {
    kind: "choice",
    ...names(options),
    expects: `one of ${values.join(", ")}`,
    fromFile: (value) => typeof value === "string" ? parse(value) : undefined,
    fromText: parse,
  };
}

/** Text, taken verbatim. */
export function text(
  fallback: string,
  options: Names & { readonly expects?: string; readonly pattern?: (value: string) => boolean },
): Row<string> {
  const parse = (value: string) => options.pattern?.(value) ?? true ? value : undefined;
  return {
    kind: "text",
    default: fallback,
    ...names(options),
    expects: options.expects ?? "a string",
    fromFile: (value) => typeof value === "string" ? parse(value) : undefined,
    fromText: parse,
  };
}

/** Strings. A variable separates them with `:` (empty items dropped); a flag is repeated. */
export function list(
  fallback: readonly string[],
  options: Names & { readonly expects?: string; readonly pattern?: (item: string) => boolean },
): Row<readonly string[]> {
  const fits = (item: unknown) => typeof item === "string" && (options.pattern?.(item) ?? true);
  return {
    kind: "list",
    default: fallback,
    ...names(options),
    expects: options.expects ?? "a list of strings",
    separator: ":",
    fromFile: (value) => Array.isArray(value) && value.every(fits) ? value : undefined,
    fromText: (value) => {
      const items = value.split(":").filter((item) => item !== "");
      return items.every(fits) ? items : undefined;
    },
  };
}

const TRUE_WORDS = ["1", "true", "yes", "on"];
const FALSE_WORDS = ["0", "false", "no", "off"];

/** A boolean word of a variable or flag; `undefined` for any other text. */
export function parseBoolean(text: string): boolean | undefined {
  const word = text.trim().toLowerCase();
  if (TRUE_WORDS.includes(word)) return true;
  return FALSE_WORDS.includes(word) ? false : undefined;
}

function names(options: Names): Names {
  const { help, variable, flag, holds } = options;
  return { help, variable, flag, holds };
}

function within(value: number, { min, above, max, below }: Bounds): boolean {
  return (min === undefined || value >= min) && (above === undefined || value > above) &&
    (max === undefined || value <= max) && (below === undefined || value < below);
}

function describeBounds({ min, above, max, below }: Bounds): string {
  const low = min !== undefined
    ? `of at least ${min}`
    : above !== undefined
    ? `above ${above}`
    : "";
  const high = max !== undefined ? `at most ${max}` : below !== undefined ? `below ${below}` : "";
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  return [low, high].some((part) => part !== "")
    ? ` ${[low, high].filter((part) => part !== "").join(" and ")}`
    : "";
}

/**
 * A value as an error message shows it: bounded, and never an object's whole text. Integers of a file are
 * `bigint`; a whole `number` was written with a point.
 */
export function show(value: unknown): string {
  if (typeof value === "bigint") return value.toString();
  if (value === undefined) return "nothing";
  if (typeof value === "number") return Number.isInteger(value) ? value.toFixed(1) : `${value}`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value !== null && typeof value === "object") return "a mapping";
  const json = JSON.stringify(value);
  return json.length > 80 ? `${json.slice(0, 77)}…` : json;
}

/** A refused value as an error message shows it; of a list, the item at fault. */
export function showRefused({ kind, separator, fromFile }: Row, raw: unknown): string {
  const items = kind !== "list" || separator === undefined
    ? []
    : Array.isArray(raw)
    ? raw
    : typeof raw === "string"
    ? raw.split(separator)
    : [];
  const misfit = items.find((item) => item !== "" && fromFile([item]) === undefined);
  return misfit === undefined || misfit === raw ? show(raw) : `${show(misfit)} in it`;
}

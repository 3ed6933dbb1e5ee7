/** Command-line flags: reading them strictly, with the help text and the parser on one description. */

import { parseArgs } from "node:util";
import { ConfigError } from "../errors.ts";
import { GATEWAY_KEYS, type Key, parseBoolean, SERVER_KEYS } from "../config/mod.ts";
import { suggestion } from "../nearest.ts";

/** One flag. */
export interface FlagSpec {
  /** Without its dashes. */
  readonly name: string;
  /** `switch` takes no value, or `=true` / `=false`; `list` may be repeated. */
  readonly kind: "value" | "switch" | "list";
  /**
   * Stands for the value in `--help`, and says what shells complete: words in small letters between `|`
   * are values, `FILE` and `DIR` are paths, anything else is unknown.
   */
  readonly placeholder?: string;
  readonly help: string;
  readonly short?: string;
  /** The variable that sets the same thing. */
  readonly variable?: string;
  /** Shown by `--help`. */
  readonly default?: string;
  /** Heading in `--help`; flags without one come first. */
  readonly group?: string;
}

/** The outcome of reading a command line. */
export interface ParsedFlags {
  /** Every value given, in order, by flag name. A switch has `true` or `false`. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
}

/** The last value of a flag, or `undefined` when it was not given. */
export function lastValue(flags: ParsedFlags, name: string): string | undefined {
  return flags.values.get(name)?.at(-1);
}

/** Whether a switch is on. */
export function isOn(flags: ParsedFlags, name: string): boolean {
  return lastValue(flags, name) === "true";
}

/** A flag for every key of the server's configuration. */
export const SERVER_FLAGS: readonly FlagSpec[] = SERVER_KEYS.map((key) =>
  keyFlag(key, key.path.includes(".") ? key.path.split(".")[0]! : "models")
);

/** A flag for every key of the gateway's configuration. */
export const GATEWAY_FLAGS: readonly FlagSpec[] = GATEWAY_KEYS.map((key) =>
  keyFlag(key, "gateway")
);

function keyFlag({ flag, variable, row }: Key, group: string): FlagSpec {
  return {
    name: flag,
    kind: row.kind === "boolean" ? "switch" : row.kind === "list" ? "list" : "value",
    placeholder: placeholderOf(row),
    help: row.help,
    variable,
    // A switch without a default of its own can still be turned off, which `--help` shows where there is one.
    default: describeDefault(row.default) ?? (row.kind === "boolean" ? "unset" : undefined),
    group,
  };
}

/**
 * Reads a command line against its flags. Values follow as `--flag value` or `--flag=value`; `--` ends
 * the flags.
 *
 * @throws {ConfigError} for an unknown flag (with the nearest known one), a missing value, or a value
 *   that a switch cannot have
 */
export function parseFlags(args: readonly string[], specs: readonly FlagSpec[]): ParsedFlags {
  const byName = new Map(specs.map((spec) => [spec.name, spec]));
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(specs.map((spec) => [spec.name, {
      type: spec.kind === "switch" ? "boolean" as const : "string" as const,
      ...(spec.short === undefined ? {} : { short: spec.short }),
    }])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const [spec, isNegated] = findFlag(token.name, token.rawName, byName);
    const value = spec.kind === "switch"
      ? switchValue(token.rawName, token.value, isNegated)
      : plainValue(token.rawName, token.value, token.inlineValue === true);
    values.set(spec.name, [...values.get(spec.name) ?? [], value]);
  }
  return { values, positionals };
}

function findFlag(
  name: string,
  rawName: string,
  specs: ReadonlyMap<string, FlagSpec>,
): [FlagSpec, boolean] {
  const spec = specs.get(name);
  if (spec !== undefined) return [spec, false];
  const positive = name.startsWith("no-") ? specs.get(name.slice("no-".length)) : undefined;
  if (positive?.kind === "switch") return [positive, true];
  const known = [...specs.keys()].map((flag) => `--${flag}`);
  throw new ConfigError(`Unknown flag ${rawName}${suggestion(rawName, known)}`);
}

function switchValue(rawName: string, value: string | undefined, isNegated: boolean): string {
  if (value === undefined) return String(!isNegated);
  const parsed = isNegated ? undefined : parseBoolean(value);
  if (parsed !== undefined) return String(parsed);
  throw new ConfigError(
    isNegated
      ? `${rawName} takes no value`
      : `${rawName} must be true or false, got ${JSON.stringify(value)}`,
  );
}

function plainValue(rawName: string, value: string | undefined, isInline: boolean): string {
  // `--port --host x` is a forgotten value, not a port named "--host"; `--ordinal -1` is a value.
  if (value === undefined || (!isInline && /^-\D/.test(value))) {
    throw new ConfigError(`${rawName} needs a value`);
  }
  return value;
}

function placeholderOf({ kind, expects, holds }: Key["row"]): string {
  if (holds !== undefined) return holds === "file" ? "FILE" : "DIR";
  switch (kind) {
    case "choice":
      return expects.replace(/^one of /, "").replaceAll(", ", "|");
    case "integer":
    case "number":
      return "N";
    default:
      return "TEXT";
  }
}

function describeDefault(value: unknown): string | undefined {
  if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) {
    return undefined;
  }
  return String(value);
}

/** Reading YAML 1.2 (core schema) into plain values, with integers told apart from other numbers. */

import { ConfigError } from "../errors.ts";
import { parseDocument, type ScalarTag } from "yaml";
import { show } from "./rows.ts";

/** A YAML mapping: scalars, lists and mappings; integers are `bigint`, other numbers `number`. */
export type Mapping = { readonly [key: string]: unknown };

/** In the files of the original a leading zero means octal; YAML 1.2 itself would read decimal. */
const leadingZeroOctal: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test: /^[-+]?0[0-7]+$/,
  resolve: (source) => {
    const digits = BigInt(`0o${source.replace(/^[-+]/, "")}`);
    return source.startsWith("-") ? -digits : digits;
  },
};

/**
 * The mapping a YAML document holds.
 *
 * @throws {ConfigError} when the text is not YAML, is empty, or its root is not a mapping
 */
export function parseMapping(text: string, file: string): Mapping {
  const document = parseDocument(text, {
    version: "1.2",
    schema: "core",
    intAsBigInt: true,
    customTags: (tags) => [leadingZeroOctal, ...tags],
  });
  const problem = document.errors[0];
  if (problem !== undefined) {
    throw new ConfigError(`${file}: not valid YAML: ${firstLine(problem.message)}`);
  }
  let root: unknown;
  try {
    root = document.toJS();
  } catch (error) {
    // Reference errors (an alias without its anchor, or one that expands without bound) appear here.
    throw new ConfigError(`${file}: not valid YAML: ${(error as Error).message}`, { cause: error });
  }
  if (!isMapping(root)) {
    const found = root === null || root === undefined ? "nothing" : show(root);
    throw new ConfigError(`${file}: the file must hold a mapping of keys to values, got ${found}`);
  }
  return root;
}

/** Whether a value is a mapping (not null, not a list). */
export function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `over` laid upon `base`: mapping onto mapping recurses, anything else replaces. */
export function deepMerge(base: Mapping, over: Mapping): Mapping {
  const merged = new Map<string, unknown>(Object.entries(base));
  for (const [key, value] of Object.entries(over)) {
    const below = merged.get(key);
    merged.set(key, isMapping(below) && isMapping(value) ? deepMerge(below, value) : value);
  }
  return Object.fromEntries(merged);
}

/** The value at a path, or `undefined` when some part of the way is absent or no mapping. */
export function valueAt(root: Mapping, path: readonly string[]): unknown {
  let value: unknown = root;
  for (const key of path) {
    if (!isMapping(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0]!.replace(/:$/, "");
}

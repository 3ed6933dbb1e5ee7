/**
 * `manifest.yaml` as plain values, read key by key. Every failure is a `ManifestError` that names the
 * key path. Integers arrive as `bigint`, so that `3.0` is not mistaken for one; mappings arrive as
 * `Map`, so that no key can reach an object's prototype.
 */
import { isMap, parseDocument, type ScalarTag, visit } from "yaml";
import { ManifestError, messageOf } from "../errors.ts";
import { MAX_MANIFEST_ALIASES } from "./limits.ts";
import { nearest } from "../nearest.ts";

/** What YAML 1.2 core scalars, lists and mappings become. */
export type YamlValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | YamlValue[]
  | YamlMapping;
export type YamlMapping = Map<YamlValue, YamlValue>;

/** Reads typed values out of a manifest and collects what deserves a warning. */
export class ManifestReader {
  readonly warnings: string[] = [];
  readonly #bundle: string;

  /** @param bundle model name, for messages */
  constructor(bundle: string) {
    this.#bundle = bundle;
  }

  /** Parses the file. The root must be a mapping. @throws {ManifestError} */
  parse(text: string): YamlMapping {
    let root: unknown;
    try {
      const document = parseDocument(text, {
        intAsBigInt: true,
        prettyErrors: false, // each would quote the text around it, also the 100 000th
        uniqueKeys: false, // checked by rejectDuplicateKeys: the library's own check is quadratic
        customTags: (tags) => [leadingZeroOctal, ...tags],
      });
      const problem = document.errors[0] ?? document.warnings[0];
      if (problem !== undefined) {
        const line = text.slice(0, problem.pos[0]).split("\n").length;
        throw this.error(
          `manifest.yaml is not valid YAML: ${problem.message}, line ${line}`,
          problem,
        );
      }
      visit(document, { Map: (_key, node) => this.#rejectDuplicateKeys(node) });
      root = document.toJS({ mapAsMap: true, maxAliasCount: MAX_MANIFEST_ALIASES });
    } catch (error) {
      if (error instanceof ManifestError) throw error;
      const summary = messageOf(error).split("\n")[0]!.replace(/:$/, "");
      throw this.error(`manifest.yaml is not valid YAML: ${summary}`, error);
    }
    if (!(root instanceof Map)) {
      throw this.error(`manifest.yaml must hold a mapping, got ${describe(root)}`);
    }
    return root;
  }

  /** An error that is not about one key. */
  error(problem: string, cause?: unknown): ManifestError {
    return new ManifestError(this.#bundle, problem, cause === undefined ? undefined : { cause });
  }

  /** `manifest key "<path>" <problem>`, for example `must be positive, got 0`. */
  keyError(path: string, problem: string): ManifestError {
    return this.error(`manifest key "${path}" ${problem}`);
  }

  /** A non-empty string. */
  text(value: YamlValue | undefined, path: string, maxLength: number): string {
    if (typeof value !== "string") throw this.#wrong(path, "a string", value);
    if (value === "") throw this.keyError(path, "must not be empty");
    if (value.length > maxLength) {
      throw this.keyError(path, `must have at most ${maxLength} characters, got ${value.length}`);
    }
    return value;
  }

  /** A list of at most `maxLength` entries. */
  list(value: YamlValue | undefined, path: string, maxLength: number): YamlValue[] {
    if (!Array.isArray(value)) throw this.#wrong(path, "a list", value);
    if (value.length > maxLength) {
      throw this.keyError(path, `must have at most ${maxLength} entries, got ${value.length}`);
    }
    return value;
  }

  /** A mapping. */
  mapping(value: YamlValue | undefined, path: string): YamlMapping {
    if (!(value instanceof Map)) throw this.#wrong(path, "a mapping", value);
    return value;
  }

  /** An integer from `minimum` to `maximum`; floats, also `3.0`, are refused. */
  integer(
    value: YamlValue | undefined,
    path: string,
    range: { minimum: number; maximum: number; orElse?: string },
  ): number {
    if (typeof value !== "bigint") throw this.#wrong(path, "an integer", value);
    if (value < BigInt(range.minimum) || value > BigInt(range.maximum)) {
      const wanted = value < BigInt(range.minimum)
        ? `at least ${range.minimum}${range.orElse ?? ""}`
        : `at most ${range.maximum}`;
      throw this.keyError(path, `must be ${wanted}, got ${describe(value)}`);
    }
    return Number(value);
  }

  /** Warns about every key of `mapping` that is not one of `known`. */
  warnUnknownKeys(mapping: YamlMapping, path: string, known: readonly string[]): void {
    for (const key of mapping.keys()) {
      if (typeof key === "string" && known.includes(key)) continue;
      const name = String(key);
      const meant = nearest(name, known);
      const hint = meant === undefined ? "" : `; did you mean "${meant}"?`;
      this.warnings.push(`manifest key ${quote(join(path, name))} is unknown and ignored${hint}`);
    }
  }

  #wrong(path: string, wanted: string, value: unknown): ManifestError {
    return this.keyError(
      path,
      value === undefined ? "is required" : `must be ${wanted}, got ${describe(value)}`,
    );
  }

  #rejectDuplicateKeys(node: unknown): void {
    if (!isMap(node)) return;
    const seen = new Set<string>();
    for (const { key } of node.items) {
      const text = String(key);
      if (seen.has(text)) {
        throw this.error(`manifest.yaml has the key ${quote(text)} twice in one mapping`);
      }
      seen.add(text);
    }
  }
}

/** `a` and `b` as `a.b`; the root path is empty. */
export function join(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

/** A value as it may be shown in a message: its kind where it is long, at most 60 characters. */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (value instanceof Map) return "a mapping";
  return typeof value === "string" ? quote(value) : String(value).slice(0, 60);
}

/** A name or text in quotes, cut at 60 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

/**
 * Integers with a leading zero are octal, as the YAML library of the original server reads them
 * (YAML 1.2 core would call `010` ten). `08` is then no integer but text.
 */
const leadingZeroOctal: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  identify: () => false,
  default: true,
  test: /^[-+]?0[0-9]+$/,
  resolve(text: string) {
    if (/[89]/.test(text)) return text;
    const magnitude = BigInt(`0o${text.replace(/^[-+]/, "")}`);
    return text.startsWith("-") ? -magnitude : magnitude;
  },
};

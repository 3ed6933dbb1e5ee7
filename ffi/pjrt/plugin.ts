/** Opens PJRT plugins: shared libraries that export `GetPjrtApi`. */

import { PluginError, REMEDY } from "../errors.ts";
import { openPinnedLibrary } from "../libc/dynamic_library.ts";
import { brandAddress, copyBytes, copyString, copyWords, memoryAt } from "../pointer.ts";
import { Struct } from "../struct_layout.ts";
import { PjrtApi } from "./api.ts";
import { readElfHeader } from "./elf.ts";
import { PJRT_NamedValue_Type } from "./enums.ts";
import { PJRT_NamedValue } from "./structs.ts";

const GET_PJRT_API = { parameters: [], result: "pointer" } as const;

/** The C API major version the struct tables describe; another one is another ABI. */
export const PJRT_API_MAJOR = 0;

/** The C API minor version whose header the struct tables were written from. */
export const PJRT_API_MINOR = 81;

/**
 * Minor versions that were tried: the suite runs on 0.81 (xla-cpu-pjrt 0.0.1); 0.85 (jax-cuda12-pjrt
 * 0.8.2) was opened and understood its create options.
 */
export const TESTED_MINOR = { min: 81, max: 85 } as const;

export type AttributeValue = string | number | boolean | readonly number[];

/** An opened plugin. It stays open for the life of the process: plugins do not survive unloading. */
export interface PjrtPlugin {
  /** Canonical path of the library. */
  readonly path: string;
  readonly api: PjrtApi;
  /** For example `0.81`. */
  readonly apiVersion: string;
  /** What the plugin says of itself, for example `xla_version` or `stablehlo_current_version`. */
  readonly attributes: ReadonlyMap<string, AttributeValue>;
  /** One line for the operator when the C API's minor version is outside the tested range. */
  readonly warning: string | undefined;
}

const opened = new Map<string, PjrtPlugin>();

/**
 * Opens a plugin, once per file: a second call with any path to the same file returns the same object.
 * @throws {PluginError} missing, for another machine, no plugin, or another major version
 */
export function openPlugin(path: string): PjrtPlugin {
  const canonical = canonicalPath(path);
  const known = opened.get(canonical);
  if (known !== undefined) return known;
  checkLibrary(path, canonical);
  const plugin = load(path, canonical);
  opened.set(canonical, plugin);
  return plugin;
}

function canonicalPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new PluginError(path, "there is no such file", { cause });
    }
    throw new PluginError(path, `it cannot be reached (${(cause as Error).message})`, { cause });
  }
}

/** Looks at the file before the dynamic loader does: its messages do not say what is wrong. */
function checkLibrary(path: string, canonical: string): void {
  let header;
  try {
    header = readElfHeader(canonical);
  } catch (cause) {
    throw new PluginError(path, `it cannot be read (${(cause as Error).message})`, { cause });
  }
  if (header === undefined) throw new PluginError(path, "it is not an ELF shared library");
  if (header.machine !== Deno.build.arch) {
    throw new PluginError(
      path,
      `it is built for ${header.machine}, this machine is ${Deno.build.arch}`,
    );
  }
}

function load(path: string, canonical: string): PjrtPlugin {
  let library;
  try {
    library = openPinnedLibrary(canonical);
  } catch (cause) {
    throw new PluginError(path, `it does not load (${(cause as Error).message})`, { cause });
  }
  const entry = library.symbol("GetPjrtApi");
  if (entry === undefined) {
    throw new PluginError(path, "it does not export GetPjrtApi, so it is no PJRT plugin");
  }
  const table = new Deno.UnsafeFnPointer(
    entry as Deno.PointerObject<typeof GET_PJRT_API>,
    GET_PJRT_API,
  ).call();
  if (table === null) throw new PluginError(path, "its GetPjrtApi returned no function table");
  const api = new PjrtApi(brandAddress(Deno.UnsafePointer.value(table)));
  const warning = checkVersion(path, api);
  api.call("PJRT_Plugin_Initialize", api.args("PJRT_Plugin_Initialize"));
  return {
    path: canonical,
    api,
    apiVersion: api.version,
    attributes: readAttributes(api),
    warning,
  };
}

/**
 * Checks what the plugin was built against. Another minor version is compatible by PJRT's own rules, but
 * untested: returns a line that says so.
 * @throws {PluginError} for another major version
 */
export function checkVersion(path: string, api: PjrtApi): string | undefined {
  if (api.majorVersion !== PJRT_API_MAJOR) {
    throw new PluginError(
      path,
      `it speaks PJRT C API ${api.version}, this server speaks ${PJRT_API_MAJOR}.x`,
    );
  }
  if (api.minorVersion >= TESTED_MINOR.min && api.minorVersion <= TESTED_MINOR.max) {
    return undefined;
  }
  const tested = `${PJRT_API_MAJOR}.${TESTED_MINOR.min} to ${PJRT_API_MAJOR}.${TESTED_MINOR.max}`;
  return `PJRT plugin ${
    JSON.stringify(path)
  } speaks C API ${api.version}, this server is tested with ` +
    `${tested}; if models fail to load, ${REMEDY}`;
}

function readAttributes(api: PjrtApi): ReadonlyMap<string, AttributeValue> {
  const attributes = new Map<string, AttributeValue>();
  if (!api.has("PJRT_Plugin_Attributes")) return attributes;
  const args = api.call("PJRT_Plugin_Attributes", api.args("PJRT_Plugin_Attributes"));
  const count = args.get("num_attributes");
  if (count === 0) return attributes;
  const base = args.get("attributes");
  // The elements lie as far apart as the plugin's own struct is long, which each of them states.
  const stride = Number(memoryAt(base).getBigUint64());
  for (let index = 0; index < count; index++) {
    const bytes = copyBytes(base + BigInt(index * stride), PJRT_NamedValue.size);
    const [name, value] = readNamedValue(new Struct(PJRT_NamedValue, bytes));
    attributes.set(name, value);
  }
  return attributes;
}

function readNamedValue(
  struct: Struct<typeof PJRT_NamedValue.fields>,
): [string, AttributeValue] {
  const name = copyString(struct.get("name"), struct.get("name_size"));
  const word = struct.get("value");
  const length = struct.get("value_size");
  switch (struct.get("type")) {
    case PJRT_NamedValue_Type.kString:
      return [name, copyString(word, length)];
    case PJRT_NamedValue_Type.kInt64:
      return [name, Number(BigInt.asIntN(64, word))];
    case PJRT_NamedValue_Type.kInt64List:
      return [name, Array.from(copyWords(word, length), (item) => Number(BigInt.asIntN(64, item)))];
    case PJRT_NamedValue_Type.kFloat:
      return [name, new Float32Array(new BigUint64Array([word]).buffer)[0]!];
    case PJRT_NamedValue_Type.kBool:
      return [name, (word & 0xffn) !== 0n];
    default:
      return [name, `(value of unknown type ${struct.get("type")})`];
  }
}

/** Which cached executable a program may be replaced by. */

import type { Backend, CompileSettings } from "../backend.ts";
import { encodeCompileOptions } from "../pjrt/compile_options.ts";

/** Raise it whenever entries written before must not be loaded any more. */
const KEY_VERSION = "executable 1";

const encoder = new TextEncoder();

/** What besides a program and its settings decides what the compiler makes of it. */
export interface CompilerIdentity {
  readonly backend: Pick<Backend, "platform" | "deviceKind" | "fingerprint">;
  /** An executable is bound to the device it was compiled for. */
  readonly deviceOrdinal: number;
  /** `XLA_FLAGS`, which the compiler reads by itself; empty when there is none. */
  readonly xlaFlags: string;
  /** How many this process may use: on a CPU, XLA splits loops for that many threads. */
  readonly processors: number;
}

/**
 * The SHA-256 over everything that decides what compiling gives. Two programs with one key are
 * interchangeable.
 */
export async function executableKey(
  code: Uint8Array,
  settings: CompileSettings,
  { backend, deviceOrdinal, xlaFlags, processors }: CompilerIdentity,
): Promise<Uint8Array> {
  const facts = [
    KEY_VERSION,
    backend.fingerprint,
    backend.platform,
    backend.deviceKind,
    xlaFlags,
    backend.platform === "cpu" ? String(processors) : "",
  ].map((fact) => encoder.encode(fact));
  const compileOptions = encodeCompileOptions(deviceOrdinal, inOrder(settings));
  return await sha256(joinMeasured([...facts, compileOptions, await sha256(code)]));
}

/** Off the event loop, because programs and executables can be large. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
}

/** The same settings, whatever the order in which their overrides were given. */
function inOrder(settings: CompileSettings): CompileSettings {
  const overrides = Object.entries(settings.overrides ?? {})
    .toSorted(([a], [b]) => a < b ? -1 : 1);
  return { ...settings, overrides: Object.fromEntries(overrides) };
}

/** Each part with its length before it, so that no two lists of parts give the same bytes. */
function joinMeasured(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + 8 + part.length, 0));
  const view = new DataView(joined.buffer);
  let at = 0;
  for (const part of parts) {
    view.setBigUint64(at, BigInt(part.length), true);
    joined.set(part, at + 8);
    at += 8 + part.length;
  }
  return joined;
}

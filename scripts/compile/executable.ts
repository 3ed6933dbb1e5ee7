/** The package that `deno compile` makes: Deno's small runtime with the program embedded. */

import { ASSETS, BUILD_FILE, V8_FLAGS } from "../../src/standalone.ts";
import { PERMISSION_FLAGS } from "./permissions.ts";
import { CompileError, type Stage } from "./stage.ts";

/** Deno 2.8's compile step overflows the default 2 MiB of its threads with some module graphs. */
const THREAD_STACK_BYTES = 64 * 2 ** 20;

const NO_BASE_BINARY = /denort|error sending request|failed to lookup|base binary/i;

/** What of a staged program `deno compile` cannot see by itself. */
export const INCLUDED: readonly string[] = [...ASSETS, BUILD_FILE];

/**
 * Embeds a staged program into Deno's base binary (`denort`), which Deno downloads from its own host or
 * takes from `DENORT_BIN`.
 *
 * @returns what `deno compile` reports, its list of embedded files included
 * @throws {CompileError} when it fails; without a base binary, saying how to come by one
 */
export async function embed(stage: Stage, output: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "compile",
      "--no-check",
      "--cached-only",
      ...PERMISSION_FLAGS,
      `--v8-flags=${V8_FLAGS}`,
      ...INCLUDED.flatMap((path) => ["--include", path]),
      "--output",
      output,
      "main.ts",
    ],
    cwd: stage.folder,
    env: { NO_COLOR: "1", RUST_MIN_STACK: String(THREAD_STACK_BYTES) },
  }).output();
  const text = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  if (success) return text;
  const cause = text.replace(/\n+Stack backtrace:[^]*$/, "").trim();
  if (!NO_BASE_BINARY.test(text)) throw new CompileError(cause);
  throw new CompileError(
    `${cause}\n\nDeno's base binary \`denort\` could not be had. Either download the one of ` +
      `Deno ${Deno.version.deno} where the network allows it ` +
      `(https://github.com/denoland/deno/releases/tag/v${Deno.version.deno}, ` +
      `denort-${Deno.build.target}.zip) and set DENORT_BIN to the unpacked file's path, or build ` +
      "the portable file, which needs none: deno task compile --portable",
  );
}

/**
 * Starts what was built once, so that a base binary of another version, or one that is none, is found
 * out here and not where it is deployed. A portable file unpacks into the given folder, and not into the
 * cache of whoever builds.
 *
 * @returns the version line
 * @throws {CompileError} when it does not answer as this program
 */
export async function tryOut(output: string, stage: Stage, unpackFolder: string): Promise<string> {
  let answer: string;
  try {
    const { stdout, stderr } = await new Deno.Command(output, {
      args: ["--version"],
      env: { REACTANTSERVER_UNPACK_DIR: unpackFolder },
    }).output();
    answer = (new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr)).trim();
  } catch (error) {
    answer = String(error);
  }
  const expected = `reactantserver ${stage.version} (commit ${stage.commit}, `;
  if (answer.startsWith(expected) && answer.endsWith(`Deno ${Deno.version.deno})`)) return answer;
  throw new CompileError(
    `${output} does not answer as this program but with ${JSON.stringify(answer.slice(0, 300))}; ` +
      `a DENORT_BIN must be the denort of Deno ${Deno.version.deno}, not Deno itself`,
  );
}

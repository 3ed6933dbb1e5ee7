/**
 * `deno task compile [--portable] [--commit TEXT] [OUTPUT]`: the whole program as one executable file.
 *
 * Without `--portable`, by `deno compile`, which needs Deno's base binary `denort`. With it, as a file
 * that carries Deno itself and unpacks once; see `docs/packaging.md` for what tells them apart.
 */

import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { embed, tryOut } from "./compile/executable.ts";
import { writePortable } from "./compile/portable.ts";
import { CompileError, stageProgram } from "./compile/stage.ts";

const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

const USAGE = `Usage: deno task compile [--portable] [--commit TEXT] [OUTPUT]

Builds the whole program as one executable file, dist/reactantserver if no OUTPUT is given.

  --portable     self-extracting, with Deno in it; needs no denort, Deno's base binary
  --commit TEXT  what --version says instead of what git does
  -h, --help     show this text
`;

async function compile(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      portable: { type: "boolean" },
      commit: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return console.log(USAGE.trimEnd());
  if (positionals.length > 1) throw new CompileError(`one OUTPUT, not ${positionals.join(", ")}`);
  const output = resolve(positionals[0] ?? `${root}/dist/reactantserver`);
  Deno.mkdirSync(dirname(output), { recursive: true });
  // Beside the output, which gets its name only when it was seen to run.
  const scratch = Deno.makeTempDirSync({ dir: dirname(output), prefix: ".compile-" });
  const built = `${scratch}/reactantserver`;
  const staging = Deno.makeTempDirSync({ prefix: "reactantserver-stage-" });
  try {
    const stage = await stageProgram({ root, target: staging, commit: values.commit });
    if (values.portable) {
      await writePortable({
        stage,
        output: built,
        deno: Deno.execPath(),
        cacheFolder: `${root}/.cache/compile`,
      });
    } else {
      console.log(await embed(stage, built));
    }
    console.log(await tryOut(built, stage, `${scratch}/unpacked`));
    Deno.renameSync(built, output);
    const megabytes = (Deno.statSync(output).size / 1e6).toFixed(1);
    console.log(`wrote ${output} (${megabytes} MB)`);
  } finally {
    Deno.removeSync(staging, { recursive: true });
    Deno.removeSync(scratch, { recursive: true });
  }
}

if (import.meta.main) {
  try {
    await compile(Deno.args);
  } catch (error) {
    // Arguments and files that are wrong have a code.
    const isExpected = error instanceof CompileError || (error instanceof Error && "code" in error);
    if (!isExpected) throw error;
    console.error(`compile: ${error.message}`);
    Deno.exitCode = 1;
  }
}

/**
 * `deno task compile [--portable] [--commit TEXT] [OUTPUT]`: the whole program as one executable file.
 *
 * Without `--portable`, by `deno compile`, which needs Deno's base binary `denort`. With it, as a file
 * that carries Deno itself and unpacks once; see `docs/packaging.md` for what tells them apart.
 */

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { embed, tryOut } from "./compile/executable.ts";
import { writePortable } from "./compile/portable.ts";
import { CompileError, stageProgram } from "./compile/stage.ts";

const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

async function compile(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { portable: { type: "boolean" }, commit: { type: "string" } },
  });
  const output = resolve(positionals[0] ?? `${root}/dist/reactantserver`);
  const folder = Deno.makeTempDirSync({ prefix: "reactantserver-stage-" });
  try {
    const stage = await stageProgram({ root, target: folder, commit: values.commit });
    if (values.portable) {
      await writePortable({
        stage,
        output,
        deno: Deno.execPath(),
        cacheFolder: `${root}/.cache/compile`,
      });
    } else {
      Deno.mkdirSync(resolve(output, ".."), { recursive: true });
      console.log(await embed(stage, output));
    }
    console.log(await tryOut(output, stage));
    const megabytes = (Deno.statSync(output).size / 1e6).toFixed(1);
    console.log(`wrote ${output} (${megabytes} MB)`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  try {
    await compile(Deno.args);
  } catch (error) {
    const isExpected = error instanceof CompileError ||
      (error instanceof TypeError && "code" in error);
    if (!isExpected) throw error;
    console.error(`compile: ${error.message}`);
    Deno.exitCode = 1;
  }
}

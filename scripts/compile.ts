/**
 * `deno task compile [OUTPUT]`: the whole program as one executable, by `deno compile`.
 *
 * That needs Deno's `denort` base binary, which Deno downloads from its own host on first use or takes
 * from DENORT_BIN. Where neither can be had this says so; everything still runs from source.
 */

import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));

/** Files that are loaded by path at run time, which `deno compile` cannot see in the imports. */
const INCLUDED = ["src/worker/hooks/sandbox.ts", "src/worker/hooks/hook_worker.ts"];

async function compile(output: string): Promise<number> {
  Deno.mkdirSync(dirname(output), { recursive: true });
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "compile",
      "--quiet",
      "--no-check",
      "--allow-all",
      "--no-prompt",
      ...INCLUDED.flatMap((path) => ["--include", root + path]),
      "--output",
      output,
      `${root}main.ts`,
    ],
    cwd: root,
    stdout: "inherit",
    stderr: "piped",
  }).output();
  if (code === 0) {
    console.log(`wrote ${output}`);
    return 0;
  }
  const text = new TextDecoder().decode(stderr);
  console.error(text.trim());
  if (/denort|downloading|error sending request|failed to lookup/i.test(text)) {
    console.error(
      "\ncompile: Deno's base binary `denort` could not be fetched. Download the one of Deno " +
        `${Deno.version.deno} where the network allows it and set DENORT_BIN to its path, or run from ` +
        "source: ./scripts/deno task serve",
    );
  }
  return 1;
}

if (import.meta.main) Deno.exitCode = await compile(Deno.args[0] ?? `${root}dist/reactantserver`);

/**
 * Makes a fresh checkout able to serve: the XLA CPU plugin into `.cache/pjrt`, the digits model into
 * `models`. Does nothing where that is done already; safe to interrupt, to repeat and to run twice at
 * once. `PYTHON` names the Python whose pip is used (default: python3). With a plugin of one's own in
 * `REACTANT_PJRT_PLUGIN` it is only a warning that the CPU plugin cannot be had.
 *
 *     scripts/setup
 */

import { installExample } from "./setup_models.ts";
import { CPU_PLUGIN, installPlugin } from "./setup_plugin.ts";
import { type Reporter, SetupError } from "./setup_types.ts";

const root = decodeURIComponent(new URL("..", import.meta.url).pathname);

async function main(): Promise<number> {
  const report = reporterOn(Deno.stderr);
  try {
    await installPlugin({
      folder: `${root}.cache/pjrt`,
      python: Deno.env.get("PYTHON") || "python3",
      plugin: CPU_PLUGIN,
      host: Deno.build,
      report,
    });
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    // Whoever brings a plugin can do without this one.
    const isNeeded = !Deno.env.get("REACTANT_PJRT_PLUGIN");
    report.line(`${isNeeded ? "error" : "warning"}: ${error.message}`);
    if (isNeeded) return 1;
  }
  installExample(`${root}examples/digits/bundle/digits`, `${root}models/digits`, report);
  return 0;
}

/** On a terminal progress stays on one line; elsewhere it is a line now and then. */
function reporterOn(stream: typeof Deno.stderr): Reporter {
  const isTerminal = stream.isTerminal();
  const write = (text: string) => stream.writeSync(new TextEncoder().encode(text));
  let lastProgress = "";
  let lastAtMs = -Infinity;
  return {
    line: (text) => write(`${isTerminal ? "\r\x1b[K" : ""}[setup] ${text}\n`),
    progress: (text) => {
      if (text === lastProgress) return;
      if (isTerminal) write(`\r\x1b[K[setup] ${text}`);
      else if (performance.now() - lastAtMs >= QUIET_INTERVAL_MS) {
        write(`[setup] ${text}\n`);
        lastAtMs = performance.now();
      }
      lastProgress = text;
    },
  };
}

const QUIET_INTERVAL_MS = 2000;

if (import.meta.main) Deno.exitCode = await main();

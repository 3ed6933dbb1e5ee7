/** Running pip, with progress for people and one clear line when it fails. */

import { type InstallOptions, SetupError } from "./setup_types.ts";

const MEGABYTE = 1_000_000;
const PROGRESS_INTERVAL_MS = 500;

/**
 * Downloads the wheel of `options.plugin` into a folder and returns its path. pip's own temporary files
 * go there too, which is how progress is seen and why nothing stays behind.
 *
 * @throws {SetupError} when Python, pip, the network or room on the disk is missing
 */
export async function download(
  options: InstallOptions & { readonly into: string },
): Promise<string> {
  const { plugin, into, report } = options;
  const python = await pythonWithPip(options.python, `${into}/venv`);
  const work = `${into}/pip`;
  const wheels = `${work}/wheel`;
  Deno.mkdirSync(work);
  const progress = () =>
    report.progress(
      `downloading ${plugin.requirement}: ${
        Math.min(Math.round(bytesBelow(work) / MEGABYTE), plugin.megabytes)
      } of ${plugin.megabytes} MB`,
    );
  progress();
  const timer = setInterval(progress, PROGRESS_INTERVAL_MS);
  try {
    const { success, stderr } = await runPython(python, [
      "-m",
      "pip",
      "download",
      "--no-deps",
      "--only-binary=:all:",
      `--platform=${plugin.platform}`,
      `--dest=${wheels}`,
      "--disable-pip-version-check",
      "--no-input",
      "--quiet",
      "--retries=2",
      "--timeout=20",
      plugin.requirement,
    ], { TMPDIR: work });
    if (!success) throw new SetupError(explain(plugin.requirement, stderr));
  } finally {
    clearInterval(timer);
  }
  const wheel = [...Deno.readDirSync(wheels)].find(({ name }) => name.endsWith(".whl"));
  if (wheel === undefined) {
    throw new SetupError(`pip reported success but left no wheel of ${plugin.requirement}`);
  }
  return `${wheels}/${wheel.name}`;
}

const HOW_TO_GET_PIP = "(Debian and Ubuntu: apt install python3-venv), name another Python with " +
  "PYTHON=PATH, or give a plugin with REACTANT_PJRT_PLUGIN=PATH";

/** A Python that has pip: the one named, else an environment that is made for it in `venv`. */
async function pythonWithPip(python: string, venv: string): Promise<string> {
  const own = await runPython(python, ["-m", "pip", "--version"]);
  if (own.success) return python;
  const made = await runPython(python, ["-m", "venv", venv]);
  if (made.success) return `${venv}/bin/python`;
  throw new SetupError(
    `${python} has neither pip (${lastLine(own.stderr)}) nor a working venv; ` +
      `install one of them ${HOW_TO_GET_PIP}`,
  );
}

async function runPython(
  python: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ success: boolean; stderr: string }> {
  try {
    const { success, stderr } = await new Deno.Command(python, {
      args,
      env,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    return { success, stderr: new TextDecoder().decode(stderr) };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new SetupError(
      `${python} was not found; install Python 3 with venv or pip ${HOW_TO_GET_PIP}`,
    );
  }
}

/** The likeliest cause in pip's output. Order matters: a lost connection also ends in "No matching". */
const CAUSES: readonly (readonly [RegExp, string])[] = [
  [/No space left on device|Disk quota exceeded/i, "there is no room left on the disk"],
  [
    /Connection|Retrying|Max retries|timed out|Name or service not known|name resolution|ProxyError|SSLError|CERTIFICATE_VERIFY/i,
    "the package index cannot be reached; check the network, the proxy and pip's configuration, " +
    "or fetch a plugin by other means and give it with REACTANT_PJRT_PLUGIN=PATH",
  ],
  [
    /No matching distribution/i,
    "the package index does not have it; check pip's index configuration",
  ],
];

function explain(requirement: string, stderr: string): string {
  const cause = CAUSES.find(([pattern]) => pattern.test(stderr))?.[1];
  return `pip could not download ${requirement}: ${cause ?? lastLine(stderr)}`;
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1)!.trim() || "no reason given";
}

function bytesBelow(folder: string): number {
  let bytes = 0;
  try {
    for (const entry of Deno.readDirSync(folder)) {
      const path = `${folder}/${entry.name}`;
      bytes += entry.isDirectory ? bytesBelow(path) : Deno.statSync(path).size;
    }
  } catch (error) {
    // pip moves its files about while we look; a miss only makes one progress figure too small.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return bytes;
}

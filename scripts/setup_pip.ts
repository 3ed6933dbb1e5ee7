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
  const { python, plugin, into, report } = options;
  await requirePip(python);
  const wheels = `${into}/wheel`;
  const progress = () =>
    report.progress(
      `downloading ${plugin.requirement}: ${
        Math.min(Math.round(bytesBelow(into) / MEGABYTE), plugin.megabytes)
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
    ], { TMPDIR: into });
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

async function requirePip(python: string): Promise<void> {
  const { success, stderr } = await runPython(python, ["-m", "pip", "--version"]);
  if (success) return;
  throw new SetupError(
    `${python} has no working pip (${lastLine(stderr)}); install it ` +
      "(Debian and Ubuntu: apt install python3-pip) or give a plugin with --pjrt-plugin PATH",
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
      `${python} was not found; install Python 3 with pip (Debian and Ubuntu: ` +
        "apt install python3-pip) or give a plugin with --pjrt-plugin PATH",
    );
  }
}

/** The likeliest cause in pip's output. Order matters: a lost connection also ends in "No matching". */
const CAUSES: readonly (readonly [RegExp, string])[] = [
  [/No space left on device|Disk quota exceeded/i, "there is no room left on the disk"],
  [
    /Connection|Retrying|Max retries|timed out|Name or service not known|name resolution|ProxyError|SSLError|CERTIFICATE_VERIFY/i,
    "the package index cannot be reached; check the network, the proxy and pip's configuration, " +
    "or fetch a plugin by other means and give it with --pjrt-plugin PATH",
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

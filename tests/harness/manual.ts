/**
 * Runs the blocks of the manual's pages as a reader would, in a folder that looks like a fresh checkout.
 * The ports that the pages name (8001, 8002, 808x, 910x) are replaced by free ones. A `Manual` owns the
 * folder and every server it started; disposing it ends them.
 */

import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { attribute, type Block, isRun, scriptOf } from "../../scripts/docs/page.ts";
import { freePort, freePorts } from "./ports.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Nothing in the manual takes long; a busy machine may. */
const WAIT_MS = 600_000;
/** Workers of a page's node at most. */
const WORKERS = 4;

/** What of the checkout a reader's own folder has; the rest he makes. */
const LINKED = [
  ...[".cache", ".deno-version", "deno.lock"],
  ...["docker", "examples", "ffi", "proto", "scripts", "src"],
];
/** Tasks of much code: under another path Deno would transpile, and keep, the whole program once more. */
const FROM_ROOT = /(?<=\bdeno run -A )scripts\/(bench|compile|simulate|soak)\b[^\s"]*/g;

/** A running server of a page. */
interface Running {
  readonly process: Deno.ChildProcess;
  readonly ended: Promise<unknown>;
}

/** Free ports in place of those that the pages name. */
interface Ports {
  readonly public: readonly [grpc: number, http: number];
  readonly workers: number;
  readonly workerMetrics: number;
}

/** A reader's folder and servers. */
export class Manual implements AsyncDisposable {
  readonly #folder: string;
  /** The one that outlives its page, and where it is. */
  #kept: Running | undefined;
  #keptPorts: Ports | undefined;
  /** Those of the page at hand; a page without a server of its own has none. */
  #running: Running | undefined;
  #ownPorts: Ports | undefined;
  #lastOutput = "";
  /** The script before could not be run, so what it prints is not there. */
  #lacksOutput = false;

  constructor() {
    this.#folder = Deno.makeTempDirSync({ prefix: "manual-" });
    for (const name of LINKED) Deno.symlinkSync(join(root, name), join(this.#folder, name));
    // Copies, where scripts write: pages of the manual.
    cpSync(join(root, "docs"), join(this.#folder, "docs"), { recursive: true });
    Deno.writeTextFileSync(
      join(this.#folder, "deno.json"),
      Deno.readTextFileSync(join(root, "deno.json")).replaceAll(FROM_ROOT, `'${root}$&'`),
    );
    // Not a link, for the reason of FROM_ROOT.
    Deno.writeTextFileSync(
      join(this.#folder, "main.ts"),
      `import { main } from "${import.meta.resolve("../../src/cli/mod.ts")}";\n` +
        "Deno.exit(await main(Deno.args));\n",
    );
    Deno.mkdirSync(join(this.#folder, "bin"));
    const program = join(this.#folder, "bin/reactantserver");
    Deno.writeTextFileSync(
      program,
      `#!/bin/sh\nexec "${Deno.execPath()}" run -A --no-check --quiet --config "${root}deno.json" ` +
        `"${root}main.ts" "$@"\n`,
    );
    Deno.chmodSync(program, 0o755);
  }

  /** A program that a block needs and that is not here; such a block is left out. */
  lacking(block: Block): string | undefined {
    return attribute(block, "needs")?.split(",").find((program) => !this.#has(program));
  }

  /** A file that the pages so far have left in the reader's folder. */
  read(path: string): string {
    return Deno.readTextFileSync(join(this.#folder, path));
  }

  /** Runs the blocks of one page in order. Its server ends with it, unless its block says `keep`. */
  async page(blocks: readonly Block[]): Promise<void> {
    const startsOne = blocks.some((block) => isServer(block) && !block.words.includes("keep"));
    this.#lacksOutput = false;
    // Known from the start, because files that are written before the server name its ports.
    this.#ownPorts = startsOne ? drawPorts() : undefined;
    try {
      for (const block of blocks) await this.#run(block);
    } finally {
      await stop(this.#running);
      this.#running = undefined;
      this.#ownPorts = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#kept);
    Deno.removeSync(this.#folder, { recursive: true });
    removeTranspiled(this.#folder);
  }

  async #run(block: Block): Promise<void> {
    const { language, words, text, place } = block;
    const file = attribute(block, "file");
    if (file !== undefined) {
      const path = join(this.#folder, file);
      Deno.mkdirSync(dirname(path), { recursive: true });
      Deno.writeTextFileSync(path, this.#withFreePorts(text));
    } else if (language === "text") {
      if (!this.#lacksOutput && words[0] !== "shape") this.#expect(block);
    } else if (isServer(block)) await this.#start(block);
    else if (isRun(block)) {
      this.#lacksOutput = this.lacking(block) !== undefined;
      if (this.#lacksOutput) return;
      const { code, output } = await this.script(block);
      const wanted = Number(attribute(block, "exit") ?? 0);
      assert.equal(code, wanted, `${place} ended with ${code}:\n${text}\n${output}`);
      this.#lastOutput = output;
    }
  }

  /** Runs a block's script, to whatever end. */
  async script(block: Block): Promise<{ code: number; output: string }> {
    const text = this.#withFreePorts(scriptOf(block));
    // One stream, so that lines stay in the order in which they were written.
    const { code, stdout } = await new Deno.Command("bash", {
      args: ["-e", "-o", "pipefail", "-c", `exec 2>&1\n${text}`],
      cwd: this.#folder,
      env: this.#environment(),
      stdin: "null",
      stderr: "null",
      signal: AbortSignal.timeout(WAIT_MS),
    }).output();
    return { code, output: new TextDecoder().decode(stdout) };
  }

  /** Starts a node and waits until it is ready. It takes the place of the page's earlier one. */
  async #start({ text, words, place }: Block): Promise<void> {
    await stop(this.#running);
    this.#running = undefined;
    const isKept = words.includes("keep");
    if (isKept) this.#keptPorts = drawPorts();
    const process = new Deno.Command("bash", {
      args: ["-c", `exec 2>&1\n${this.#withFreePorts(replacingShell(text))}`],
      cwd: this.#folder,
      env: this.#environment(),
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    let output = "";
    let hasEnded = false;
    const ended = (async () => {
      for await (const part of process.stdout.pipeThrough(new TextDecoderStream())) output += part;
      await process.status;
      hasEnded = true;
    })();
    const running = { process, ended };
    if (isKept) this.#kept = running;
    else this.#running = running;
    const port = this.#ports!.public[1];
    const endMs = performance.now() + WAIT_MS;
    while (!await isReady(port)) {
      assert.ok(!hasEnded, `${place} ended:\n${output}`);
      assert.ok(performance.now() < endMs, `${place} is not ready:\n${output}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Compares some lines with what was printed: in this order, numbers aside. */
  #expect({ text, place }: Block): void {
    const printed = this.#lastOutput.split("\n").map(withoutNumbers);
    let at = 0;
    for (const line of this.#withFreePorts(text).split("\n").filter((line) => line.trim() !== "")) {
      const pattern = new RegExp(
        `^${withoutNumbers(line).split("…").map((part) => RegExp.escape(part)).join(".*")}$`,
      );
      const found = printed.findIndex((other, index) => index >= at && pattern.test(other));
      assert.ok(
        found >= 0,
        `${place} shows a line that is not printed: ${line}\n${this.#lastOutput}`,
      );
      at = found + 1;
    }
  }

  get #ports(): Ports | undefined {
    return this.#ownPorts ?? this.#keptPorts;
  }

  #withFreePorts(text: string): string {
    const ports = this.#ports;
    if (ports === undefined) return text;
    return text.replaceAll(/\b(8001|8002|80[89]\d|910\d)\b/g, (port) => {
      const last = Number(port.at(-1));
      if (port.startsWith("800")) return `${ports.public[last - 1]}`;
      return `${(port.startsWith("9") ? ports.workerMetrics : ports.workers) + last}`;
    });
  }

  /** Go's tools are where the interop tests build them. */
  get #path(): string {
    return `${this.#folder}/bin:${Deno.env.get("PATH")}:${root}.cache/go/bin`;
  }

  #has(program: string): boolean {
    return this.#path.split(":").some((folder) => isFile(join(folder, program)));
  }

  /** Keeps servers apart from those of other tests; a reader has none of it set. */
  #environment(): Record<string, string> {
    const environment: Record<string, string> = {
      PATH: this.#path,
      REACTANT_GPUS: "0",
      REACTANT_WORKER_THREADS: "1",
      REACTANT_RUNTIME_DIR: `${this.#folder}/run`,
      REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "1",
      REACTANTSERVER_UNPACK_DIR: `${this.#folder}/unpacked`,
      INFERENCE_SERVER_CACHE_DIR: `${this.#folder}/compiled`,
      INFERENCE_SERVER_MODEL_POLL_SECONDS: "0.5",
      NO_COLOR: "1",
    };
    const ports = this.#ports;
    if (ports !== undefined) {
      const [grpc, http] = ports.public.map((port) => `127.0.0.1:${port}`);
      environment["REACTANT_GATEWAY_LISTEN_GRPC"] = grpc!;
      environment["REACTANT_GATEWAY_LISTEN_METRICS"] = http!;
      environment["REACTANT_CTL_TARGET"] = grpc!;
      environment["LOADGEN_GATEWAY"] = grpc!;
      environment["LOADGEN_METRICS"] = `http://${http}/metrics`;
    }
    return environment;
  }
}

/** What Deno keeps of the scripts that ran from a folder which will not be there again. */
function removeTranspiled(folder: string): void {
  const cache = Deno.env.get("DENO_DIR") ??
    `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`}/deno`;
  try {
    Deno.removeSync(`${cache}/gen/file${folder}`, { recursive: true });
  } catch {
    // It keeps nothing, or elsewhere.
  }
}

function isServer({ language, words }: Block): boolean {
  return language === "sh" && words[0] === "server";
}

/** The command becomes the shell's process, so that signals reach it; variables may stand before it. */
function replacingShell(command: string): string {
  return command.trim().replace(/^(?:[A-Z_]+=\S+ )*/, "$&exec ");
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

async function stop(running: Running | undefined): Promise<void> {
  if (running === undefined) return;
  const kill = (signal: Deno.Signal) => {
    try {
      running.process.kill(signal);
    } catch {
      // It ended before.
    }
  };
  kill("SIGTERM");
  const timer = setTimeout(() => kill("SIGKILL"), 60_000);
  await running.ended;
  clearTimeout(timer);
}

function withoutNumbers(line: string): string {
  return line.replaceAll(/\d+(\.\d+)?/g, "#").replaceAll(/\s+/g, " ").trim();
}

/** Two ports, and two rows of neighbouring ones, which a node counts up. */
function drawPorts(): Ports {
  const row = () => freePorts(WORKERS)[0]!;
  return { public: [freePort(), freePort()], workers: row(), workerMetrics: row() };
}

async function isReady(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

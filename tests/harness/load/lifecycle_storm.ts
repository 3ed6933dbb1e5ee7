/**
 * Bundles added, changed, renamed, broken, repaired and removed in random order while clients ask for all
 * of them. Every answer is checked: it must be of a bundle that was there, as a whole, at the time; a
 * model that only changes never fails; and in the end everything that was loaded is free again.
 *
 *     deno run -A tests/harness/load/lifecycle_storm.ts [--seconds 120] [--seed 1] [--clients 8]
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { ServerError } from "../../../src/errors.ts";
import { Random } from "../../../src/protocol/testing/random.ts";
import { temporaryDirectory, writeBundle } from "../bundle_builder.ts";
import { connect, type TestClient } from "../client.ts";
import {
  metaStampOf,
  publish,
  type Stamp,
  stampedBundle,
  stampedInput,
  stampedMeta,
  stampOf,
  textOf,
} from "../stamped_bundle.ts";
import { startServer, type TestServer } from "../server.ts";
import { whileStopped } from "../stopped.ts";

export interface StormOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly clients: number;
  /** Answers that there are to be at least, if that takes longer. */
  readonly answers?: number;
  /** Further flags of the server. */
  readonly args?: readonly string[];
}

export interface StormReport {
  /** Changes made, by kind. */
  readonly changes: Readonly<Record<string, number>>;
  /** What the server said it did, by log message. */
  readonly done: Readonly<Record<string, number>>;
  readonly answers: number;
  /** Refusals that were allowed, by status. */
  readonly refusals: Readonly<Record<string, number>>;
  /** What must not have happened. */
  readonly complaints: readonly string[];
  readonly handlesBefore: string;
  readonly handlesAfter: string;
  readonly residentBytesBefore: number;
  readonly residentBytesAfter: number;
}

const POLL_SECONDS = 0.2;
/** How long a change may take to be served on a busy machine. */
const SETTLE_MS = 300_000;
const NAMES = ["alpha", "beta", "gamma", "delta", "epsilon"];
/** Never touched. */
const STEADY: Stamp = { program: 1, weights: 1, hook: 0, manifest: 1 };
/** Changed and broken, but always there; a meta calls it. */
const STAGE = "stage";

/** What a name has stood for, and what of that was seen. */
interface History {
  /** Stamps as text, oldest first; `undefined`: there was no such model. */
  readonly eras: (string | undefined)[];
  /** When each but the last one ended. */
  readonly endsMs: number[];
  /** The newest era that answered, and when it was first seen to. */
  newest: { readonly era: number; readonly sinceMs: number } | undefined;
}

/** A bundle on disk. */
interface Published {
  readonly stamp: Stamp;
  isBroken: boolean;
}

class Storm {
  readonly changes: Record<string, number> = {};
  readonly refusals: Record<string, number> = {};
  readonly complaints: string[] = [];
  answers = 0;
  isOver = false;
  /** Does something that the server is to see as one change; it is not there yet at first. */
  asOne: (act: () => void) => void = (act) => act();
  readonly #random: Random;
  readonly #root: string;
  readonly #published = new Map<string, Published>();
  readonly #histories = new Map<string, History>();
  #version = 1;

  constructor(root: string, seed: number) {
    this.#root = root;
    this.#random = new Random(seed);
    for (const name of [...NAMES, STAGE]) {
      this.#histories.set(name, { eras: [], endsMs: [], newest: undefined });
      this.#begin(name, undefined);
    }
  }

  async addStage(): Promise<void> {
    await this.#write(STAGE, this.#newStamp());
    await writeBundle(this.#root, "meta", stampedMeta(STAGE, 1));
  }

  /** Makes one random change. */
  async change(): Promise<void> {
    const name = this.#random.below(5) === 0 ? STAGE : this.#random.pick(NAMES);
    const there = this.#published.get(name);
    if (!there) return await this.#count("add", () => this.#write(name, this.#newStamp()));
    const part = this.#random.pick(["program", "weights", "hook", "manifest"] as const);
    if (there.isBroken) {
      return await this.#count("repair", () => this.#replace(name, this.#newStamp(), there.stamp));
    }
    const others: readonly (() => void | Promise<void>)[] = name === STAGE ? [] : [
      () => this.#count("remove", () => this.#remove(name)),
      () => this.#count("rename", () => this.#rename(name, this.#random.pick(NAMES))),
      () => this.#count("rename", () => this.#rename(name, this.#random.pick(NAMES))),
      () => this.#count("exchange", () => this.#exchange(name)),
    ];
    await this.#random.pick([
      () => this.#count(`change ${part}`, () => this.#changePart(name, there.stamp, part)),
      () => this.#count(`change ${part}`, () => this.#changePart(name, there.stamp, part)),
      () => this.#count("break", () => this.#break(name, there)),
      ...others,
    ])();
  }

  /** Takes everything away that may go, and mends what was broken and stays. */
  async clear(): Promise<void> {
    for (const name of NAMES) if (this.#published.has(name)) this.#remove(name);
    await this.#replace(STAGE, this.#newStamp(), this.#published.get(STAGE)!.stamp);
  }

  /** Asks for one model after the other until the storm is over. */
  async ask({ inference }: TestClient, random: Random): Promise<void> {
    while (!this.isOver) {
      const model = random.pick(["steady", "meta", STAGE, ...NAMES]);
      const rows = model === "meta" ? 1 : 1 + random.below(4);
      const value = random.below(1000);
      const startMs = performance.now();
      try {
        const inputs = [stampedInput(rows, value)];
        const answer = await inference.infer({ modelName: model, inputs });
        this.answers++;
        const found = model === "meta"
          ? metaStampOf(answer, value).stamp
          : stampOf(answer, rows, value);
        this.#check(model, textOf(found), startMs);
      } catch (error) {
        if (!(error instanceof ServerError)) this.complaints.push(`${model}: ${error}`);
        else this.#checkRefusal(model, error, startMs);
      }
    }
  }

  /** An answer must be of the newest era that was seen to answer before it was asked for, or a later one. */
  #check(model: string, found: string, startMs: number): void {
    if (model === "steady") {
      if (found !== textOf(STEADY)) this.complaints.push(`steady answered ${found}`);
      return;
    }
    const history = this.#histories.get(model === "meta" ? STAGE : model)!;
    const { newest } = history;
    // Models that change places come back: the earliest era that is possible is the one that is meant.
    let era = history.eras.indexOf(found, newest?.era ?? 0);
    if (era < 0) era = history.eras.lastIndexOf(found);
    if (era < 0) this.complaints.push(`${model} answered ${found}, which never was`);
    else if (newest && era < newest.era && startMs > newest.sinceMs) {
      this.complaints.push(`${model} answered ${found} after ${history.eras[newest.era]}`);
    } else if ((history.endsMs[era] ?? Infinity) + SETTLE_MS < startMs) {
      this.complaints.push(`${model} answered ${found}, which is long gone`);
    }
    if (era > (newest?.era ?? -1)) history.newest = { era, sinceMs: performance.now() };
  }

  /** A model that has answered may not refuse until it is taken away, whatever else happens to it. */
  #checkRefusal(model: string, { status, message }: ServerError, startMs: number): void {
    const history = this.#histories.get(model);
    const isExpected = history !== undefined && model !== STAGE &&
      (status === "NOT_FOUND" || status === "UNAVAILABLE");
    const { newest, eras } = history ?? { newest: undefined, eras: [] };
    const isUp = newest !== undefined && newest.sinceMs < startMs &&
      newest.era > eras.lastIndexOf(undefined);
    if (isExpected && !isUp) this.refusals[status] = (this.refusals[status] ?? 0) + 1;
    else this.complaints.push(`${model}: ${status}: ${message}`);
  }

  async #count(kind: string, act: () => void | Promise<void>): Promise<void> {
    this.changes[kind] = (this.changes[kind] ?? 0) + 1;
    await act();
  }

  #newStamp(): Stamp {
    const hook = this.#random.below(3) === 0 ? ++this.#version : 0;
    return {
      program: ++this.#version,
      weights: ++this.#version,
      hook,
      manifest: ++this.#version,
    };
  }

  /** From now on the name stands for this; answers of what it stood for may still come for a while. */
  #begin(name: string, stamp: Stamp | undefined): void {
    const { eras, endsMs } = this.#histories.get(name)!;
    if (eras.push(stamp && textOf(stamp)) > 1) endsMs.push(performance.now());
  }

  /** Writes a bundle beside the others and moves it in, as a whole. */
  async #write(name: string, stamp: Stamp): Promise<void> {
    const aside = await writeBundle(this.#root, ".incoming", stampedBundle(stamp));
    this.#begin(name, stamp);
    Deno.renameSync(aside, join(this.#root, name));
    this.#published.set(name, { stamp, isBroken: false });
  }

  async #replace(name: string, stamp: Stamp, before: Stamp): Promise<void> {
    const aside = await writeBundle(this.#root, ".incoming", stampedBundle(stamp));
    const parked = join(this.#root, ".outgoing");
    this.#begin(name, stamp);
    this.asOne(() => {
      Deno.renameSync(join(this.#root, name), parked);
      Deno.renameSync(aside, join(this.#root, name));
    });
    Deno.removeSync(parked, { recursive: true });
    this.#published.set(name, { stamp, isBroken: false });
    if (textOf(stamp) === textOf(before)) throw new Error("versions are never used twice");
  }

  #changePart(name: string, before: Stamp, part: keyof Stamp): void {
    // A change of one file, because only that can be published in one step.
    const stamp = { ...before, [part]: ++this.#version };
    if (part === "program") return void this.#replaceProgram(name, stamp);
    const [old, files] = [stampedBundle(before), stampedBundle(stamp)];
    const changed = Object.entries(files).filter(([file, content]) =>
      String(old[file]) !== String(content)
    );
    this.#begin(name, stamp);
    this.asOne(() => publish(join(this.#root, name), Object.fromEntries(changed)));
    this.#published.set(name, { stamp, isBroken: false });
  }

  /** Both programs at once: the folder is replaced by one with links to what stays. */
  #replaceProgram(name: string, stamp: Stamp): void {
    const [directory, aside] = [join(this.#root, name), join(this.#root, ".incoming")];
    Deno.mkdirSync(aside);
    const files = stampedBundle(stamp);
    for (const file of Object.keys(files)) {
      if (file.endsWith(".mlir")) Deno.writeTextFileSync(join(aside, file), String(files[file]));
      else Deno.linkSync(join(directory, file), join(aside, file));
    }
    this.#begin(name, stamp);
    this.asOne(() => {
      Deno.renameSync(directory, join(this.#root, ".outgoing"));
      Deno.renameSync(aside, directory);
    });
    Deno.removeSync(join(this.#root, ".outgoing"), { recursive: true });
    this.#published.set(name, { stamp, isBroken: false });
  }

  #break(name: string, there: Published): void {
    const file = this.#random.pick([
      "model.b1.mlir",
      "model.b4.mlir",
      "weights.safetensors",
      "manifest.yaml",
    ]);
    publish(join(this.#root, name), { [file]: "broken" });
    there.isBroken = true;
  }

  #remove(name: string): void {
    this.#begin(name, undefined);
    Deno.renameSync(join(this.#root, name), join(this.#root, ".outgoing"));
    Deno.removeSync(join(this.#root, ".outgoing"), { recursive: true });
    this.#published.delete(name);
  }

  /** To a free name, or onto another model. */
  #rename(from: string, to: string): void {
    if (from === to) return;
    if (this.#published.has(to)) this.#remove(to);
    const moved = this.#published.get(from)!;
    this.#begin(from, undefined);
    this.#begin(to, moved.stamp);
    Deno.renameSync(join(this.#root, from), join(this.#root, to));
    this.#published.delete(from);
    this.#published.set(to, moved);
  }

  /** Two models change places. */
  #exchange(name: string): void {
    const other = [...this.#published].find(([one, { isBroken }]) =>
      one !== name && one !== STAGE && !isBroken
    );
    if (!other) return;
    const [[second, theirs], own] = [other, this.#published.get(name)!];
    this.#begin(name, theirs.stamp);
    this.#begin(second, own.stamp);
    const parked = join(this.#root, ".parked");
    this.asOne(() => {
      Deno.renameSync(join(this.#root, name), parked);
      Deno.renameSync(join(this.#root, second), join(this.#root, name));
      Deno.renameSync(parked, join(this.#root, second));
    });
    this.#published.set(name, theirs);
    this.#published.set(second, own);
  }
}

/** Runs a storm. @throws when the server does not come up or does not settle afterwards */
export async function runStorm(options: StormOptions): Promise<StormReport> {
  const { seconds, seed, clients, answers = 0, args } = options;
  await using folder = await temporaryDirectory();
  const storm = new Storm(folder.path, seed);
  await writeBundle(folder.path, "steady", stampedBundle(STEADY));
  await storm.addStage();
  await using server = await startServer({
    modelDirs: [folder.path],
    args: ["--model-poll-seconds", String(POLL_SECONDS), ...(args ?? [])],
  });
  storm.asOne = (act) => whileStopped(server.pid, act);
  const connections = Array.from({ length: clients }, () => connect(server));
  const random = new Random(seed + 1);
  const asking = connections.map((client) => storm.ask(client, new Random(random.next())));

  // What a running server needs anyway is not counted: the first tenth warms it up.
  const endMs = performance.now() + seconds * 1000;
  const warmMs = performance.now() + seconds * 100;
  const pause = () => sleep(20 + random.below(400));
  while (performance.now() < warmMs) await storm.change().then(pause);
  await settle(storm, server);
  const before = await footprint(server);
  while (performance.now() < endMs || storm.answers < answers && storm.complaints.length === 0) {
    await storm.change().then(pause);
  }
  await settle(storm, server);
  const after = await footprint(server);

  storm.isOver = true;
  await Promise.all(asking);
  for (const client of connections) await client[Symbol.asyncDispose]();
  const done: Record<string, number> = {};
  for (const { message, level } of server.events) {
    if (/^model |taken back|while it was loaded|anew/.test(message)) {
      done[message] = (done[message] ?? 0) + 1;
    } else if (level === "error") storm.complaints.push(`logged: ${message}`);
  }
  return {
    changes: storm.changes,
    done,
    answers: storm.answers,
    refusals: storm.refusals,
    complaints: storm.complaints.slice(0, 20),
    handlesBefore: before.handles,
    handlesAfter: after.handles,
    residentBytesBefore: before.residentBytes,
    residentBytesAfter: after.residentBytes,
  };
}

/** Clears the folder and waits until the server has followed. */
async function settle(storm: Storm, server: TestServer): Promise<void> {
  await storm.clear();
  const endMs = performance.now() + SETTLE_MS;
  let text = "";
  let quietPolls = 0;
  while (performance.now() < endMs) {
    await sleep(POLL_SECONDS * 1000);
    const next = await modelsOf(server);
    quietPolls = next === text ? quietPolls + 1 : 0;
    text = next;
    if (quietPolls >= 15 && text === "stage=0 steady=0") return;
  }
  throw new Error(`the server has not settled: ${text}`);
}

/** Models with what `worker_model_update_failed` says of them. */
async function modelsOf(server: TestServer): Promise<string> {
  const { body } = await server.http("/metrics");
  return [...body.matchAll(/^worker_model_update_failed\{.*model="(\w+)".*\} (\d)$/gm)]
    .map(([, model, value]) => `${model}=${value}`).toSorted().join(" ");
}

async function footprint(server: TestServer): Promise<{ handles: string; residentBytes: number }> {
  const least = { handles: "", residentBytes: Infinity };
  // Dispatches in progress hold handles of their own: the least of several looks is what stays.
  for (let look = 0; look < 20; look++) {
    const { body } = await server.http("/metrics");
    const handles = [...body.matchAll(/^worker_native_handles\{.*kind="(\w+)".*\} (\d+)$/gm)]
      .filter(([, kind]) => kind === "executable" || kind === "buffer")
      .map(([, kind, count]) => `${kind} ${count!.padStart(4)}`).toSorted().join(", ");
    if (least.handles === "" || handles < least.handles) least.handles = handles;
    const status = Deno.readTextFileSync(`/proc/${server.pid}/status`);
    const residentBytes = 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]);
    least.residentBytes = Math.min(least.residentBytes, residentBytes);
    await sleep(50);
  }
  return least;
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "120" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      clients: { type: "string", default: "8" },
    },
  });
  const seed = Number(values.seed);
  console.log(`seed ${seed}`);
  const report = await runStorm({
    seconds: Number(values.seconds),
    seed,
    clients: Number(values.clients),
  });
  console.log(report);
  if (report.complaints.length > 0 || report.handlesBefore !== report.handlesAfter) Deno.exit(1);
}

/** One rig's soak: node, load and monitor side by side, then the judgement. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TextLineStream } from "../../tests/harness/lines.ts";
import { writeSoakModels } from "./models.ts";
import { COLUMNS, csvLine, type Look, Monitor } from "./monitor.ts";
import { type SoakNode, startNode } from "./node.ts";
import { drawSoak } from "./picture.ts";
import { type RigName, RIGS } from "./rigs.ts";
import { type Allowance, judgeGrowth, type Judgement, type Point } from "./trend.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface SoakOptions {
  readonly rig: RigName;
  readonly seconds: number;
  /** Time between looks. */
  readonly intervalSeconds: number;
  /** Where the CSV, the picture and the load's JSON go. */
  readonly outFolder: string;
  readonly concurrency: number;
  /** Requests per second; 0: as many as the concurrency gives. */
  readonly rate: number;
  /**
   * Bound on each process's JavaScript heap; 0: V8's own, by the machine's memory. V8 lets garbage lie while
   * there is room, longer than a short soak lasts; with little room, what stays is what is really kept.
   */
  readonly heapMib: number;
  /** Models whose weights matter. */
  readonly heavyModels: number;
  readonly print: (line: string) => void;
}

export interface SoakResult {
  readonly isGood: boolean;
  /** One line per finding. */
  readonly findings: readonly string[];
  readonly csvFile: string;
  readonly pictureFile: string;
}

/**
 * Growth over the measured time that is no leak. What is always allowed is less than a leak of 1 MiB (or one
 * descriptor, one handle or one thread) a minute comes to in a soak of ten; a leak is found when it goes on
 * in the later half, which takes 2 MiB a minute where memory is given back meanwhile. Besides, a heap may grow to half
 * its bound, where V8 first looks for what is garbage in all of it.
 *
 * Left out of resident memory is what is judged by itself, or bounded: the pages of heaps, which V8 takes in
 * whole steps and keeps for a while when they are empty; pages of shared memory, since a model that moves
 * to another worker has its weights counted there too; and what a CPU worker has as its device's memory.
 */
const RESIDENT = { always: 4, settling: 64, unit: "MiB" };
/** Per process: the young generation, which V8 lets grow to three times 16 MiB while there is much to do. */
const HEAP_PAGES = { always: 48, settling: 64, unit: "MiB" };
const HOOK_HEAPS = { always: 4, settling: 64, unit: "MiB" };
const THREADS = { always: 3, settling: 21, unit: "threads" };
const HEAP = { always: 2, unit: "MiB" };
const DESCRIPTORS = { always: 3, settling: 21, unit: "open" };
const HANDLES = { always: 3, settling: 21, unit: "alive" };
const DEVICE = { always: 3, settling: 4, unit: "MiB" };
/** A load generator has one; others come and go with what else runs on the machine. */
const OBJECTS = { always: 3, settling: 3, unit: "objects" };
/** Of a heap without a bound: what a short soak may see of its growth. */
const UNBOUNDED_HEAP_MIB = 512;

/** Without any answer for so long, a node hangs; a busy machine alone does not take that long. */
const STALL_SECONDS = 120;

/** Part of the time that is not judged, and its bound. */
const WARM_UP_SHARE = 1 / 3;
const WARM_UP_AT_MOST_SECONDS = 120;

/** Runs one rig from start to judgement. */
export async function runSoak(options: SoakOptions): Promise<SoakResult> {
  const { rig: name, seconds, outFolder, heavyModels, heapMib, print } = options;
  const rig = RIGS[name];
  print(`${name}: ${rig.title}; ${seconds} s`);
  const folder = await Deno.makeTempDir({ prefix: "soak-" });
  try {
    const modelRepo = join(folder, "models");
    await Deno.mkdir(modelRepo);
    await writeSoakModels(modelRepo, heavyModels);
    await Deno.mkdir(outFolder, { recursive: true });
    await using node = await startNode({
      folder,
      modelRepo,
      workers: rig.workers,
      global: rig.global(heavyModels),
      env: {
        ...rig.env(seconds),
        ...(heapMib > 0 ? { DENO_V8_FLAGS: `--max-old-space-size=${heapMib}` } : {}),
      },
    });
    const csvFile = join(outFolder, `${name}.csv`);
    const { readings, loadCode } = await underLoad(node, csvFile, options);
    // Whoever is started again has given back what it kept, and shows no growth.
    const restarts = (await Deno.readTextFile(node.logFile)).match(/ exited \(code=/g)?.length ?? 0;
    const nodeCode = await node.stop();
    await Deno.copyFile(node.logFile, join(outFolder, `${name}.log`));
    const warmUp = Math.min(WARM_UP_AT_MOST_SECONDS, seconds * WARM_UP_SHARE);
    const pictureFile = join(outFolder, `${name}.svg`);
    if (readings.length > 1) {
      await Deno.writeTextFile(pictureFile, drawSoak(`Soak: ${rig.title}`, readings, warmUp));
    }
    return {
      ...judge({ ...rig, processes: processesOf(rig.workers), heapMib }, {
        readings,
        warmUp,
        loadCode,
        nodeCode,
        restarts,
      }),
      csvFile,
      pictureFile,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Loads the node for the time, looking at it all the while; readings are on disk as soon as they are made. */
async function underLoad(
  node: SoakNode,
  csvFile: string,
  options: SoakOptions,
): Promise<{ readings: Look[]; loadCode: number }> {
  const { rig, seconds, intervalSeconds, concurrency, rate, outFolder, print } = options;
  const reportSeconds = Math.max(5, Math.min(30, seconds / 6));
  const load = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "loadgen"],
      ...["--gateway", `127.0.0.1:${node.grpcPort}`],
      ...["--metrics", `http://127.0.0.1:${node.httpPort}/metrics`],
      ...["--duration-seconds", String(seconds), "--concurrency", String(concurrency)],
      ...["--rate", String(rate)],
      ...["--report-seconds", String(reportSeconds)],
      ...["--stall-windows", String(Math.ceil(STALL_SECONDS / reportSeconds))],
      ...["--transport", "mixed", "--batch-mode", "rows", "--data", "random", "--expect", "equal"],
      // On a machine that is busy with something else, an answer may take its time.
      ...["--deadline-seconds", "60", "--json", join(outFolder, `${rig}.json`)],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let isLoaded = true;
  const printing = (async () => {
    const lines = load.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream());
    for await (const line of lines) print(`${rig}: ${line}`);
  })();
  const ended = load.status.then(({ code }) => {
    isLoaded = false;
    return code;
  });
  using csv = await Deno.open(csvFile, { create: true, write: true, truncate: true });
  const write = (line: string) => csv.writeSync(new TextEncoder().encode(`${line}\n`));
  write(COLUMNS.join(","));
  const monitor = new Monitor({
    httpPort: node.httpPort,
    supervisorPid: node.pid,
    workers: RIGS[rig].workers,
    processes: processesOf(RIGS[rig].workers),
  });
  const readings: Look[] = [];
  for (let nextMs = performance.now(); isLoaded; nextMs += intervalSeconds * 1000) {
    const reading = await monitor.look();
    if (reading) {
      readings.push(reading);
      write(csvLine(reading));
    }
    const waitMs = Math.max(0, nextMs + intervalSeconds * 1000 - performance.now());
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, waitMs);
    await Promise.race([promise, ended]);
    clearTimeout(timer);
  }
  await printing;
  return { readings, loadCode: await ended };
}

/** Workers, and a gateway in front of several. */
function processesOf(workers: number): number {
  return workers + (workers > 1 ? 1 : 0);
}

/** What the judgement has to know of the rig. */
export interface Judged {
  readonly isOversubscribed: boolean;
  /** With a JavaScript heap that the metrics show: workers and gateway. */
  readonly processes: number;
  /** 0: unbounded. */
  readonly heapMib: number;
}

interface Evidence {
  readonly readings: readonly Look[];
  /** Seconds at the start that do not count. */
  readonly warmUp: number;
  readonly loadCode: number;
  readonly nodeCode: number;
  /** Processes that ended by themselves. */
  readonly restarts: number;
}

/** What the readings say. Exported for its test. */
export function judge(
  rig: Judged,
  { readings, warmUp, loadCode, nodeCode, restarts }: Evidence,
): Pick<SoakResult, "isGood" | "findings"> {
  const start = readings.length === 0 ? 0 : secondsOf(readings[0]!);
  const judged = readings.filter((reading) => secondsOf(reading) - start >= warmUp);
  const pointsOf = (value: (look: Look) => number | undefined): Point[] =>
    judged.flatMap((look) => {
      const found = value(look);
      return found === undefined ? [] : [{ seconds: secondsOf(look) - start, value: found }];
    });
  const growth = (name: string, allowance: Allowance, value: (look: Look) => number): Judgement =>
    judgeGrowth(name, pointsOf(value), allowance);
  const halfBound = (rig.heapMib > 0 ? rig.heapMib : UNBOUNDED_HEAP_MIB) / 2;
  const processes = new Set(judged.flatMap(({ heaps }) => [...heaps.keys()]));
  const heaps = Array.from(processes, (labels) => {
    const points = pointsOf(({ heaps }) => heaps.get(labels));
    const always = Math.max(HEAP.always, halfBound - points[0]!.value);
    return judgeGrowth(`JavaScript heap ${labels}`, points, {
      ...HEAP,
      always,
      settling: halfBound,
    });
  });
  const growths = [
    growth(
      "resident memory beside heaps, shared pages and weights",
      { ...RESIDENT, settling: rig.processes * RESIDENT.settling },
      (look) => look.worker_mem - look.heap_pages_mib - look.shared_mib - look.pool_mib,
    ),
    growth(
      "pages of heaps",
      {
        ...HEAP_PAGES,
        always: rig.processes * HEAP_PAGES.always,
        settling: rig.processes * HEAP_PAGES.settling,
      },
      (look) => look.heap_pages_mib,
    ),
    ...heaps,
    growth("heaps of hook threads", HOOK_HEAPS, ({ hook_heap_mib }) => hook_heap_mib),
    growth("threads", THREADS, ({ threads }) => threads),
    growth("descriptors", DESCRIPTORS, ({ open_fds }) => open_fds),
    growth("native handles", HANDLES, ({ native_handles }) => native_handles),
    growth("device memory", DEVICE, ({ gpu_mem_used_mib }) => gpu_mem_used_mib),
    growth("shared-memory objects", OBJECTS, ({ shm_regions }) => shm_regions),
  ];
  const evicted = (judged.at(-1)?.weight_evicts ?? 0) - (judged[0]?.weight_evicts ?? 0);
  const evictsAsMeant = judged.length > 1 && (evicted > 0) === rig.isOversubscribed;
  const answered = (judged.at(-1)?.requests ?? 0) - (judged[0]?.requests ?? 0);
  const checks: readonly (readonly [boolean, string])[] = [
    [judged.length > 1, `${readings.length} readings, ${judged.length} after the warm-up`],
    [answered > 0, `${answered} requests answered after the warm-up`],
    ...growths.map(({ isLeak, text }) => [!isLeak, text] as const),
    [
      evictsAsMeant,
      `weights evicted after the warm-up: ${evicted}; ` +
      (rig.isOversubscribed ? "some have to be" : "none may be: all models fit"),
    ],
    [loadCode === 0, `the load generator ended with ${loadCode}`],
    [restarts === 0, `${restarts} processes of the node ended by themselves`],
    [nodeCode === 0, `the node ended with ${nodeCode}`],
  ];
  return {
    isGood: checks.every(([isGood]) => isGood),
    findings: checks.map(([isGood, text]) => `${isGood ? "ok  " : "FAIL"} ${text}`),
  };
}

function secondsOf({ iso_time }: Look): number {
  return Date.parse(iso_time) / 1000;
}

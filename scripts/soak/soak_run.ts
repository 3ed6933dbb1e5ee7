/** One rig's soak: node, load and monitor side by side, then the judgement. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TextLineStream } from "../../tests/harness/lines.ts";
import { writeSoakModels } from "./models.ts";
import { COLUMNS, csvLine, Monitor, type Reading } from "./monitor.ts";
import { type SoakNode, startNode } from "./node.ts";
import { drawSoak } from "./picture.ts";
import { type RigName, RIGS } from "./rigs.ts";
import { judgeGrowth, type Point } from "./trend.ts";

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
 * Growth over the measured time that is no leak. A heap may grow to half its bound after the warm-up and stay
 * there, which counts the less the longer a soak takes; descriptors and handles have no such excuse.
 */
const MEMORY_ALLOWANCE_MIB = 64;
/** Of a heap without a bound: what a short soak may see of its growth. */
const UNBOUNDED_HEAP_MIB = 512;
const DESCRIPTORS_ALLOWED = 24;
const HANDLES_ALLOWED = 24;
const DEVICE_ALLOWANCE_MIB = 4;

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
    const nodeCode = await node.stop();
    await Deno.copyFile(node.logFile, join(outFolder, `${name}.log`));
    const warmUp = Math.min(WARM_UP_AT_MOST_SECONDS, seconds * WARM_UP_SHARE);
    const pictureFile = join(outFolder, `${name}.svg`);
    if (readings.length > 1) {
      await Deno.writeTextFile(pictureFile, drawSoak(`Soak: ${rig.title}`, readings, warmUp));
    }
    return {
      ...judge({ ...rig, processes: rig.workers + (rig.workers > 1 ? 1 : 0), heapMib }, {
        readings,
        warmUp,
        loadCode,
        nodeCode,
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
): Promise<{ readings: Reading[]; loadCode: number }> {
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
  });
  const readings: Reading[] = [];
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

/** What the judgement has to know of the rig. */
export interface Judged {
  readonly isOversubscribed: boolean;
  /** With a JavaScript heap that the metrics show: workers and gateway. */
  readonly processes: number;
  /** 0: unbounded. */
  readonly heapMib: number;
}

interface Evidence {
  readonly readings: readonly Reading[];
  /** Seconds at the start that do not count. */
  readonly warmUp: number;
  readonly loadCode: number;
  readonly nodeCode: number;
}

/** What the readings say. Exported for its test. */
export function judge(
  rig: Judged,
  { readings, warmUp, loadCode, nodeCode }: Evidence,
): Pick<SoakResult, "isGood" | "findings"> {
  const start = readings.length === 0 ? 0 : secondsOf(readings[0]!);
  const judged = readings.filter((reading) => secondsOf(reading) - start >= warmUp);
  const points = (value: (reading: Reading) => number): Point[] =>
    judged.map((reading) => ({ seconds: secondsOf(reading) - start, value: value(reading) }));
  const heapMib = rig.heapMib > 0 ? rig.heapMib : UNBOUNDED_HEAP_MIB;
  const heapAllowance = rig.processes * heapMib / 2;
  const growths = [
    judgeGrowth("resident memory", points(({ worker_mem }) => worker_mem), {
      allowance: MEMORY_ALLOWANCE_MIB + heapAllowance,
      unit: "MiB",
    }),
    judgeGrowth("JavaScript heaps", points(({ heap_mib }) => heap_mib), {
      allowance: heapAllowance,
      unit: "MiB",
    }),
    judgeGrowth("descriptors", points(({ open_fds }) => open_fds), {
      allowance: DESCRIPTORS_ALLOWED,
      unit: "open",
    }),
    judgeGrowth("native handles", points(({ native_handles }) => native_handles), {
      allowance: HANDLES_ALLOWED,
      unit: "alive",
    }),
    judgeGrowth("device memory", points(({ gpu_mem_used_mib }) => gpu_mem_used_mib), {
      allowance: DEVICE_ALLOWANCE_MIB,
      unit: "MiB",
    }),
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
    [nodeCode === 0, `the node ended with ${nodeCode}`],
  ];
  return {
    isGood: checks.every(([isGood]) => isGood),
    findings: checks.map(([isGood, text]) => `${isGood ? "ok  " : "FAIL"} ${text}`),
  };
}

function secondsOf({ iso_time }: Reading): number {
  return Date.parse(iso_time) / 1000;
}

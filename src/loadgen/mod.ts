/**
 * The load generator: sends requests to a server or gateway for a time, in a closed or an open loop, over
 * the wire or through shared memory, and reports what became of them. It is a client like any other: it
 * knows shapes from the server's metadata or from bundles, and nothing of how a server works.
 */

import type { ServerConnection } from "../client/mod.ts";
import { ConfigError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { AnswerCheck } from "./answer_check.ts";
import { type Asker, LocalAsker } from "./asker.ts";
import { discoverInRepository, discoverOnWire, type Discovery } from "./discover.ts";
import { type PreparedRequest, prepareRequests } from "./load_model.ts";
import { isRamp, LoadRun } from "./load_run.ts";
import { LoadThreads } from "./load_threads.ts";
import { type Choice, Picker } from "./picker.ts";
import { Random } from "./random.ts";
import { resultAsJson, summaryLines } from "./report.ts";
import { scrapeCounters } from "./scrape.ts";
import { systemClock } from "./system_clock.ts";
import { connect, openWays } from "./ways.ts";
import type { LoadgenSettings } from "./settings.ts";
import { LOADGEN_EXIT } from "./verdict.ts";

export { type ProbeOptions, runProbe } from "./probe.ts";
export {
  LOADGEN_SETTINGS,
  type LoadgenSettings,
  readSettings,
  type Setting,
  type SettingSources,
} from "./settings.ts";
export { LOADGEN_EXIT } from "./verdict.ts";

/** What a run needs from whoever starts it. */
export interface LoadgenContext {
  /** Receives every line for people. */
  readonly print: (line: string) => void;
  /** Shows the live line; without it there is none. */
  readonly showProgress?: (line: string) => void;
  /** Ends the load early, as if its time were over; what is in flight is not waited for long. */
  readonly stop: AbortSignal;
  /** Ends it without waiting for anything. */
  readonly abandon?: AbortSignal;
  readonly logger: Logger;
}

/** How a run went. */
export interface LoadgenOutcome {
  readonly exitCode: number;
  /** Everything that was counted, for machines. */
  readonly json: Record<string, unknown>;
}

/** Where bundles lie in a container. */
export const DEFAULT_REPOSITORY = "/var/lib/reactantserver/models";
const METRICS_PORT = 8002;

/**
 * Runs a load from start to verdict.
 * @throws {ConfigError | InvalidArgumentError} when the settings cannot work here
 * @throws {ServerError} when the server cannot be asked for its models
 */
export async function runLoadgen(
  settings: LoadgenSettings,
  { print, showProgress, stop, abandon, logger }: LoadgenContext,
): Promise<LoadgenOutcome> {
  checkMetricsUrl(settings);
  const inFlight = isRamp(settings) ? settings.rampMax : settings.concurrency;
  await using connection = connect(settings, inFlight);
  const { models, skipped } = await discover(settings, connection, stop);
  const random = new Random(settings.seed);
  const { batchMode } = settings;
  const choices: Choice[] = models.map((model) => ({
    weight: model.weight,
    requests: prepareRequests(model, {
      data: settings.data,
      usesGolden: settings.expect === "golden",
      usesSizes: batchMode === "rows" || batchMode === "both",
    }, random),
  }));
  const requests = choices.flatMap((choice) => choice.requests);
  describeStart(settings, requests, { models, skipped }, print);
  if (requests.length === 0) {
    const verdict = "NO MODEL: there is nothing to load";
    print(`loadgen: ${verdict}`);
    return {
      exitCode: LOADGEN_EXIT.noModel,
      json: { exit_code: LOADGEN_EXIT.noModel, verdict, skipped },
    };
  }
  await using asker = await openAsker({ settings, connection, requests, inFlight, logger });
  const metricsUrl = metricsUrlOf(settings, connection);
  const run = new LoadRun({
    settings,
    requests,
    skipped,
    picker: new Picker({
      choices,
      sweepEvery: settings.sweepEvery,
      burst: batchMode === "burst" || batchMode === "both" ? settings.burstK : 1,
      random,
    }),
    asker,
    scrape: metricsUrl === undefined ? undefined : (signal) => scrapeCounters(metricsUrl, signal),
    clock: systemClock,
    print,
    showProgress,
    stop,
    abandon,
  });
  const result = await run.run();
  for (const line of summaryLines(result)) print(line);
  return { exitCode: result.code, json: resultAsJson(result, settings) };
}

async function discover(
  settings: LoadgenSettings,
  { inference, url }: ServerConnection,
  signal: AbortSignal,
): Promise<Discovery> {
  const options = {
    wanted: settings.models,
    skipsInternal: settings.skipInternal,
    readsGolden: settings.expect === "golden",
    signal,
  };
  if (settings.modelRepo !== "") return await discoverInRepository(settings.modelRepo, options);
  if (settings.expect === "golden") {
    throw new ConfigError("--expect golden needs --model-repo: goldens lie in the bundles");
  }
  const discovery = await discoverOnWire(inference, options);
  if (discovery !== undefined) return discovery;
  const isThere = await Deno.stat(DEFAULT_REPOSITORY).then((info) => info.isDirectory, () => false);
  if (isThere) return await discoverInRepository(DEFAULT_REPOSITORY, options);
  throw new ConfigError(
    `${url} does not say which models it has, and there are no bundles in ${DEFAULT_REPOSITORY}: ` +
      "give their folder with --model-repo",
  );
}

/** Whoever sends the load: this thread, or several. */
async function openAsker(
  { settings, connection, requests, inFlight, logger }: {
    readonly settings: LoadgenSettings;
    readonly connection: ServerConnection;
    readonly requests: readonly PreparedRequest[];
    readonly inFlight: number;
    readonly logger: Logger;
  },
): Promise<Asker & AsyncDisposable> {
  if (settings.threads > 1) return await LoadThreads.open({ settings, requests, inFlight, logger });
  const ways = openWays({ settings, connection, requests, inFlight, logger });
  const check = new AnswerCheck(settings.expect, settings.tolerance);
  const asker = new LocalAsker({ senders: ways.senders, check, now: systemClock.now });
  return {
    ways: asker.ways,
    ask: (request, way, limits) => asker.ask(request, way, limits),
    [Symbol.asyncDispose]: () => ways[Symbol.asyncDispose](),
  };
}

/** A page that cannot even be asked for would show as one that never answers. @throws {ConfigError} */
function checkMetricsUrl({ metrics }: LoadgenSettings): void {
  if (metrics === "" || metrics === "off") return;
  const protocol = URL.parse(metrics)?.protocol;
  if (protocol === "http:" || protocol === "https:") return;
  throw new ConfigError(
    `--metrics must be an http:// or https:// address, or off, got ${JSON.stringify(metrics)}`,
  );
}

function metricsUrlOf(settings: LoadgenSettings, { host }: ServerConnection): string | undefined {
  if (settings.metrics === "off" || (settings.metrics === "" && host === "")) return undefined;
  if (settings.metrics !== "") return settings.metrics;
  return `http://${host.includes(":") ? `[${host}]` : host}:${METRICS_PORT}/metrics`;
}

function describeStart(
  settings: LoadgenSettings,
  requests: readonly PreparedRequest[],
  { models, skipped }: Discovery,
  print: (line: string) => void,
): void {
  const { rate, concurrency, rampStart, rampMax, threads } = settings;
  const shape = isRamp(settings)
    ? `ramp from ${rampStart} to ${rampMax} in flight`
    : rate > 0
    ? `open loop, ${rate} requests/s (${settings.arrivals}), ${concurrency} in flight at most`
    : `closed loop, ${concurrency} in flight`;
  print(
    `loadgen: ${settings.gateway}, ${shape}, ${settings.transport}, ` +
      (threads > 1 ? `${threads} threads, ` : "") +
      `${settings.durationSeconds} s, ${models.length} models, ${requests.length} requests prepared`,
  );
  for (const { name, reason } of skipped) print(`skipping ${name}: ${reason}`);
}

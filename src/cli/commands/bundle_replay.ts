/** Sends a meta model the request it has recorded, on a worker of its own, and compares the answer. */
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GOLDEN_FILE, GoldenFile, MANIFEST_FILE, type MetaBundle } from "../../bundle/mod.ts";
import { ServerConnection } from "../../client/mod.ts";
import type { Origins, ServerConfig } from "../../config/mod.ts";
import { ServerError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { ChildAddresses, ChildState, ParentLink } from "../../parent_link.ts";
import { compareOutput, printHead } from "./bundle_validate.ts";

/** What a worker for the replay is made from. */
export interface ReplayOptions {
  readonly config: ServerConfig;
  readonly origins: Origins;
  readonly logger: Logger;
  readonly print: (line: string) => void;
}

/** For the request: hooks and models have been loaded by then. */
const REQUEST_LIMIT_MS = 300_000;

/**
 * Checks a meta model: prints one line per output of its golden request. The models it calls are those beside
 * it; where one is missing nothing is run, which is said and no failure. `false` when anything is wrong.
 * The device must be free: the worker opens it.
 */
export async function validateMeta(bundle: MetaBundle, options: ReplayOptions): Promise<boolean> {
  const { print } = options;
  await printHead(bundle, print);
  print("  ok    a meta model has nothing to compile");
  using golden = GoldenFile.open(bundle);
  const recorded = golden?.request();
  if (golden === undefined || recorded === undefined) {
    print(`  note  no ${GOLDEN_FILE}: it is not run`);
    return true;
  }
  const missing = await missingCalls(bundle);
  if (missing.length > 0) {
    print(`  note  ${GOLDEN_FILE} is not replayed: there is no ${missing.join(", ")} beside it`);
    return true;
  }
  await using worker = await startWorker(bundle, options);
  await using connection = new ServerConnection({ url: worker.address });
  try {
    const { outputs } = await connection.inference.infer(
      { modelName: bundle.name, inputs: recorded.inputs },
      { deadlineMs: performance.now() + REQUEST_LIMIT_MS },
    );
    let isGood = true;
    for (const expected of recorded.outputs) {
      // The worker has checked that outputs are there and of their datatypes.
      const found = outputs.find(({ name }) => name === expected.name)!;
      isGood = compareOutput("output", expected, found, golden.tolerance, print) && isGood;
    }
    return isGood;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    print(`  FAIL  the golden request ended ${error.status}: ${error.message}`);
    return false;
  }
}

/** Models it calls that are not beside it, quoted. */
async function missingCalls({ directory, manifest }: MetaBundle): Promise<string[]> {
  const missing: string[] = [];
  for (const name of manifest.calls) {
    const file = join(dirname(directory), name, MANIFEST_FILE);
    const isThere = await stat(file).then(() => true, () => false);
    if (!isThere) missing.push(JSON.stringify(name));
  }
  return missing;
}

/** A worker in this process, on a free port of the loopback interface; disposing ends it and waits. */
async function startWorker(
  { name, directory, manifest }: MetaBundle,
  { config, origins, logger }: ReplayOptions,
): Promise<{ readonly address: string } & AsyncDisposable> {
  // Only for those who have something to replay: a worker is most of the program.
  const { runWorker } = await import("../../worker/mod.ts");
  const link = new WorkerWatch();
  const running = runWorker({
    workerName: "replay",
    config: {
      ...config,
      modelDirs: [dirname(directory)],
      modelsInclude: [name, ...manifest.calls],
      modelControlMode: "static",
      endpoints: {
        ...config.endpoints,
        host: "127.0.0.1",
        port: 0,
        metricsPort: 0,
        tlsCert: "",
        tlsKey: "",
        tlsClientCa: "",
      },
    },
    origins,
    logger,
    link,
  });
  // To a supervised worker an interrupt is its supervisor's affair.
  const interrupted = () => link[Symbol.dispose]();
  Deno.addSignalListener("SIGINT", interrupted);
  const stop = async () => {
    link[Symbol.dispose]();
    try {
      await running;
    } finally {
      Deno.removeSignalListener("SIGINT", interrupted);
    }
  };
  const ended = running.then((): string => {
    throw new Error("the worker was stopped before it was ready");
  });
  try {
    const address = await Promise.race([link.loaded, ended]);
    ended.catch(() => {
      // It ends when it is told to.
    });
    return { address, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Stands in for a supervisor. */
class WorkerWatch implements ParentLink {
  readonly #loaded = Promise.withResolvers<string>();
  readonly #closed = Promise.withResolvers<void>();
  #address = "";

  /** The address, once every model is loaded or has failed. */
  get loaded(): Promise<string> {
    return this.#loaded.promise;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  report(state: ChildState, { grpc }: ChildAddresses = {}): void {
    this.#address = grpc ?? this.#address;
    if (state === "ready" || state === "unready") this.#loaded.resolve(this.#address);
  }

  [Symbol.dispose](): void {
    this.#closed.resolve();
  }
}

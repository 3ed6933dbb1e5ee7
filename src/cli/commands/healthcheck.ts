import { ServerConnection } from "../../client/mod.ts";
import { directClient } from "../../direct_http.ts";
import { ConfigError, messageOf } from "../../errors.ts";
import { type Command, EXIT } from "../command.ts";
import { configFlags, NODE_FLAGS } from "../config_flags.ts";
import { lastValue } from "../flags.ts";
import { findProbeTargets, type ProbeTarget } from "../probe_targets.ts";

const DEFAULT_TIMEOUT_SECONDS = 5;

/** Probes a running node; made for container health checks. */
export const command: Command = {
  name: "healthcheck",
  usage: "healthcheck [flags]",
  summary: "Asks the server that these settings describe whether it is ready; 0 means yes.",
  details:
    "Role all and gateway: /readyz of the public HTTP port. Role workers, or with a worker's " +
    "name: ServerReady of the workers, all at once; one that is ready is enough. A node that is " +
    "running is found through the node file that its supervisor has written (--runtime-dir).",
  flags: [
    {
      name: "url",
      kind: "value",
      placeholder: "URL",
      help: "probe this address instead, for example http://localhost:8002/readyz",
    },
    {
      name: "timeout-seconds",
      kind: "value",
      placeholder: "N",
      help: "how long to wait for the answers",
      default: String(DEFAULT_TIMEOUT_SECONDS),
    },
    ...configFlags("endpoints"),
    ...NODE_FLAGS.filter(({ name }) => ["role", "runtime-dir", "gateway-file"].includes(name)),
  ],
  async run(flags, output) {
    const limitMs = timeoutMs(lastValue(flags, "timeout-seconds"));
    const url = lastValue(flags, "url");
    const targets: readonly ProbeTarget[] = url === undefined
      ? findProbeTargets({ flags: flags.values, environment: Deno.env.toObject() })
      : [{ kind: "http", url }];
    const results = targets.map(async (target) => {
      const problem = await probe(target, limitMs);
      if (problem !== undefined) throw new Error(problem);
      return target.url;
    });
    try {
      output.print(`ready (${await Promise.any(results)})`);
      return EXIT.ok;
    } catch (error) {
      for (const problem of (error as AggregateError).errors) {
        output.complain(`not ready: ${messageOf(problem)}`);
      }
      return EXIT.failure;
    }
  },
};

/** What keeps a target from being ready; `undefined` when nothing does. */
async function probe(target: ProbeTarget, limitMs: number): Promise<string | undefined> {
  try {
    if (target.kind === "grpc") {
      await using connection = new ServerConnection({ url: target.url });
      const deadlineMs = performance.now() + limitMs;
      const isReady = await connection.inference.serverReady({ deadlineMs });
      return isReady ? undefined : `${target.url} is loading`;
    }
    using client = directClient(target.url);
    const signal = AbortSignal.timeout(limitMs);
    const response = await fetch(target.url, { client, signal });
    const body = (await response.text()).trim();
    if (response.ok) return undefined;
    return `${target.url} answered ${response.status}: ${body.slice(0, 200)}`;
  } catch (error) {
    return `${target.url}: ${messageOf(error)}`;
  }
}

function timeoutMs(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TIMEOUT_SECONDS * 1000;
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 600) return seconds * 1000;
  throw new ConfigError(
    `--timeout-seconds must be a number above 0 and at most 600, got ${JSON.stringify(text)}`,
  );
}

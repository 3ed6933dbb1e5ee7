import { ConfigError, messageOf } from "../../errors.ts";
import { type Command, EXIT } from "../command.ts";
import { configFlags, configFrom } from "../config_flags.ts";
import { lastValue, type ParsedFlags } from "../flags.ts";

const DEFAULT_TIMEOUT_SECONDS = 3;

/** Probes `/readyz` of a running server; made for container health checks. */
export const command: Command = {
  name: "healthcheck",
  usage: "healthcheck [flags]",
  summary: "Asks the server that these settings describe whether it is ready; 0 means yes.",
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
      help: "how long to wait for the answer",
      default: String(DEFAULT_TIMEOUT_SECONDS),
    },
    ...configFlags("endpoints"),
  ],
  async run(flags, output) {
    const url = lastValue(flags, "url") ?? readinessUrl(flags);
    const signal = AbortSignal.timeout(timeoutMs(lastValue(flags, "timeout-seconds")));
    try {
      const response = await fetch(url, { signal });
      const body = (await response.text()).trim();
      if (response.ok) {
        output.print(`ready (${url})`);
        return EXIT.ok;
      }
      output.complain(`not ready: ${url} answered ${response.status}: ${body.slice(0, 200)}`);
    } catch (error) {
      output.complain(`not ready: ${url}: ${messageOf(error)}`);
    }
    return EXIT.failure;
  },
};

function readinessUrl(flags: ParsedFlags): string {
  const { host, metricsPort } = configFrom(flags).config.endpoints;
  if (metricsPort === 0) {
    throw new ConfigError(
      "There is no HTTP listener to probe: endpoints.metrics_port is 0; give --url or --metrics-port",
    );
  }
  // A listener on "any address" is reached through the loopback one.
  const address = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${address.includes(":") ? `[${address}]` : address}:${metricsPort}/readyz`;
}

function timeoutMs(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TIMEOUT_SECONDS * 1000;
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 600) return seconds * 1000;
  throw new ConfigError(
    `--timeout-seconds must be a number above 0 and at most 600, got ${JSON.stringify(text)}`,
  );
}

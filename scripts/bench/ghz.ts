/** ghz (github.com/bojand/ghz), the load generator of the figures this server is compared with. */

import { fileURLToPath } from "node:url";
import { runTool } from "../../tests/conformance/grpc_interop/tools.ts";
import { goTool, lacksGoTool } from "../../tests/harness/go_tools.ts";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));

/** Whether ghz is built or can be. */
export function hasGhz(): boolean {
  return lacksGoTool("ghz") === undefined;
}

export interface GhzOptions {
  readonly port: number;
  /** File with one encoded ModelInferRequest. */
  readonly message: string;
  readonly inFlight: number;
  readonly requests: number;
}

export interface GhzFigures {
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Sends one request many times over one connection. Throws when any call fails. */
export async function runGhz(options: GhzOptions): Promise<GhzFigures> {
  const { stdout, stderr } = await runTool(await goTool("ghz"), [
    ...["--insecure", "--import-paths", PROTO, "--proto", "inference/grpc_service.proto"],
    ...["--call", "inference.GRPCInferenceService/ModelInfer", "-B", options.message],
    ...["-n", `${options.requests}`, "-c", `${options.inFlight}`, "--format", "json"],
    `127.0.0.1:${options.port}`,
  ]);
  const report = JSON.parse(stdout || "{}");
  if (report.statusCodeDistribution?.OK !== options.requests) {
    throw new Error(`ghz: ${JSON.stringify(report.statusCodeDistribution)} ${stderr}`);
  }
  // Nanoseconds.
  const at = (percentage: number): number =>
    report.latencyDistribution.find((entry: { percentage: number }) =>
      entry.percentage === percentage
    ).latency / 1000;
  return { perSecond: report.rps, p50Us: at(50), p99Us: at(99) };
}

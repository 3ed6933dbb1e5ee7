import { ConfigError } from "../../errors.ts";
import { machineProbes, type NodePlan, planNode, processorLimits } from "../../supervisor/mod.ts";
import { type Command, EXIT } from "../command.ts";
import { CONFIG_FLAGS, configFrom, NODE_FLAGS } from "../config_flags.ts";
import { isOn, lastValue, type ParsedFlags } from "../flags.ts";
import { type Setting, settingsOf } from "../settings.ts";
import { type LoadedConfig, validateSettings } from "../../config/mod.ts";

/** Shows the configuration that `serve` would use with the same flags, variables and files. */
export const command: Command = {
  name: "config",
  usage: "config print [flags]",
  summary: "Prints every setting, its value and where the value comes from; starts nothing.",
  details: "First the node: role, devices and processes, as `serve` would start them; then every " +
    "worker's settings. With --worker-name or --role worker: that worker alone, without looking for " +
    "devices. Settings that `serve` would refuse are printed all the same, then named, with exit code 2; " +
    "folders and plugins are not looked for.",
  flags: [
    { name: "json", kind: "switch", help: "print one JSON object" },
    ...CONFIG_FLAGS,
    ...NODE_FLAGS,
  ],
  async run(flags, output) {
    const [action, ...rest] = flags.positionals;
    if (action !== "print" || rest.length > 0) {
      throw new ConfigError("config takes one action: config print");
    }
    const plan = isForWorker(flags) ? undefined : await planNode({
      flags: flags.values,
      environment: Deno.env.toObject(),
      probes: machineProbes,
      limits: processorLimits(),
      writeNodeFile: () => lastValue(flags, "node-file") ?? "(nowhere: nothing is started)",
      isDryRun: true,
    });
    const workers = plan === undefined
      ? [configFrom(flags)]
      : plan.workers.map(({ loaded }) => loaded);
    const warnings = new Set([
      ...(plan?.node?.node.warnings ?? []),
      ...workers.flatMap((worker) => worker.warnings),
    ]);
    for (const warning of warnings) output.complain(`warning: ${warning}`);
    if (isOn(flags, "json")) output.print(JSON.stringify(asJson(plan, workers), null, 2));
    else printAll(plan, workers, output.print);
    // Last, so that the operator sees where the values come from that are refused.
    for (const { config, origins } of workers) validateSettings(config, origins);
    return EXIT.ok;
  },
};

function isForWorker(flags: ParsedFlags): boolean {
  return lastValue(flags, "worker-name") !== undefined ||
    lastValue(flags, "role")?.trim().toLowerCase() === "worker";
}

/** One object: the node, and the settings of its worker or of each of its workers. */
function asJson(plan: NodePlan | undefined, workers: readonly LoadedConfig[]): object {
  const described = workers.map(({ workerName, config, origins }) => ({
    worker: workerName,
    settings: Object.fromEntries(
      settingsOf(config, origins).map(({ path, value, origin }) => [path, { value, ...origin }]),
    ),
  }));
  return {
    ...(plan === undefined ? {} : { node: describeNode(plan) }),
    ...(described.length === 1 ? described[0] : { workers: described }),
  };
}

function describeNode(plan: NodePlan): object {
  return {
    role: plan.role,
    notes: plan.notes.map(({ text }) => text),
    workers: plan.workers.map(({ name, device, threads, loaded: { config } }) => ({
      name,
      device: device ?? null,
      threads,
      cores: config.runtime.workerCores,
      host: config.endpoints.host,
      port: config.endpoints.port,
      metrics_port: config.endpoints.metricsPort,
    })),
    gateway: plan.gateway === undefined ? null : plan.gateway.config.listen,
  };
}

function printAll(
  plan: NodePlan | undefined,
  workers: readonly LoadedConfig[],
  print: (line: string) => void,
): void {
  for (const { level, text } of plan?.notes ?? []) {
    print(`# ${level === "warn" ? "warning: " : ""}${text}`);
  }
  for (const { workerName, config, origins } of workers) {
    if (plan !== undefined) print(`# ${workerName}`);
    printTable(settingsOf(config, origins), print);
  }
}

function printTable(settings: readonly Setting[], print: (line: string) => void): void {
  const rows = settings.map(({ path, value, origin }) => [
    path,
    JSON.stringify(value),
    origin.source === "default" ? "default" : `${origin.source} ${origin.name}`,
  ]);
  const width = (column: number) => Math.max(...rows.map((row) => row[column]!.length));
  const [pathWidth, valueWidth] = [width(0), Math.min(width(1), 40)];
  for (const [path, value, origin] of rows) {
    print(`${path!.padEnd(pathWidth)}  ${value!.padEnd(valueWidth)}  ${origin}`);
  }
}

import { ConfigError } from "../../errors.ts";
import { type Command, EXIT } from "../command.ts";
import { CONFIG_FLAGS, configFrom } from "../config_flags.ts";
import { isOn } from "../flags.ts";
import { type Setting, settingsOf } from "../settings.ts";

/** Shows the configuration that `serve` would use with the same flags, variables and node file. */
export const command: Command = {
  name: "config",
  usage: "config print [flags]",
  summary: "Prints every setting, its value and where the value comes from; starts nothing.",
  flags: [
    { name: "json", kind: "switch", help: "print one JSON object" },
    ...CONFIG_FLAGS,
  ],
  run(flags, output) {
    const [action, ...rest] = flags.positionals;
    if (action !== "print" || rest.length > 0) {
      throw new ConfigError("config takes one action: config print");
    }
    const { config, origins, warnings, workerName } = configFrom(flags);
    for (const warning of warnings) output.complain(`warning: ${warning}`);
    const settings = settingsOf(config, origins);
    if (isOn(flags, "json")) {
      const byPath = Object.fromEntries(
        settings.map(({ path, value, origin }) => [path, { value, ...origin }]),
      );
      output.print(JSON.stringify({ worker: workerName, settings: byPath }, null, 2));
    } else {
      printTable(settings, output.print);
    }
    return Promise.resolve(EXIT.ok);
  },
};

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

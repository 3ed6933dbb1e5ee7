import { ConfigError } from "../../errors.ts";
import { type Command, EXIT } from "../command.ts";
import { COMPLETION_SCRIPTS, type CompletionCommand } from "../completion_scripts.ts";
import { COMMON_FLAGS } from "../help.ts";
import { COMMANDS, DEFAULT_COMMAND } from "../roles.ts";
import { CTL_ACTIONS } from "./ctl.ts";

const SHELLS = Object.keys(COMPLETION_SCRIPTS);

/** First arguments of the commands that have them. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  bundle: ["inspect", "validate"],
  config: ["print"],
  ctl: Object.keys(CTL_ACTIONS),
  completion: SHELLS,
};

/** Prints a script that teaches a shell this program's commands and flags. */
export const command: Command = {
  name: "completion",
  usage: `completion ${SHELLS.join("|")}`,
  summary: "Prints a completion script for a shell.",
  details: [
    "For the running shell:",
    "  bash  source <(reactantserver completion bash)",
    "  zsh   source <(reactantserver completion zsh)",
    "  fish  reactantserver completion fish | source",
  ].join("\n"),
  flags: [],
  async run(flags, output) {
    const [shell, ...rest] = flags.positionals;
    const script = shell === undefined ? undefined : COMPLETION_SCRIPTS[shell];
    if (script === undefined || rest.length > 0) {
      throw new ConfigError(`completion takes one shell: ${SHELLS.join(", ")}`);
    }
    output.print(script("reactantserver", await describeCommands()));
    return EXIT.ok;
  },
};

async function describeCommands(): Promise<CompletionCommand[]> {
  return await Promise.all(COMMANDS.map(async ({ name, summary, load }) => ({
    name,
    summary,
    words: WORDS[name] ?? [],
    isDefault: name === DEFAULT_COMMAND,
    flags: [...(await load()).command.flags, ...COMMON_FLAGS],
  })));
}

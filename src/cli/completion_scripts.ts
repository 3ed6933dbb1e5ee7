/** Completion scripts of shells, from a description of the commands. */

import type { FlagSpec } from "./flags.ts";

/** What completes after one command. */
export interface CompletionCommand {
  readonly name: string;
  readonly summary: string;
  /** Words that can follow it first. */
  readonly words: readonly string[];
  readonly flags: readonly FlagSpec[];
}

/** Makes a script for `program`. */
export type CompletionScript = (program: string, commands: readonly CompletionCommand[]) => string;

const bash: CompletionScript = (program, commands) => {
  const cases = commands.map(({ name, words, flags }) =>
    [
      `    ${name})`,
      `      words="${words.join(" ")}"`,
      `      flags="${flags.map((flag) => `--${flag.name}`).join(" ")}" ;;`,
    ].join("\n")
  );
  return `# bash completion for ${program}: source <(${program} completion bash)
_${program}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="" flags=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) [ "$COMP_CWORD" -eq 2 ] && COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
  esac
}
complete -o default -F _${program} ${program}`;
};

const zsh: CompletionScript = (program, commands) => {
  const cases = commands.map(({ name, words, flags }) =>
    [
      `    ${name})`,
      ...(words.length === 0 ? [] : [`      (( CURRENT == 3 )) && compadd -- ${words.join(" ")}`]),
      "      _arguments -s '*:file:_files' \\",
      flags.map((flag) => `        '${zshFlag(flag)}'`).join(" \\\n") + " ;;",
    ].join("\n")
  );
  const rows = commands.map(({ name, summary }) => `    '${name}:${zshText(summary)}'`);
  return `#compdef ${program}
# zsh completion for ${program}: source <(${program} completion zsh)
_${program}() {
  local -a commands=(
${rows.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    return
  fi
  case "$words[2]" in
${cases.join("\n")}
  esac
}
compdef _${program} ${program}`;
};

const fish: CompletionScript = (program, commands) => {
  const lines = [`# fish completion for ${program}: ${program} completion fish | source`];
  for (const { name, summary, words, flags } of commands) {
    const seen = `'__fish_seen_subcommand_from ${name}'`;
    lines.push(
      `complete -c ${program} -n __fish_use_subcommand -f -a ${name} -d '${plainText(summary)}'`,
    );
    if (words.length > 0) {
      const isFirst = `'__fish_seen_subcommand_from ${name}; and not ` +
        `__fish_seen_subcommand_from ${words.join(" ")}'`;
      lines.push(`complete -c ${program} -n ${isFirst} -f -a '${words.join(" ")}'`);
    }
    for (const flag of flags) {
      const value = flag.kind === "switch" ? "" : " -r";
      const short = flag.short === undefined ? "" : ` -s ${flag.short}`;
      lines.push(
        `complete -c ${program} -n ${seen} -l ${flag.name}${short}${value} -d '${
          plainText(flag.help)
        }'`,
      );
    }
  }
  return lines.join("\n");
};

/** Every shell there is a script for. */
export const COMPLETION_SCRIPTS: Readonly<Record<string, CompletionScript>> = { bash, zsh, fish };

function zshFlag(flag: FlagSpec): string {
  const star = flag.kind === "list" ? "*" : "";
  const value = flag.kind === "switch" ? "" : "=:value:_files";
  return `${star}--${flag.name}${value.slice(0, 1)}[${zshText(flag.help)}]${value.slice(1)}`;
}

/** Text inside a zsh description, itself inside single quotes. */
function zshText(text: string): string {
  return plainText(text).replaceAll(/[[\]:]/g, (sign) => `\\${sign}`);
}

/** Text that single quotes can hold, on one line. */
function plainText(text: string): string {
  return text.replaceAll("'", "’").replaceAll(/\s+/g, " ");
}

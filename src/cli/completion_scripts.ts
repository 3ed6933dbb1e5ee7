/** Completion scripts of shells, from a description of the commands. */

import type { FlagSpec } from "./flags.ts";

/** What completes after one command. */
export interface CompletionCommand {
  readonly name: string;
  readonly summary: string;
  /** Words that can follow it first. */
  readonly words: readonly string[];
  readonly flags: readonly FlagSpec[];
  /** Its flags may come first: it is what runs when no command is named. */
  readonly isDefault: boolean;
}

/** Makes a script for `program`. */
export type CompletionScript = (program: string, commands: readonly CompletionCommand[]) => string;

/** What can follow a flag: paths, some words, or something that no shell can know. */
type Values = "file" | "folder" | "unknown" | readonly string[];

/** `undefined` for a switch. */
function valuesOf({ kind, placeholder = "TEXT" }: FlagSpec): Values | undefined {
  if (kind === "switch") return undefined;
  if (placeholder === "FILE") return "file";
  if (placeholder === "DIR") return "folder";
  const words = placeholder.includes("|")
    ? placeholder.split("|").filter((word) => /^[a-z][\w-]*$/.test(word))
    : [];
  return words.length === 0 ? "unknown" : words;
}

/** With the other form of switches that are on unless somebody turns them off. */
function withNegations(flags: readonly FlagSpec[]): FlagSpec[] {
  return flags.flatMap((flag) =>
    flag.kind === "switch" && flag.default === "true"
      ? [flag, { ...flag, name: `no-${flag.name}`, help: `not: ${flag.help}` }]
      : [flag]
  );
}

const bash: CompletionScript = (program, commands) => {
  const cases = commands.map(({ name, words, flags, isDefault }) =>
    [
      `    ${isDefault ? `${name} | -*` : name})`,
      `      words="${words.join(" ")}"`,
      `      flags="${withNegations(flags).map((flag) => `--${flag.name}`).join(" ")}"`,
      '      case "$previous" in',
      ...bashValues(flags),
      "      esac ;;",
    ].join("\n")
  );
  return `# bash completion for ${program}: source <(${program} completion bash)
_${program}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local words="" flags="" values="" kind=""
  COMPREPLY=()
  # To bash --flag=value is three words.
  if [ "$current" = "=" ]; then
    current=""
  elif [ "$previous" = "=" ]; then
    previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  if [ "$COMP_CWORD" -eq 1 ] && [ "\${current:0:1}" != "-" ]; then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  case "$kind" in
    words) COMPREPLY=($(compgen -W "$values" -- "$current")); return ;;
    folder) compopt -o dirnames +o default; return ;;
    file) return ;;
    unknown) compopt +o default; return ;;
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) [ "$COMP_CWORD" -eq 2 ] && COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
  esac
}
complete -o default -F _${program} ${program}`;
};

/** Cases of the word before: flags with the same values share one. */
function bashValues(flags: readonly FlagSpec[]): string[] {
  const names = new Map<string, string[]>();
  for (const flag of flags) {
    const values = valuesOf(flag);
    if (values === undefined) continue;
    const answer = typeof values === "string"
      ? `kind=${values}`
      : `kind=words values="${values.join(" ")}"`;
    names.set(answer, [...names.get(answer) ?? [], `--${flag.name}`]);
  }
  return Array.from(names, ([answer, group]) => `        ${group.join(" | ")}) ${answer} ;;`);
}

const zsh: CompletionScript = (program, commands) => {
  const cases = commands.map(({ name, words, flags, isDefault }) =>
    [
      `    ${isDefault ? `${name}|-*` : name})`,
      ...(words.length === 0 ? [] : [`      (( CURRENT == 3 )) && compadd -- ${words.join(" ")}`]),
      "      _arguments -s '*:file:_files' \\",
      withNegations(flags).map((flag) => `        '${zshFlag(flag)}'`).join(" \\\n") + " ;;",
    ].join("\n")
  );
  const rows = commands.map(({ name, summary }) => `    '${name}:${zshText(summary)}'`);
  return `#compdef ${program}
# zsh completion for ${program}: source <(${program} completion zsh)
_${program}() {
  local -a commands=(
${rows.join("\n")}
  )
  if (( CURRENT == 2 )) && [[ "$words[2]" != -* ]]; then
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
  const names = commands.map(({ name }) => name).join(" ");
  for (const { name, summary, words, flags, isDefault } of commands) {
    const seen = isDefault
      // With its name, or with none at all.
      ? `'__fish_seen_subcommand_from ${name}; or not __fish_seen_subcommand_from ${names}'`
      : `'__fish_seen_subcommand_from ${name}'`;
    lines.push(
      `complete -c ${program} -n __fish_use_subcommand -f -a ${name} -d '${plainText(summary)}'`,
    );
    if (words.length > 0) {
      const isFirst = `'__fish_seen_subcommand_from ${name}; and not ` +
        `__fish_seen_subcommand_from ${words.join(" ")}'`;
      lines.push(`complete -c ${program} -n ${isFirst} -f -a '${words.join(" ")}'`);
    }
    for (const flag of withNegations(flags)) {
      const short = flag.short === undefined ? "" : ` -s ${flag.short}`;
      lines.push(
        `complete -c ${program} -n ${seen} -l ${flag.name}${short}${
          fishValue(valuesOf(flag))
        } -d '${plainText(flag.help)}'`,
      );
    }
  }
  return lines.join("\n");
};

/** Every shell there is a script for. */
export const COMPLETION_SCRIPTS: Readonly<Record<string, CompletionScript>> = { bash, zsh, fish };

function fishValue(values: Values | undefined): string {
  switch (values) {
    case undefined:
      return "";
    case "file":
      return " -r -F";
    case "folder":
      return " -x -a '(__fish_complete_directories)'";
    case "unknown":
      return " -x";
    default:
      return ` -x -a '${values.join(" ")}'`;
  }
}

function zshFlag(flag: FlagSpec): string {
  const star = flag.kind === "list" ? "*" : "";
  const values = valuesOf(flag);
  const sign = values === undefined ? "" : "=";
  return `${star}--${flag.name}${sign}[${zshText(flag.help)}]${zshValue(values)}`;
}

function zshValue(values: Values | undefined): string {
  switch (values) {
    case undefined:
      return "";
    case "file":
      return ":file:_files";
    case "folder":
      return ":folder:_directories";
    case "unknown":
      return ":value: ";
    default:
      return `:value:(${values.join(" ")})`;
  }
}

/** Text inside a zsh description, itself inside single quotes. */
function zshText(text: string): string {
  return plainText(text).replaceAll(/[[\]:]/g, (sign) => `\\${sign}`);
}

/** Text that single quotes can hold, on one line. */
function plainText(text: string): string {
  return text.replaceAll("'", "’").replaceAll(/\s+/g, " ");
}

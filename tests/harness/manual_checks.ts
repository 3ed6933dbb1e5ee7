/** What can be said of a script of the manual without running it: whether what it names exists. */

import { commandHelp } from "../../src/cli/help.ts";
import { COMMANDS } from "../../src/cli/roles.ts";
import { checkVariables } from "../../src/config/environment.ts";
import { type Block, commandsOf } from "../../scripts/docs/page.ts";

/** How the program is called from a checkout. */
const FROM_SOURCE = "./scripts/deno run -A main.ts";

/** Other programs whose help lists their flags; those that a machine lacks are not asked. */
const ASKED = ["docker", "grpcurl", "install", "journalctl", "kubectl", "systemctl", "useradd"];

/** The flags of every command of the program, without their dashes. */
export async function everyFlag(): Promise<Set<string>> {
  const flags = new Set<string>();
  for (const { load } of COMMANDS) {
    const { command } = await load();
    for (const [, flag] of commandHelp("", command).matchAll(/--(?:\[no-\])?([\w-]+)/g)) {
      flags.add(flag!);
    }
  }
  return flags;
}

/** The words of a command, the program by one name however it is called. */
export function wordsOf(command: string): string[] {
  return command.replaceAll(FROM_SOURCE, "reactantserver").split(/\s+/);
}

/** What tells a command apart: variables, program and sub-commands; and the names of its options. */
export function outlineOf(command: string): { start: string[]; options: string[] } {
  const words = wordsOf(command);
  const firstOption = words.findIndex((word) => word.startsWith("-"));
  return {
    start: firstOption < 0 ? words : words.slice(0, firstOption),
    options: words.filter((word) => word.startsWith("-")),
  };
}

/**
 * Complaints about what a block's commands name: files, tasks, flags, options of the build and variables.
 * `root` is the checkout's folder, with its slash.
 */
export async function problemsOf(block: Block, root: string): Promise<string[]> {
  const flags = await everyFlag();
  const problems: string[] = [];
  const missing = (what: string) => problems.push(`${block.place}: there is no ${what}`);
  const read = (path: string) => Deno.readTextFileSync(root + path);
  for (const [path] of block.text.matchAll(/\b(docker|examples|scripts|tests)\/[\w./-]+/g)) {
    if (!exists(root + path)) missing(path);
  }
  for (const command of commandsOf(block)) {
    const words = wordsOf(command);
    while (/^[A-Z_]+=/.test(words[0] ?? "")) {
      const name = words.shift()!.split("=")[0]!;
      const isOurs = /^(REACTANT|INFERENCE_SERVER)_/.test(name);
      if (isOurs ? checkVariables({ [name]: "" }).length > 0 : !isInFiles(root, name)) {
        missing(`variable ${name}`);
      }
    }
    const [program, first, second] = words as [string, string?, string?];
    const after = (option: string) =>
      words.flatMap((word, at) => word === option ? [words[at + 1] ?? ""] : []);
    if (program === "reactantserver") {
      if (first !== undefined && !first.startsWith("-")) {
        if (!COMMANDS.some(({ name }) => name === first)) missing(`command ${first}`);
      }
      for (const [, flag] of command.matchAll(/ --([a-z][\w-]*)/g)) {
        if (!flags.has(flag!)) missing(`flag --${flag}`);
      }
    } else if (program === "./scripts/deno" && first === "task") {
      const { tasks } = JSON.parse(read("deno.json"));
      if (!(second! in tasks)) missing(`task ${second}`);
      if (second === "bench" && !exists(`${root}scripts/bench/${words[3]}.ts`)) {
        missing(`benchmark ${words[3]}`);
      }
    } else if (program === "docker" && first === "build") {
      const dockerfile = read(after("-f")[0]!);
      for (const target of after("--target")) {
        if (!new RegExp(`^FROM \\S+ AS ${target}$`, "m").test(dockerfile)) {
          missing(`stage ${target}`);
        }
      }
      for (const argument of after("--build-arg")) {
        const name = argument.split("=")[0]!;
        if (!new RegExp(`^ARG ${name}\\b`, "m").test(dockerfile)) {
          missing(`argument ${name} of the build`);
        }
      }
    } else if (program === "docker" && first === "run") {
      const image = read("docker/Dockerfile");
      for (const [, port] of after("-p").join(" ").matchAll(/:(\d+)/g)) {
        if (!new RegExp(`^EXPOSE .*\\b${port}\\b`, "m").test(image)) missing(`port ${port}`);
      }
      for (const [, folder] of after("-v").join(" ").matchAll(/:(\/[^:\s]*)/g)) {
        if (!read("docker/node.default.yaml").includes(folder!)) missing(`folder ${folder}`);
      }
    }
    for (const flag of await unknownFlags(words)) missing(`${program} ${flag}`);
  }
  return problems;
}

const helps = new Map<string, string | undefined>();

/** Flags that another program's own help does not list, where the program is there to be asked. */
async function unknownFlags(words: readonly string[]): Promise<string[]> {
  const [program, first] = words as [string, string?];
  if (!ASKED.includes(program)) return [];
  const subject = ["docker", "kubectl"].includes(program) ? [program, first!] : [program];
  const key = subject.join(" ");
  if (!helps.has(key)) helps.set(key, await helpOf(subject));
  const help = helps.get(key);
  if (help === undefined) return [];
  const own = new Set(
    words.filter((word) => /^--?[a-z]/.test(word)).map((word) => word.split("=")[0]!),
  );
  return [...own].filter((flag) =>
    !new RegExp(`(^|[\\s,[])${RegExp.escape(flag)}(?![\\w-])`, "m").test(help)
  );
}

async function helpOf([program, ...rest]: readonly string[]): Promise<string | undefined> {
  try {
    const { stdout, stderr, success } = await new Deno.Command(program!, {
      args: [...rest, "--help"],
      stdin: "null",
      env: { LC_ALL: "C" },
      signal: AbortSignal.timeout(20_000),
    }).output();
    const decoder = new TextDecoder();
    // An extension of Docker's that is not installed: its help is another one.
    return success && !rest.includes("compose")
      ? decoder.decode(stdout) + decoder.decode(stderr)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the container's files or the packaging read a variable. */
function isInFiles(root: string, name: string): boolean {
  return ["docker", "scripts/compile"].some((folder) =>
    [...Deno.readDirSync(root + folder)].some((entry) =>
      entry.isFile && Deno.readTextFileSync(`${root}${folder}/${entry.name}`).includes(name)
    )
  );
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

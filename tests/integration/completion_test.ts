/** What shells make of the completion scripts, at a terminal where that is how they complete. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { EXIT, main } from "../../src/cli/mod.ts";
import { COMPLETION_SCRIPTS } from "../../src/cli/completion_scripts.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { notRun } from "../harness/not_run.ts";

async function scriptFor(shell: string): Promise<string> {
  const out: string[] = [];
  const code = await main(["completion", shell], {
    print: (line) => void out.push(line),
    complain: (line) => assert.fail(line),
  });
  assert.equal(code, EXIT.ok);
  return out.join("\n");
}

Deno.test("completion prints scripts that their shells accept", async (t) => {
  for (const shell of Object.keys(COMPLETION_SCRIPTS)) {
    const script = await scriptFor(shell);
    assert.match(script, /set-replicas/);
    assert.match(script, /wait-seconds/);
    await parseWith(t, shell, script);
  }
});

/** What is typed before the tab, and the words that the program is run with after it. */
const TYPED: readonly (readonly [typed: string, words: readonly string[]])[] = [
  ["ct", ["ctl"]],
  ["completion f", ["completion", "fish"]],
  ["ctl repack --wai", ["ctl", "repack", "--wait-seconds"]],
  ["serve --log-format j", ["serve", "--log-format", "json"]],
  ["serve --log-format=j", ["serve", "--log-format=json"]],
  ["serve --model-control-mode e", ["serve", "--model-control-mode", "explicit"]],
  ["--discipline fi", ["--discipline", "fifo"]],
  ["--no-preall", ["--no-preallocate"]],
  ["loadgen --transport sh", ["loadgen", "--transport", "shm"]],
  ["ctl set-replicas m 1 --fill-mode sp", "ctl set-replicas m 1 --fill-mode spread".split(" ")],
  // Beside node.yaml there is a folder named nodes.d.
  ["--node-file node.y", ["--node-file", "node.yaml"]],
  ["serve --cache-dir no", ["serve", "--cache-dir", "nodes.d"]],
  ["bundle inspect nodes", ["bundle", "inspect", "nodes.d"]],
  // Nobody knows which.
  ["serve --port n", ["serve", "--port", "n"]],
];

/** How each shell that completes at a terminal only is started there, and made to read a script. */
const TERMINALS: Readonly<Record<string, readonly [start: string, prepare: string]>> = {
  bash: ["bash --norc --noprofile -i", "source completion.bash"],
  zsh: ["zsh -f -i", "autoload -U compinit; compinit -u -D; source completion.zsh"],
};

for (const [shell, [start, prepare]] of Object.entries(TERMINALS)) {
  Deno.test(`${shell} completes commands, actions, flags, their values and paths`, async (t) => {
    for (const program of [shell, "script"]) {
      if (!await runs(program, "--version")) {
        return await notRun(t, `there is no ${program}`);
      }
    }
    await using folder = await readersFolder();
    await Deno.writeTextFile(join(folder.path, `completion.${shell}`), await scriptFor(shell));
    const lines = [
      // In the program's place, something that says what it is run with.
      `${prepare}; reactantserver() { printf ran; printf '<%s>' "$@"; echo; }`,
      ...TYPED.map(([typed]) => `reactantserver ${typed}\t`),
      "exit",
    ];
    const child = new Deno.Command("script", {
      args: ["-qec", start, "/dev/null"],
      cwd: folder.path,
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(lines.join("\n") + "\n"));
    await writer.close();
    const text = new TextDecoder().decode((await child.output()).stdout);
    const words = [...text.matchAll(/ran((?:<[^<>]*>)+)/g)].map(([, found]) =>
      found!.slice(1, -1).split("><").map((word) => word.replace(/\/$/, ""))
    );
    assert.deepEqual(words, TYPED.map(([, words]) => words), text);
  });
}

Deno.test("fish completes commands, actions, flags, their values and paths", async (t) => {
  if (!await runs("fish", "--version")) return await notRun(t, "there is no fish");
  await using folder = await readersFolder();
  await Deno.writeTextFile(join(folder.path, "completion.fish"), await scriptFor("fish"));
  const asks = TYPED.map(([typed]) => `echo "?"; complete -C "reactantserver ${typed}"`);
  const { stdout } = await new Deno.Command("fish", {
    args: ["--no-config", "-c", ["source completion.fish", ...asks].join("\n")],
    cwd: folder.path,
  }).output();
  const answers = new TextDecoder().decode(stdout).split("?\n").slice(1).map((answer) =>
    answer.split("\n").slice(0, -1).map((line) => line.replace(/\/?(\t.*)?$/, ""))
  );
  // It says what is possible: one thing each, and nothing where the word stays as it was typed.
  const expected = TYPED.map(([typed, words]) => {
    const last = words.at(-1)!;
    return typed.endsWith(` ${last}`) ? [] : [last];
  });
  assert.deepEqual(answers, expected);
});

/** A folder to complete paths in. */
async function readersFolder() {
  const folder = await temporaryDirectory();
  await Deno.writeTextFile(join(folder.path, "node.yaml"), "");
  await Deno.mkdir(join(folder.path, "nodes.d"));
  return folder;
}

async function runs(program: string, ...args: string[]): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Lets the shell check the syntax, where it is installed. */
async function parseWith(t: Deno.TestContext, shell: string, script: string): Promise<void> {
  try {
    const child = new Deno.Command(shell, {
      args: ["-n"],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(script));
    await writer.close();
    const { success, stderr } = await child.output();
    assert.ok(success, `${shell}: ${new TextDecoder().decode(stderr)}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await notRun(t, `there is no ${shell}`);
  }
}

/** The manual against the program: everything that it names exists, and what is generated is fresh. */
import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { metricNames } from "../../scripts/docs/metrics.ts";
import { stalePages } from "../../scripts/docs/mod.ts";
import {
  attribute,
  type Block,
  blocksOf,
  commandsOf,
  isRun,
  proseOf,
  scriptOf,
} from "../../scripts/docs/page.ts";
import { parseManifest } from "../../src/bundle/manifest.ts";
import { checkVariables } from "../../src/config/environment.ts";
import {
  materialise,
  parseNodeOutline,
  resolveGatewayConfig,
  resolveServerConfig,
  resolveWorker,
} from "../../src/config/mod.ts";
import { everyFlag, outlineOf, problemsOf } from "../harness/manual_checks.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The manual, the front page included. */
const pages = new Map(
  ["README.md", ...[...Deno.readDirSync(`${root}docs`)].map(({ name }) => `docs/${name}`)]
    .filter((name) => name.endsWith(".md")).sort()
    .map((name) => [name, Deno.readTextFileSync(root + name)]),
);
const blocks = [...pages].flatMap(([name, text]) => blocksOf(name, text));

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Every source in these folders as one text, strings that are cut over lines joined. */
function sources(folders: readonly string[]): string {
  const read = (folder: string): string[] =>
    [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
      const path = `${folder}/${name}`;
      if (isDirectory) return name === "gen" ? [] : read(path);
      return name.endsWith(".ts") && !name.endsWith("_test.ts")
        ? [Deno.readTextFileSync(path)]
        : [];
    });
  return folders.flatMap((folder) => read(root + folder)).join("\n")
    .replaceAll(/["`'] \+\s*["`']/g, "");
}

Deno.test("the generated parts of the manual are fresh", () => {
  assert.deepEqual([...stalePages().keys()], [], "run deno task docs");
});

Deno.test("every link of the manual leads somewhere", () => {
  const broken: string[] = [];
  for (const [name, text] of pages) {
    for (const [, target] of proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const [path, anchor] = target!.split("#") as [string, string?];
      const file = path === "" ? name : normalize(join(dirname(name), path));
      if (!exists(root + file)) broken.push(`${name}: ${target}`);
      else if (anchor !== undefined && !headingsOf(pages.get(file) ?? "").includes(anchor)) {
        broken.push(`${name}: ${target} is no heading`);
      }
    }
  }
  assert.deepEqual(broken, []);
});

Deno.test("every page of the manual is in its index", () => {
  const index = pages.get("docs/index.md")!;
  const missing = [...pages.keys()].filter((name) => name.startsWith("docs/"))
    .map((name) => name.slice("docs/".length))
    .filter((name) => name !== "index.md" && !index.includes(`(${name})`));
  assert.deepEqual(missing, []);
});

Deno.test("every block of the manual says what it is for", () => {
  const wrong = blocks.filter((block) => {
    const { language, words } = block;
    if (attribute(block, "file") !== undefined) return false;
    const [word] = words;
    if (attribute(block, "run-in") !== undefined) return !["sh", "python"].includes(language);
    if (language === "sh") {
      return words.some((word) => !/^(exit|needs|short|run-by)=./.test(word)) &&
        !["server", "no-run"].includes(word!);
    }
    if (language === "yaml") {
      return !["node", "gateway", "manifest", "part", "other"].includes(word!);
    }
    if (language === "ts") return word !== "hook";
    return language === "text" ? word !== undefined && word !== "shape" : language !== "promql";
  });
  assert.deepEqual(wrong.map(({ place, language }) => `${place} ${language}`), []);
});

// Steps are listed by name, also where a test's own output is not shown.
Deno.test("scripts of the manual that are not run say why, and name what exists", async (t) => {
  for (const block of blocks.filter(({ words }) => words[0] === "no-run")) {
    const reason = block.words.slice(1).join(" ");
    await t.step(`${block.place} ${reason}`, async () => {
      assert.ok(block.words.length >= 4, "no reason");
      for (const [path] of reason.matchAll(/\b(docs|tests|scripts)\/[\w./-]+/g)) {
        assert.ok(exists(root + path), `there is no ${path}`);
      }
      assert.deepEqual(await problemsOf(block, root), []);
    });
  }
});

Deno.test("scripts of the manual that are shortened when they are run", async (t) => {
  for (const block of blocks.filter((block) => attribute(block, "short") !== undefined)) {
    await t.step(`${block.place} to ${attribute(block, "short")}`, () => {
      assert.notEqual(scriptOf(block), block.text);
    });
  }
});

Deno.test("what is said to be run elsewhere is run there", () => {
  const problems: string[] = [];
  for (const block of blocks) {
    const test = attribute(block, "run-by");
    const name = block.place.replace(/:\d+$/, "");
    if (test !== undefined) {
      const text = Deno.readTextFileSync(root + test);
      if (!text.includes(`"${name}"`)) problems.push(`${block.place}: ${test} does not read it`);
    }
    const page = attribute(block, "run-in");
    if (page === undefined) continue;
    const there = blocksOf(page, pages.get(page)!);
    for (const line of block.language === "sh" ? commandsOf(block) : linesOf(block)) {
      const isThere = block.language === "sh"
        ? there.filter(isRunAnywhere).flatMap(commandsOf).some((other) => covers(other, line))
        : there.some((other) =>
          attribute(other, "file") !== undefined && linesOf(other).includes(line)
        );
      if (!isThere) problems.push(`${block.place}: ${page} does not run ${line}`);
    }
  }
  assert.deepEqual(problems, []);
});

Deno.test("tasks that the manual names exist", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${root}deno.json`));
  const unknown = [...pages].flatMap(([name, text]) =>
    [...text.matchAll(/\bdeno task ([\w:]+)/g)].filter(([, task]) => !(task! in tasks))
      .map(([, task]) => `${name}: ${task}`)
  );
  assert.deepEqual(unknown, []);
});

Deno.test("whole files in the manual are accepted by those who read them", () => {
  for (const block of blocks.filter(({ language }) => language === "yaml")) {
    if (attribute(block, "file") !== undefined) continue;
    const { place, text, words: [kind] } = block;
    const check = {
      node: () => checkNode(place, text),
      gateway: () => {
        assert.deepEqual(resolveGatewayConfig({ file: { name: place, text } }).warnings, []);
      },
      manifest: () => assert.deepEqual(parseManifest("example", text, true).warnings, []),
      part: () => checkNode(place, `model_repo: /srv/models\nbase_port: 8080\n${text}`),
      other: () => assert.ok(parse(text)),
    }[kind!];
    check!();
  }
});

Deno.test("hooks in the manual fit the types that hooks are written against", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    // As the page on hooks tells authors to.
    const types = "src/worker/hooks/";
    Deno.mkdirSync(`${folder}/helpers`);
    for (const file of ["api.d.ts", "helpers/api.d.ts"]) {
      Deno.copyFileSync(root + types + file, `${folder}/${file}`);
    }
    const files = blocks.filter(({ language }) => language === "ts").map(({ text }, index) => {
      const path = `${folder}/hook${index}.ts`;
      // A module, so that what two of them declare does not clash.
      Deno.writeTextFileSync(path, `/// <reference path="./api.d.ts" />\n${text}export {};\n`);
      return path;
    });
    assert.ok(files.length > 0);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", "--config", `${root}deno.json`, ...files],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("variables, metrics and flags that the manual names exist", async () => {
  const flags = await everyFlag();
  const scripts = sources(["scripts"]);
  const metrics = new Set(metricNames());
  const unknown: string[] = [];
  for (const [name, text] of pages) {
    const own = proseOf(text);
    for (
      const [variable] of text.matchAll(/\b(REACTANT|INFERENCE_SERVER)_[A-Z0-9_]*[A-Z0-9]\b(?!\*)/g)
    ) {
      if (checkVariables({ [variable]: "" }).length > 0) unknown.push(`${name}: ${variable}`);
    }
    for (
      const [, metric] of text.matchAll(/(?<![(|\w])((worker|gateway|process|v8)_[a-z0-9_]+)\b/g)
    ) {
      const family = metric!.replace(/_(bucket|count|sum)$/, "");
      // A metric ends in its unit; worker_client and its like are settings.
      if (!/_(total|bytes|seconds|ready|resident|requests)$/.test(family)) continue;
      if (!metrics.has(family) && !isSetting(family)) unknown.push(`${name}: ${metric}`);
    }
    for (const [, flag] of own.matchAll(/`--([a-z][\w-]*)/g)) {
      const isKnown = flags.has(flag!) || FOREIGN_FLAGS.has(flag!) ||
        new RegExp(`--${flag}\\b`).test(scripts);
      if (!isKnown) unknown.push(`${name}: --${flag}`);
    }
  }
  assert.deepEqual(unknown, []);
});

Deno.test("every message in Troubleshooting is one of the program's", () => {
  const setup = ["deno", "python/setup", "setup_pip.ts", "setup_plugin.ts"];
  const text = sources(["src", "ffi"]) +
    setup.map((name) => Deno.readTextFileSync(`${root}scripts/${name}`)).join("\n");
  const headings = [...pages.get("docs/troubleshooting.md")!.matchAll(/^### (.*)$/gm)];
  assert.ok(headings.length > 20);
  const unknown = headings.flatMap(([, heading]) => {
    const message = /^`+ ?(.*?) ?`+$/.exec(heading!)?.[1];
    assert.ok(message !== undefined, heading);
    return message.split("…").map((part) => part.trim()).filter((part) => part.length > 3)
      .filter((part) => !text.includes(part));
  });
  assert.deepEqual(unknown, []);
});

Deno.test("the checklist is complete, and everything that it names exists", () => {
  const text = pages.get("docs/checklist.md")!;
  const problems: string[] = [];
  const numbers = new Map<string, number>();
  for (const [, letter, number, rest] of text.matchAll(/^\| ([A-Z])(\d+) +\|(.*)$/gm)) {
    if (Number(number) !== (numbers.get(letter!) ?? 0) + 1) problems.push(`${letter}${number}`);
    numbers.set(letter!, Number(number));
    const [promise, doneIn, testedBy] = rest!.split("|").map((cell) => cell.trim());
    if (promise === "" || !/`[^`]+\/[^`]+`/.test(doneIn!)) {
      problems.push(`${letter}${number} does not say where it is done`);
    }
    const tests = [...testedBy!.matchAll(/`([^`]*)`/g)].map(([, path]) => path!);
    if (!testedBy!.startsWith("nothing ") && tests.length === 0) {
      problems.push(`${letter}${number} does not say where it is tested`);
    }
    // What `deno task test` finds by itself.
    const isTest = /^(src|ffi|tests|scripts)\/[\w/]+_test\.ts$/;
    for (const path of tests.filter((path) => !isTest.test(path))) {
      problems.push(`${letter}${number}: ${path} is no test`);
    }
  }
  assert.ok((numbers.get("A") ?? 0) > 50 && (numbers.get("B") ?? 0) > 50, "items of both pages");
  for (
    const [, path] of proseOf(text).matchAll(
      /`((?:src|tests|scripts|docker|docs|proto|ffi|examples)\/[^`]*)`/g,
    )
  ) {
    if (!exists(root + path!)) problems.push(`there is no ${path}`);
  }
  assert.deepEqual(problems, []);
});

/** Flags of other programs that the manual speaks of. */
const FOREIGN_FLAGS = new Set([
  ...["allow-all", "initial-old-space-size", "no-remote"],
  ...[
    "build-arg",
    "cpus",
    "gpus",
    "ipc",
    "memory",
    "pids-limit",
    "read-only",
    "shm-size",
    "stop-timeout",
    "user",
  ],
]);

/** Settings that look like a metric. */
const isSetting = (name: string) => /^worker_(client|threads|cores|names)/.test(name);

/** The anchors that a page's headings get: lower case, without punctuation, dashes for blanks. */
function headingsOf(page: string): string[] {
  return Array.from(
    proseOf(page).matchAll(/^#+ (.*)$/gm),
    ([, heading]) =>
      heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").trim().replaceAll(" ", "-"),
  );
}

/** Lines of a program, those aside that only speak to people. */
function linesOf({ text }: Block): string[] {
  return text.split("\n").map((line) => line.trimEnd())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function isRunAnywhere(block: Block): boolean {
  return isRun(block) || attribute(block, "run-by") !== undefined;
}

/** Whether a command is the other one, up to the values of its options, perhaps with more of them. */
function covers(command: string, other: string): boolean {
  const [whole, part] = [outlineOf(command), outlineOf(other)];
  return part.start.every((word, index) => whole.start[index] === word) &&
    part.options.every((option) => whole.options.includes(option));
}

function checkNode(place: string, text: string): void {
  const outline = parseNodeOutline(text, place);
  const { node } = materialise(outline, { devices: ["0", "1"], cpuWorkers: 1, role: "all" });
  for (const { name } of node.workers) {
    const { layer, warnings } = resolveWorker(node, name);
    const resolved = resolveServerConfig({ file: layer });
    assert.deepEqual([...node.warnings, ...warnings, ...resolved.warnings], [], place);
  }
}

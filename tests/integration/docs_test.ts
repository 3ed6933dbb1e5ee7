/** The manual against the program: everything that it names exists, and what is generated is fresh. */
import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { metricNames } from "../../scripts/docs/metrics.ts";
import { stalePages } from "../../scripts/docs/mod.ts";
import { attribute, blocksOf, proseOf } from "../../scripts/docs/page.ts";
import { parseManifest } from "../../src/bundle/manifest.ts";
import { commandHelp } from "../../src/cli/help.ts";
import { COMMANDS } from "../../src/cli/roles.ts";
import { checkVariables } from "../../src/config/environment.ts";
import {
  materialise,
  parseNodeOutline,
  resolveGatewayConfig,
  resolveServerConfig,
  resolveWorker,
} from "../../src/config/mod.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

const pages = new Map(
  [...Deno.readDirSync(`${root}docs`)].map(({ name }) => name).filter((name) =>
    name.endsWith(".md")
  ).sort().map((name) => [`docs/${name}`, Deno.readTextFileSync(`${root}docs/${name}`)]),
);
/** Pages whose examples are those of other parts of the program. */
const OTHERS = ["fleet_simulation", "packaging", "performance", "soak", "transport"];
const manual = new Map(
  [...pages].filter(([name]) => !OTHERS.some((other) => name === `docs/${other}.md`)),
);
const blocks = [...manual].flatMap(([name, text]) => blocksOf(name, text));

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Every source of the program as one text, strings that are cut over lines joined. */
function sources(): string {
  const read = (folder: string): string[] =>
    [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
      const path = `${folder}/${name}`;
      if (isDirectory) return name === "gen" ? [] : read(path);
      return name.endsWith(".ts") && !name.endsWith("_test.ts")
        ? [Deno.readTextFileSync(path)]
        : [];
    });
  return ["src", "ffi"].flatMap((folder) => read(root + folder)).join("\n")
    .replaceAll(/["`'] \+\s*["`']/g, "");
}

Deno.test("the generated parts of the manual are fresh", () => {
  assert.deepEqual([...stalePages().keys()], [], "run deno task docs");
});

Deno.test("every link of the manual leads somewhere", () => {
  const broken: string[] = [];
  const readme = ["README.md", Deno.readTextFileSync(`${root}README.md`)] as const;
  for (const [name, text] of [...pages, readme]) {
    for (const [, target] of proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!) || target!.startsWith("#")) continue;
      const path = normalize(join(root, dirname(name), target!.replace(/#.*/, "")));
      if (!exists(path)) broken.push(`${name}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

Deno.test("every page of the manual is in its index", () => {
  const index = manual.get("docs/index.md")!;
  const missing = [...pages.keys()].map((name) => name.slice("docs/".length))
    .filter((name) => name !== "index.md" && !index.includes(`(${name})`));
  assert.deepEqual(missing, []);
});

Deno.test("every block of the manual says what it is for", () => {
  const wrong = blocks.filter((block) => {
    const { language, words } = block;
    if (attribute(block, "file") !== undefined) return false;
    if (language === "sh") {
      return words.length > 0 && attribute(block, "exit") === undefined &&
        !["server", "no-run"].includes(words[0]!);
    }
    if (language === "yaml") return !["node", "gateway", "manifest", "other"].includes(words[0]!);
    return !["text", "promql"].includes(language);
  });
  assert.deepEqual(wrong.map(({ place, language }) => `${place} ${language}`), []);
});

Deno.test("scripts of the manual that are not run give a reason, and name what exists", async () => {
  const flags = await everyFlag();
  const problems: string[] = [];
  for (const { place, text, words } of blocks.filter(({ words }) => words[0] === "no-run")) {
    const reason = words.slice(1).join(" ");
    console.log(`not run: ${place} ${reason}`);
    if (words.length < 4) problems.push(`${place}: no reason`);
    for (
      const [path] of `${text} ${reason}`.matchAll(/\b(docker|examples|scripts|tests)\/[\w./-]+/g)
    ) {
      if (!exists(root + path)) problems.push(`${place}: there is no ${path}`);
    }
    for (const line of text.split("\n").filter((line) => /^reactantserver /.test(line))) {
      for (const [, flag] of line.matchAll(/ --([\w-]+)/g)) {
        if (!flags.has(flag!)) problems.push(`${place}: there is no flag --${flag}`);
      }
    }
  }
  assert.deepEqual(problems, []);
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
      other: () => assert.ok(parse(text)),
    }[kind!];
    check!();
  }
});

Deno.test("variables, metrics and flags that the manual names exist", async () => {
  const flags = await everyFlag();
  const metrics = new Set(metricNames());
  const unknown: string[] = [];
  for (const [name, text] of manual) {
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
      if (!flags.has(flag!) && !FOREIGN_FLAGS.has(flag!)) unknown.push(`${name}: --${flag}`);
    }
  }
  assert.deepEqual(unknown, []);
});

Deno.test("every message in Troubleshooting is one of the program's", () => {
  const text = sources();
  const headings = [...manual.get("docs/troubleshooting.md")!.matchAll(/^### (.*)$/gm)];
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
  const text = manual.get("docs/checklist.md")!;
  const problems: string[] = [];
  const numbers = new Map<string, number>();
  for (const [, letter, number, rest] of text.matchAll(/^\| ([A-Z])(\d+) +\|(.*)$/gm)) {
    if (Number(number) !== (numbers.get(letter!) ?? 0) + 1) problems.push(`${letter}${number}`);
    numbers.set(letter!, Number(number));
    if (rest!.split("|").slice(0, 3).some((cell) => cell.trim() === "")) {
      problems.push(`${letter}${number} has an empty cell`);
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
const FOREIGN_FLAGS = new Set(["gpus", "ipc", "shm-size", "check", "seconds"]);

/** Settings that look like a metric. */
const isSetting = (name: string) => /^worker_(client|threads|cores|names)/.test(name);

async function everyFlag(): Promise<Set<string>> {
  const flags = new Set<string>();
  for (const { load } of COMMANDS) {
    const { command } = await load();
    for (const [, flag] of commandHelp("", command).matchAll(/--(?:\[no-\])?([\w-]+)/g)) {
      flags.add(flag!);
    }
  }
  return flags;
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

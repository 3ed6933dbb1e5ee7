/**
 * The fenced blocks of a page of the manual. What follows the language says what a block is for:
 *
 *     sh                  a script; it is run, and has to succeed
 *     sh exit=N           a script that has to end with that exit code
 *     sh server           one command that is started, and runs until the next one or the page's end,
 *                         with `keep` to the end of the last page
 *     sh no-run WHY       a script that cannot be run everywhere; what can be checked of it is checked
 *     sh run-by=TEST      a script that this test runs, because it looks at what comes of it
 *     sh run-in=PAGE      commands that are run on that page, with the same options and perhaps more
 *     python run-in=PAGE  likewise a file, of which that page has every line
 *     … file=PATH         the content of a file, which is written where the reader would
 *     yaml node|gateway|manifest|other   a whole file as an example
 *     yaml part           some blocks of a node file
 *     ts hook             a hook file as an example
 *     text                some lines of what the script before it prints; … stands for anything
 *     text shape          how something looks; nothing that a script here prints
 *
 * A script may also say, in one word each:
 *
 *     needs=A,B           programs that a machine may lack; without them it is not run, and that is printed
 *     short=NAME:N,…      options of the script that get a smaller number when a test runs it, because what
 *                         is written takes minutes; only what says how long or how much may be shortened
 */

/** One fenced block. */
export interface Block {
  /** For example `docs/gateway.md:12`. */
  readonly place: string;
  readonly language: string;
  /** What follows the language. */
  readonly words: readonly string[];
  readonly text: string;
}

/** The value of a block's `name=value`. */
export function attribute(block: Block, name: string): string | undefined {
  return block.words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Options that say how long or how much, and nothing about what is done. */
const LENGTHS = ["seconds", "interval", "rounds", "percent", "layers"];

/**
 * What a test runs of a script: the text as it is written, except for the numbers that `short` names.
 * @throws {TypeError} where `short` names an option that the script does not give, that is no length, or that
 *     would not get shorter
 */
export function scriptOf(block: Block): string {
  let text = block.text;
  for (const item of attribute(block, "short")?.split(",") ?? []) {
    const [, option, value] = /^([\w-]+):([\d.]+)$/.exec(item) ?? [];
    if (option === undefined || !LENGTHS.includes(option)) {
      throw new TypeError(`${block.place}: "${item}" is no length that can be shortened`);
    }
    const written = new RegExp(`( --${option}[ =])([\\d.]+)(?=\\s)`, "g");
    const numbers = [...text.matchAll(written)].map(([, , number]) => Number(number));
    if (numbers.length === 0) throw new TypeError(`${block.place} has no --${option}`);
    if (numbers.some((number) => number <= Number(value))) {
      throw new TypeError(`${block.place}: --${option} ${value} is no shorter`);
    }
    text = text.replaceAll(written, `$1${value}`);
  }
  return text;
}

/** Whether a block is a script that is run with its page. */
export function isRun({ language, words }: Block): boolean {
  return language === "sh" && !/^(no-run$|run-in=|run-by=)/.test(words[0] ?? "");
}

/** The commands of a script, a line each; what a shell ignores is left out. */
export function commandsOf({ text }: Block): string[] {
  return text.replaceAll(/\\\n\s*/g, "").split("\n")
    .map((line) => line.replace(/(^|\s+)# .*$/, "").trim())
    .filter((line) => line !== "");
}

/** Every fenced block, in the order of the page. @throws {TypeError} for one without an end */
export function blocksOf(name: string, page: string): Block[] {
  const blocks: Block[] = [];
  const lines = page.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const fence = /^( *)(`{3,})(.*)$/.exec(lines[at]!);
    if (fence === null) continue;
    const [, indent, ticks, info] = fence as unknown as [string, string, string, string];
    const end = lines.findIndex((line, index) => index > at && line.trim() === ticks);
    if (end < 0) throw new TypeError(`${name}:${at + 1} opens a block that has no end`);
    const [language = "", ...words] = info.trim().split(/ +/);
    const text = lines.slice(at + 1, end).map((line) =>
      line.startsWith(indent) ? line.slice(indent.length) : line
    ).join("\n");
    blocks.push({ place: `${name}:${at + 1}`, language, words, text: `${text}\n` });
    at = end;
  }
  return blocks;
}

/** A page without its blocks. */
export function proseOf(page: string): string {
  return page.replaceAll(/^( *)(`{3,}).*\n[^]*?^ *\2$/gm, "");
}

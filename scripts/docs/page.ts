/**
 * The fenced blocks of a page of the manual. What follows the language says what a block is for:
 *
 *     sh                  a script; it is run, and has to succeed
 *     sh exit=N           a script that has to end with that exit code
 *     sh server           one command that is started, and runs until the next one or the page's end,
 *                         with `keep` to the end of the last page
 *     sh no-run WHY       a script that cannot be run everywhere; what can be checked of it is checked
 *     … file=PATH         the content of a file, which is written where the reader would
 *     yaml node|gateway|manifest|other   a whole file as an example
 *     text                some lines of what the script before it prints; … stands for anything
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

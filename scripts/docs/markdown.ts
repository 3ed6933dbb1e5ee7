/** Markdown as the formatter leaves it, and the parts of pages that are written by the generator. */

/** A table, its columns padded. The first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  const [heading, ...rest] = cells.map(line);
  return [heading, rule, ...rest].join("\n");
}

/** Text as code; an empty one stays empty. */
export function code(text: string): string {
  return text === "" ? "" : `\`${text}\``;
}

const PART = /(<!-- generated:([\w-]+) -->\n)[^]*?(\n<!-- \/generated:\2 -->)/g;

/**
 * A page with its generated parts as they should be.
 * @throws {TypeError} for a part that nobody generates
 */
export function withGeneratedParts(page: string, parts: ReadonlyMap<string, () => string>): string {
  return page.replace(PART, (_, start: string, name: string, end: string) => {
    const part = parts.get(name);
    if (part === undefined) throw new TypeError(`There is no generated part "${name}"`);
    return `${start}\n${part()}\n${end}`;
  });
}

/** Names of the generated parts of a page. */
export function generatedParts(page: string): string[] {
  return Array.from(page.matchAll(PART), ([, , name]) => name!);
}

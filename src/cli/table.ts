/** Columns of text. */

/** What would move the cursor, colour the terminal, end the line or turn its direction. */
// deno-lint-ignore no-control-regex
const UNPRINTABLE = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Prints rows with their columns aligned; the last one is not padded. Cells may come from anywhere: what is
 * not for a terminal is written as in JSON.
 */
export function printTable(
  given: readonly (readonly string[])[],
  print: (line: string) => void,
  { indent = 0 }: { readonly indent?: number } = {},
): void {
  const rows = given.map((row) => row.map((cell) => cell.replace(UNPRINTABLE, escaped)));
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column]!));
    print(`${" ".repeat(indent)}${cells.join("  ")}`.trimEnd());
  }
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** `1.5 MiB`; binary units, two significant digits at least. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

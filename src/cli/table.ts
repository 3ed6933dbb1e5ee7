/** Columns of text. */

/** Prints rows with their columns aligned; the last one is not padded. */
export function printTable(
  rows: readonly (readonly string[])[],
  print: (line: string) => void,
  { indent = 0 }: { readonly indent?: number } = {},
): void {
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

/** `1.5 MiB`; binary units, two significant digits at least. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

import assert from "node:assert/strict";
import { formatBytes, printTable } from "./table.ts";

Deno.test("printTable() aligns columns, and lets no cell reach the terminal's controls", () => {
  const lines: string[] = [];
  printTable([["MODEL", "READY"], ["résumé", "yes"], ["a\nb\u001b[2J\u202ec", "no"]], (line) => {
    lines.push(line);
  }, { indent: 1 });
  // The widest cell has 24 characters, and two spaces part columns.
  assert.deepEqual(lines, [
    ` MODEL${" ".repeat(21)}READY`,
    ` résumé${" ".repeat(20)}yes`,
    " a\\u000ab\\u001b[2J\\u202ec  no",
  ]);
});

Deno.test("formatBytes() gives two significant digits at least", () => {
  const sizes = [0, 1023, 1024, 1536, 100 * 2 ** 20, 2 ** 50];
  assert.deepEqual(sizes.map(formatBytes), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "100 MiB",
    "1024 TiB",
  ]);
});

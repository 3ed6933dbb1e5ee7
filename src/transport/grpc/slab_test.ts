import assert from "node:assert/strict";
import { copied } from "./slab.ts";

Deno.test("copied() gives copies that nothing else writes to, whatever their size", () => {
  const source = new Uint8Array(20_000);
  const copies: { copy: Uint8Array; expected: Uint8Array }[] = [];
  // 47 copies of up to 20 000 bytes are several slabs.
  for (let round = 0; round < 47; round++) {
    source.fill(round + 1);
    const [start, end] = [round, round + (round * 431) % 19_900];
    copies.push({
      copy: copied(source, start, end),
      expected: new Uint8Array(end - start).fill(round + 1),
    });
  }
  for (const { copy, expected } of copies) assert.deepEqual(copy, expected);
  copies[20]!.copy.fill(0);
  assert.deepEqual(copies[19]!.copy, copies[19]!.expected);
  assert.deepEqual(copies[21]!.copy, copies[21]!.expected);
});

Deno.test("copied() takes exactly the range", () => {
  const source = Uint8Array.of(1, 2, 3, 4, 5);
  assert.deepEqual([...copied(source, 0, 5)], [1, 2, 3, 4, 5]);
  assert.deepEqual([...copied(source, 1, 4)], [2, 3, 4]);
  assert.deepEqual([...copied(source, 5, 5)], []);
});

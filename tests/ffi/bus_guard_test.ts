/** Memory that is taken away while it is mapped: what the kernel does then, and what the guard makes of it. */

import assert from "node:assert/strict";
import { Mapping } from "../../ffi/libc/mod.ts";

const PAGE = 4096;
const MMAP = new URL("../../ffi/libc/mod.ts", import.meta.url).href;

function fileOfPages(pages: number): string {
  const path = Deno.makeTempFileSync();
  Deno.writeFileSync(path, new Uint8Array(pages * PAGE).fill(7));
  return path;
}

Deno.test("what is cut off reads as zeros, what is left as before", () => {
  const path = fileOfPages(4);
  using mapping = Mapping.readOnly(path);
  assert.equal(mapping.guard(), true);
  const bytes = mapping.bytes();
  assert.equal(bytes[3 * PAGE], 7);
  Deno.truncateSync(path, PAGE);
  assert.equal(mapping.isTorn, false);
  assert.equal(bytes[2 * PAGE + 5], 0);
  assert.equal(mapping.isTorn, true);
  assert.equal(bytes[0], 7);
  // Page 1 has not been touched since, and faults on its own.
  assert.equal(bytes[PAGE], 0);
  Deno.removeSync(path);
});

Deno.test("other threads are kept from the fault too, and other mappings from the mark", async () => {
  const path = fileOfPages(64);
  using mapping = Mapping.readOnly(path);
  using neighbour = Mapping.readOnly(path);
  mapping.guard();
  neighbour.guard();
  using target = Mapping.anonymous(64 * PAGE);
  Deno.truncateSync(path, 10 * PAGE);
  await target.copyFrom(mapping.bytes(), 0);
  assert.equal(mapping.isTorn, true);
  assert.equal(neighbour.isTorn, false);
  const expected = new Uint8Array(64 * PAGE).fill(7, 0, 10 * PAGE);
  assert.deepEqual(target.bytes(), expected);
  Deno.removeSync(path);
});

Deno.test("a slot is used again, and starts whole", () => {
  const path = fileOfPages(2);
  // More than there are slots.
  for (let round = 0; round < 5_000; round++) {
    using mapping = Mapping.readOnly(path);
    assert.equal(mapping.guard(), true);
    assert.equal(mapping.isTorn, false);
  }
  const torn = Mapping.readOnly(path);
  torn.guard();
  Deno.truncateSync(path, 0);
  assert.equal(torn.bytes()[0], 0);
  torn[Symbol.dispose]();
  assert.equal(torn.isTorn, true);
  Deno.removeSync(path);
});

/** Runs a program that maps two files, cuts `victim` short and reads it. */
async function runVictim(guarded: readonly string[], victim: string): Promise<Deno.CommandOutput> {
  const program = `
    import { Mapping } from ${JSON.stringify(MMAP)};
    const mappings = {};
    for (const name of ["a", "b"]) {
      const path = Deno.makeTempFileSync();
      Deno.writeFileSync(path, new Uint8Array(${2 * PAGE}).fill(7));
      const mapping = Mapping.readOnly(path);
      if (${JSON.stringify(guarded)}.includes(name)) mapping.guard();
      Deno.truncateSync(path, 0);
      Deno.removeSync(path);
      mappings[name] = mapping;
    }
    console.log("read", mappings.${victim}.bytes()[${PAGE}]);
  `;
  const path = Deno.makeTempFileSync({ suffix: ".ts" });
  Deno.writeTextFileSync(path, program);
  try {
    return await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-config", "--no-check", path],
      stdout: "piped",
      stderr: "null",
    }).output();
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("faults outside guarded memory end the process as ever", async () => {
  const unguarded = await runVictim([], "a");
  assert.equal(unguarded.signal, "SIGBUS");
  const other = await runVictim(["a"], "b");
  assert.equal(other.signal, "SIGBUS");
  assert.equal(new TextDecoder().decode(other.stdout), "");
  const guarded = await runVictim(["a"], "a");
  assert.equal(guarded.signal, null);
  assert.equal(new TextDecoder().decode(guarded.stdout), "read 0\n");
});

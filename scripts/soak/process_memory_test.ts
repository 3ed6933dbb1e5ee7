import assert from "node:assert/strict";
import { memoryOfFamily, sortMappings, threadsOfFamily } from "./process_memory.ts";

const MIB = 2 ** 20;

Deno.test("sortMappings() tells heaps, shared memory and the rest apart", () => {
  const mapping = (range: string, permissions: string, name: string, kib: number) =>
    `${range} ${permissions} 00000000 00:00 0${name && `      ${name}`}\n` +
    `Size:               1024 kB\nRss:                ${kib} kB\nPss:                   1 kB\n` +
    "VmFlags: rd wr mr mw me ac sd\n";
  const smaps = [
    mapping("55d000000000-55d000010000", "r-xp", "/usr/bin/deno", 1),
    mapping("55d100000000-55d100020000", "rw-p", "[heap]", 2),
    mapping("1f4400040000-1f4400080000", "rw-p", "", 4),
    mapping("1f4400100000-1f4400123000", "rw-p", "", 8),
    mapping("7f1240000000-7f1240400000", "rw-p", "", 16),
    mapping("7f1250040000-7f1250080000", "rwxp", "", 32),
    mapping("7f1260041000-7f1260081000", "rw-p", "", 64),
    mapping("7f1270000000-7f1270200000", "rw-s", "/dev/shm/region", 128),
    mapping("7f1280000000-7f1280200000", "rw-p", "/memfd:x (deleted)", 256),
  ].join("");
  assert.deepEqual(sortMappings(smaps), {
    residentBytes: 511 * 1024,
    heapPageBytes: 12 * 1024,
    sharedBytes: 384 * 1024,
  });
});

/** Prints a line when it holds what the argument says, and waits for its input to end. */
const HOLDER = `
  const make = {
    nothing: () => [],
    objects: () => Array.from({ length: 500_000 }, (_, index) => ({ index, text: ["a", index] })),
    buffers: () => [new Uint8Array(48 * ${MIB}).fill(1)],
  };
  const kept = make[Deno.args[0]]();
  console.log("ready");
  for await (const _ of Deno.stdin.readable);
  console.log(kept.length);
`;

async function holding(what: "nothing" | "objects" | "buffers") {
  const script = Deno.makeTempFileSync({ suffix: ".ts" });
  Deno.writeTextFileSync(script, HOLDER);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", script, what],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  try {
    const output = child.stdout.getReader();
    await output.read();
    const memory = memoryOfFamily(child.pid);
    const threads = threadsOfFamily(child.pid);
    await child.stdin.close();
    while (!(await output.read()).done);
    return { ...memory, threads, heldBytes: memory.residentBytes - memory.heapPageBytes };
  } finally {
    await child.status;
    Deno.removeSync(script);
  }
}

Deno.test("memoryOfFamily() finds JavaScript objects in heaps, and buffers beside them", async () => {
  const [nothing, objects, buffers] = await Promise.all(
    (["nothing", "objects", "buffers"] as const).map(holding),
  );
  const heapGrowth = objects!.heapPageBytes - nothing!.heapPageBytes;
  assert.ok(heapGrowth > 24 * MIB, `${heapGrowth} bytes of heap`);
  // The collector's own code and tables come with them.
  assert.ok(objects!.heldBytes - nothing!.heldBytes < heapGrowth / 3, JSON.stringify(objects));
  const growth = buffers!.heldBytes - nothing!.heldBytes;
  assert.ok(Math.abs(growth - 48 * MIB) < 8 * MIB, `${growth} bytes beside`);
  assert.ok(nothing!.threads >= 1);
});

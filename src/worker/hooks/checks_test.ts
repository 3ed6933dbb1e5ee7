import assert from "node:assert/strict";
import { join } from "node:path";
import { checkTensors, refuseEscapingLinks } from "./checks.ts";

function strings(count: number, data: Uint8Array) {
  return [{ name: "s", datatype: "BYTES", shape: [count], data }];
}

Deno.test("checkTensors() counts strings without taking them apart, and not endlessly many", () => {
  // "hi" and "": lengths in front, little-endian.
  const two = Uint8Array.of(2, 0, 0, 0, 104, 105, 0, 0, 0, 0);
  assert.deepEqual(checkTensors(strings(2, two))[0]!.data, two);
  assert.deepEqual(checkTensors(strings(0, new Uint8Array()))[0]!.shape, [0]);
  const refused: [number, Uint8Array, RegExp][] = [
    [1, two, /tensor "s" more elements for shape \[1\]/],
    [3, two, /tensor "s" 2 elements for shape \[3\]/],
    [2, two.subarray(0, 9), /tensor "s" 1 elements for shape \[2\]/],
    [1, two.subarray(0, 5), /tensor "s" element 0 beyond its bytes for shape \[1\]/],
    [1, Uint8Array.of(255, 255, 255, 255), /element 0 beyond its bytes/],
    // Taken apart, these would be gigabytes of views in the worker's own heap.
    [2 ** 24 + 1, new Uint8Array(4 * (2 ** 24 + 1)), /more than 16777216 elements/],
  ];
  for (const [count, data, message] of refused) {
    assert.throws(() => checkTensors(strings(count, data)), message);
  }
});

Deno.test("checkTensors() copies tensors out of shared memory, each byte of it once", () => {
  const memory = new SharedArrayBuffer(64);
  const view = (name: string, from: number, length: number) => ({
    name,
    datatype: "UINT8",
    shape: [length],
    data: new Uint8Array(memory, from, length),
  });
  const checked = checkTensors([view("a", 0, 40), view("b", 40, 24)], { copyShared: true });
  assert.deepEqual(checked.map(({ data }) => [data.length, data.buffer === memory]), [
    [40, false],
    [24, false],
  ]);
  assert.throws(
    () => checkTensors([view("a", 0, 40), view("b", 0, 25)], { copyShared: true }),
    /65 bytes of tensors in 64 of scratch memory/,
  );
});

Deno.test("refuseEscapingLinks() names links that lead out of the bundle or nowhere", () => {
  const root = Deno.makeTempDirSync();
  try {
    const folder = join(root, "bundle");
    Deno.mkdirSync(join(folder, "..data"), { recursive: true });
    Deno.writeTextFileSync(join(folder, "..data", "vocab.txt"), "words");
    // As Kubernetes mounts files: links, but inside.
    Deno.symlinkSync("..data/vocab.txt", join(folder, "vocab.txt"));
    refuseEscapingLinks("m", folder);
    Deno.symlinkSync("../elsewhere", join(folder, "later.txt"));
    assert.throws(
      () => refuseEscapingLinks("m", folder),
      /"later.txt" is a link that cannot be followed/,
    );
    Deno.writeTextFileSync(join(root, "elsewhere"), "secret");
    assert.throws(
      () => refuseEscapingLinks("m", folder),
      /"later.txt" is a link that leads out of the bundle/,
    );
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { assembleText, ROUTINES } from "./machine_code.ts";
import { native, withoutLibrary } from "./native.ts";

/** glibc's `abs` and friends: functions of one argument that anyone can foretell. */
function libcFunction(name: "strlen" | "strdup"): Deno.PointerObject {
  const library = Deno.dlopen("libc.so.6", { [name]: { type: "pointer" } });
  const address = library.symbols[name] as unknown as Deno.PointerObject;
  library.close();
  return address;
}

const isX86Linux = Deno.build.arch === "x86_64" && Deno.build.os === "linux";

Deno.test({
  name: "the library is there on the machines it is written for",
  ignore: !isX86Linux,
  fn: () => assert.equal(native().kind, "direct"),
});

for (
  const [name, subject] of [["library", native()], [
    "Deno's own way",
    withoutLibrary("a test"),
  ]] as const
) {
  Deno.test(`${name}: a call passes its argument and returns the result, millions of times`, () => {
    const strlen = libcFunction("strlen");
    const text = new Uint8Array(new ArrayBuffer(100));
    for (const length of [0, 1, 42, 99]) {
      text.fill(0x61).fill(0, length);
      const result = subject.call(strlen, text);
      assert.equal(Deno.UnsafePointer.value(result), BigInt(length));
    }
    // Enough for V8 to compile the call.
    let sum = 0n;
    text.fill(0x61).fill(0, 3);
    for (let i = 0; i < 200_000; i++) sum += Deno.UnsafePointer.value(subject.call(strlen, text));
    assert.equal(sum, 600_000n);
  });

  Deno.test(`${name}: a view's address is Deno's, for every kind of view`, () => {
    const buffer = new ArrayBuffer(4096);
    const views = [
      new Uint8Array(buffer),
      new Uint8Array(buffer, 123, 10),
      new Float32Array(buffer, 64, 8),
      new BigUint64Array(buffer, 8, 1),
      new DataView(buffer, 10),
      new Uint8Array(32 << 20),
    ];
    for (const view of views) {
      const expected = Deno.UnsafePointer.value(
        Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>),
      );
      for (let i = 0; i < 2_000; i++) assert.equal(subject.address(view), expected);
    }
  });

  Deno.test(`${name}: a callback may run JavaScript, allocate and throw during a call`, () => {
    let calls = 0;
    const callback = new Deno.UnsafeCallback(
      { parameters: ["pointer"], result: "pointer" },
      () => {
        if (++calls % 1_000 === 0) throw new Error(`call ${calls}`);
        new Array(1_000).fill({ calls });
        return null;
      },
    );
    const args = new Uint8Array(new ArrayBuffer(8));
    let thrown = 0;
    for (let i = 0; i < 20_000; i++) {
      try {
        assert.equal(subject.call(callback.pointer, args), null);
      } catch (error) {
        assert.match(String(error), /call \d+000$/);
        thrown++;
      }
    }
    callback.close();
    assert.equal(thrown, 20);
  });
}

const hasAssembler = spawnSync("as", ["--version"]).status === 0 &&
  spawnSync("objcopy", ["--version"]).status === 0;

Deno.test({
  name: `the bytes are what the assembler makes of the source${
    hasAssembler ? "" : " (needs GNU as, which is not here)"
  }`,
  ignore: !isX86Linux || !hasAssembler,
  fn: () => {
    const folder = Deno.makeTempDirSync();
    const source = ROUTINES.map((routine) => `.org ${routine.offset}, 0xcc\n${routine.source}\n`);
    Deno.writeTextFileSync(`${folder}/a.s`, `.intel_syntax noprefix\n.text\n${source.join("")}`);
    for (
      const [program, ...args] of [
        ["as", "--64", "a.s", "-o", "a.o"],
        ["objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"],
      ] as const
    ) {
      const { status, stderr } = spawnSync(program, args, { cwd: folder });
      assert.equal(status, 0, String(stderr));
    }
    assert.deepEqual(Deno.readFileSync(`${folder}/a.bin`), assembleText());
    Deno.removeSync(folder, { recursive: true });
  },
});

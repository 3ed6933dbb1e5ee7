/** Opening plugins: the right one works once, every wrong one is one clear line with the remedy. */

import assert from "node:assert/strict";
import {
  addressOf,
  allocate,
  brandAddress,
  checkVersion,
  newStruct,
  openPlugin,
  PJRT_Api,
  PJRT_Api_Version,
  PJRT_FUNCTIONS,
  PjrtApi,
  PjrtError,
  PluginError,
  Struct,
} from "../../ffi/mod.ts";
import { cpuPlugin } from "./subject.ts";

/** A file with that content; removed with the returned object. */
function temporaryFile(contents: Uint8Array): Disposable & { path: string } {
  const path = Deno.makeTempFileSync({ suffix: ".so" });
  Deno.writeFileSync(path, contents);
  return { path, [Symbol.dispose]: () => Deno.removeSync(path) };
}

function assertRefused(path: string, found: RegExp): void {
  assert.throws(() => openPlugin(path), (error: Error) => {
    assert.ok(error instanceof PluginError);
    assert.ok(error.message.includes(JSON.stringify(path)), error.message);
    assert.match(error.message, found);
    assert.match(error.message, /run scripts\/setup, or name a plugin .*--pjrt-plugin/);
    assert.ok(!error.message.includes("\n"), "one line");
    return true;
  });
}

/** The start of a 64-bit little-endian shared object for a machine. */
function elfHeader(machine: number): Uint8Array {
  const header = new Uint8Array(128);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.set([3, 0, machine & 255, machine >> 8], 16);
  return header;
}

/** A function table of a given version in our own memory, with no function in it. */
function emptyTable(major: number, minor: number, size = PJRT_Api.end) {
  const table = newStruct(PJRT_Api).set("struct_size", size);
  const version = new Struct(PJRT_Api_Version, table.get("pjrt_api_version"));
  version.set("major_version", major).set("minor_version", minor);
  return { table, api: new PjrtApi(brandAddress(table.address)) };
}

Deno.test("openPlugin() opens a plugin once, whatever path leads to it", () => {
  const plugin = openPlugin(cpuPlugin());
  assert.equal(plugin.apiVersion, "0.81");
  assert.equal(plugin.warning, undefined);
  assert.deepEqual(plugin.attributes.get("stablehlo_current_version"), [1, 13, 3]);
  assert.equal(openPlugin(cpuPlugin()), plugin);
  const folder = Deno.makeTempDirSync();
  Deno.symlinkSync(plugin.path, `${folder}/link.so`);
  assert.equal(openPlugin(`${folder}/link.so`), plugin);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("openPlugin() refuses a missing file and a folder", () => {
  assertRefused("/nowhere/plugin.so", /there is no such file/);
  assertRefused("/", /it cannot be read/);
});

Deno.test("openPlugin() refuses what is no shared library", () => {
  using text = temporaryFile(new TextEncoder().encode("not a library".repeat(20)));
  assertRefused(text.path, /not an ELF shared library/);
  using empty = temporaryFile(new Uint8Array());
  assertRefused(empty.path, /not an ELF shared library/);
});

Deno.test("openPlugin() names both machines when the library is for another", () => {
  const [other, name] = Deno.build.arch === "x86_64" ? [183, "aarch64"] : [62, "x86_64"];
  using foreign = temporaryFile(elfHeader(other as number));
  assertRefused(foreign.path, new RegExp(`built for ${name}, this machine is ${Deno.build.arch}`));
  using unknown = temporaryFile(elfHeader(243));
  assertRefused(unknown.path, /built for ELF machine 243/);
});

Deno.test("openPlugin() passes on the loader's reason when a library does not load", () => {
  using broken = temporaryFile(elfHeader(Deno.build.arch === "x86_64" ? 62 : 183));
  assertRefused(broken.path, /it does not load \(.+\)/);
});

Deno.test("openPlugin() refuses a library that is no plugin", () => {
  const maps = Deno.readTextFileSync("/proc/self/maps");
  const libc = /(\S*libc\.so\.6)$/m.exec(maps)![1]!;
  assertRefused(libc, /does not export GetPjrtApi/);
});

Deno.test("checkVersion() refuses another major version and warns of an untested minor one", () => {
  assert.throws(() => checkVersion("p.so", emptyTable(1, 2).api), (error: Error) => {
    assert.ok(error instanceof PluginError);
    assert.match(error.message, /"p\.so": it speaks PJRT C API 1\.2, this server speaks 0\.x; run/);
    return true;
  });
  assert.equal(checkVersion("p.so", emptyTable(0, 81).api), undefined);
  for (const minor of [3, 80, 86, 400]) {
    const warning = checkVersion("p.so", emptyTable(0, minor).api)!;
    assert.match(
      warning,
      new RegExp(`speaks C API 0\\.${minor}, this server is tested with 0\\.81 to 0\\.85;`),
    );
    assert.ok(!warning.includes("\n"));
  }
});

Deno.test("a function outside the plugin's table is not read", () => {
  const last = PJRT_FUNCTIONS.at(-1)!;
  const offset = PJRT_Api.offsets.PJRT_Buffer_ToHostBuffer;
  // Garbage where the pointer would be: following it would crash.
  const { table } = emptyTable(0, 40, offset + 7);
  table.set("PJRT_Buffer_ToHostBuffer", 1n).set(last, 1n);
  const api = new PjrtApi(brandAddress(table.address));
  assert.equal(api.has("PJRT_Buffer_ToHostBuffer"), false);
  assert.throws(
    () => api.call("PJRT_Buffer_ToHostBuffer", api.args("PJRT_Buffer_ToHostBuffer")),
    (error: Error) => error instanceof PjrtError && error.code === "UNIMPLEMENTED",
  );
  table.set("struct_size", offset + 8);
  assert.equal(new PjrtApi(brandAddress(table.address)).has("PJRT_Buffer_ToHostBuffer"), true);
});

Deno.test("addressOf() stays true for arrays that V8 would move", () => {
  const small = Array.from({ length: 2_000 }, (_, index) => new Uint8Array(8).fill(index & 255));
  const addresses = small.map((view) => addressOf(view));
  let garbage: unknown[] = [];
  for (let round = 0; round < 200_000; round++) {
    garbage.push({ round });
    if (garbage.length > 50_000) garbage = [];
  }
  small.forEach((view, index) => {
    const pointer = Deno.UnsafePointer.create(addresses[index]!)!;
    assert.equal(new Deno.UnsafePointerView(pointer).getUint8(), view[0]);
    assert.equal(addressOf(view), addresses[index]);
  });
  assert.notEqual(addressOf(new Uint8Array(0)), 0n);
  assert.equal(addressOf(allocate(16).subarray(4)) & 3n, 0n);
});

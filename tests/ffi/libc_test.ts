/** The C library through FFI, checked against what Deno and the shell see of the same things. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  createSharedMemory,
  errnoName,
  getAffinity,
  Mapping,
  openSharedMemory,
  setProcessAffinity,
  SharedObject,
  SystemCallError,
  tryLock,
  unlinkSharedMemory,
} from "../../ffi/libc/mod.ts";

function tempFile(contents: Uint8Array): string {
  const path = Deno.makeTempFileSync();
  Deno.writeFileSync(path, contents);
  return path;
}

function isSystemError(call: string, code: string) {
  return (error: unknown) =>
    error instanceof SystemCallError && error.call === call && error.code === code;
}

const uniqueName = () => `/reactant-test-${crypto.randomUUID()}`;

Deno.test("errno is that of the failing call, under allocation pressure", () => {
  const folder = Deno.makeTempDirSync();
  let garbage: unknown[] = [];
  for (let round = 0; round < 5_000; round++) {
    garbage.push(new Uint8Array(4096), { round }, `text ${round}`);
    if (garbage.length > 3_000) garbage = [];
    assert.throws(
      () => Mapping.readOnly(`${folder}/missing`),
      (error: SystemCallError) => error.errno === 2 && error.code === "ENOENT",
    );
    assert.throws(() => Mapping.readOnly(folder), isSystemError("mmap", "ENODEV"));
    assert.throws(
      () => unlinkSharedMemory("/no-such-object"),
      isSystemError("shm_unlink", "ENOENT"),
    );
    assert.throws(() => openSharedMemory("/a/b"), isSystemError("shm_open", "EINVAL"));
  }
  Deno.removeSync(folder);
});

Deno.test("errnoName() agrees with Python's errno module", () => {
  const script = "import errno,json;print(json.dumps(errno.errorcode))";
  const python = spawnSync("python3", ["-c", script], { encoding: "utf8" });
  assert.equal(python.status, 0, python.stderr);
  const names = JSON.parse(python.stdout) as Record<string, string>;
  let known = 0;
  for (let errno = 1; errno < 134; errno++) {
    if (errnoName(errno) === String(errno)) continue;
    assert.equal(errnoName(errno), names[errno]);
    known++;
  }
  assert.ok(known >= 28, `${known} names`);
});

Deno.test("Mapping.readOnly() shows the bytes of a file", () => {
  const contents = crypto.getRandomValues(new Uint8Array(10_001));
  const path = tempFile(contents);
  using mapping = Mapping.readOnly(path);
  Deno.removeSync(path);
  assert.equal(mapping.byteLength, 10_001);
  assert.deepEqual(mapping.bytes(), contents);
  assert.deepEqual(mapping.bytes(4_000, 37), contents.subarray(4_000, 4_037));
  assert.equal(mapping.address % 4096n, 0n);
  assert.throws(() => mapping.bytes(10_000, 2), RangeError);
  assert.throws(() => mapping.bytes(-1), RangeError);
});

Deno.test("Mapping.dispose() empties views that outlive it and unmaps once", () => {
  const path = tempFile(new Uint8Array(8_192).fill(7));
  const mapping = Mapping.readOnly(path);
  const mappedNow = () => Deno.readTextFileSync("/proc/self/maps").includes(path);
  assert.ok(mappedNow());
  const view = mapping.bytes(100, 50);
  mapping[Symbol.dispose]();
  mapping[Symbol.dispose]();
  assert.equal(view.length, 0);
  assert.ok(!mappedNow());
  assert.throws(() => mapping.bytes(), TypeError);
  Deno.removeSync(path);
});

Deno.test("Mapping.readOnly() maps an empty file as nothing", () => {
  const path = tempFile(new Uint8Array());
  using mapping = Mapping.readOnly(path);
  assert.equal(mapping.bytes().length, 0);
  Deno.removeSync(path);
});

Deno.test("shared memory written here is read by another process, with the mode asked for", () => {
  const name = uniqueName();
  using memory = createSharedMemory(name, { byteLength: 1000, mode: 0o666 });
  try {
    memory.bytes().set(new TextEncoder().encode("hello, other side"), 3);
    const seen = spawnSync("cat", [`/dev/shm${name}`]).stdout;
    assert.equal(seen.length, 1000);
    assert.equal(seen.subarray(3, 20).toString(), "hello, other side");
    assert.equal(Deno.statSync(`/dev/shm${name}`).mode! & 0o777, 0o666);
  } finally {
    unlinkSharedMemory(name);
  }
});

Deno.test("openSharedMemory() sees what another process wrote, and its size", () => {
  const name = uniqueName();
  Deno.writeFileSync(`/dev/shm${name}`, new Uint8Array(5000).fill(9));
  try {
    using memory = openSharedMemory(name);
    assert.equal(memory.byteLength, 5000);
    assert.ok(memory.bytes().every((byte) => byte === 9));
    memory.bytes()[4999] = 1;
    assert.equal(Deno.readFileSync(`/dev/shm${name}`)[4999], 1);
  } finally {
    unlinkSharedMemory(name);
  }
});

Deno.test("createSharedMemory() refuses a name that is taken and leaves it alone", () => {
  const name = uniqueName();
  using _first = createSharedMemory(name, { byteLength: 10 });
  try {
    assert.throws(
      () => createSharedMemory(name, { byteLength: 20 }),
      isSystemError("shm_open", "EEXIST"),
    );
    using second = openSharedMemory(name, { isWritable: false });
    assert.equal(second.byteLength, 10);
  } finally {
    unlinkSharedMemory(name);
  }
});

Deno.test("tryLock() excludes other holders until disposed", () => {
  const path = Deno.makeTempFileSync();
  const lock = tryLock(path);
  assert.ok(lock);
  assert.equal(tryLock(path), undefined);
  const outside = spawnSync("flock", ["--nonblock", path, "true"]);
  assert.equal(outside.status, 1);
  lock[Symbol.dispose]();
  assert.equal(spawnSync("flock", ["--nonblock", path, "true"]).status, 0);
  Deno.removeSync(path);
});

Deno.test("tryLock() lets shared holders in together and creates its file with the mode asked for", () => {
  const folder = Deno.makeTempDirSync();
  using _cleanup = { [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }) };
  const path = `${folder}/lock`;
  using first = tryLock(path, { isShared: true, mode: 0o666 });
  using second = tryLock(path, { isShared: true });
  assert.ok(first && second);
  assert.equal(tryLock(path), undefined);
  assert.equal(Deno.statSync(path).mode! & 0o777, 0o666);
});

Deno.test("setProcessAffinity() restricts every thread of the process", () => {
  const before = getAffinity();
  const allowed = () =>
    [...Deno.readDirSync("/proc/self/task")].map(({ name }) =>
      /Cpus_allowed_list:\s*(\S+)/.exec(Deno.readTextFileSync(`/proc/self/task/${name}/status`))![1]
    );
  try {
    setProcessAffinity([before[0]!]);
    assert.deepEqual(getAffinity(), [before[0]]);
    assert.deepEqual(new Set(allowed()), new Set([String(before[0])]));
  } finally {
    setProcessAffinity(before);
  }
  assert.deepEqual(getAffinity(), before);
});

Deno.test("setProcessAffinity() refuses processors that do not exist", () => {
  assert.throws(() => setProcessAffinity([8191]), isSystemError("sched_setaffinity", "EINVAL"));
  assert.throws(() => setProcessAffinity([-1]), RangeError);
  assert.throws(() => setProcessAffinity([1.5]), RangeError);
});

Deno.test("Mapping.anonymous() gives zeroed memory that copyFrom() fills off the thread", async () => {
  using memory = Mapping.anonymous(1 << 20);
  assert.ok(memory.bytes().every((byte) => byte === 0));
  const source = Uint8Array.from({ length: 300_001 }, (_, index) => index % 251);
  await memory.copyFrom(source, 12_345);
  assert.deepEqual(memory.bytes(12_345, source.length), source);
  assert.equal(memory.bytes(12_344, 1)[0], 0);
  await memory.copyFrom(new Uint8Array(), 1 << 20);
  await assert.rejects(memory.copyFrom(source, (1 << 20) - 5), RangeError);
});

Deno.test("SharedObject locks, claims its space, and knows when its name was taken away", async () => {
  const name = uniqueName();
  using first = SharedObject.create(name, 0o640);
  try {
    assert.equal(Deno.statSync(`/dev/shm${name}`).mode! & 0o777, 0o640);
    assert.throws(() => SharedObject.create(name, 0o600), isSystemError("shm_open", "EEXIST"));
    await first.reserve(70_000);
    assert.equal(first.byteLength, 70_000);
    using second = SharedObject.open(name);
    assert.ok(first.tryLock({ isShared: false }));
    assert.equal(second.tryLock({ isShared: true }), false);
    assert.ok(first.tryLock({ isShared: true }), "from exclusive to shared");
    assert.ok(second.tryLock({ isShared: true }));
    assert.equal(second.tryLock({ isShared: false }), false);
    using written = first.map(70_000, true);
    using read = second.map(70_000, false);
    written.bytes()[69_999] = 7;
    assert.equal(read.bytes()[69_999], 7);
    assert.ok(second.isLinked());
  } finally {
    unlinkSharedMemory(name);
  }
  assert.equal(first.isLinked(), false);
  assert.throws(() => SharedObject.open(name), isSystemError("shm_open", "ENOENT"));
  using another = SharedObject.create(name, 0o600);
  unlinkSharedMemory(name);
  assert.equal(another.isLinked() || first.isLinked(), false);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { UnavailableError } from "../errors.ts";
import { Logger } from "../log.ts";
import {
  type CachedProgram,
  type ExecutableCache,
  type ExecutableCacheOptions,
  openExecutableCache,
} from "./executable_cache.ts";
import { HEADER_BYTES } from "./executable_cache/entry.ts";
import { executableKey } from "./executable_cache/key.ts";
import { MockBackend, type MockBackendOptions, type MockDefinition } from "./mock_backend.ts";

const identity: MockDefinition = {
  parameters: [{ datatype: "UINT8", shape: [1] }],
  results: [{ datatype: "UINT8", shape: [1] }],
  compute: ([x]) => [x!],
};
/** What the mock serializes is the program's name: its length is the payload's. */
const names = ["a", "b", "c", "d"].map((letter) => letter.repeat(1000));
const [nameA, nameB] = names as [string, string];
const ENTRY_BYTES = HEADER_BYTES + 1000;
const code = (name: string) => new TextEncoder().encode(name);

/** A cache over a mock, with what it logged; closing it waits for the disk. */
async function open(
  directory: string,
  options: Partial<ExecutableCacheOptions> & { mock?: Partial<MockBackendOptions> } = {},
) {
  const programs = Object.fromEntries([...names, "tiny"].map((name) => [name, identity]));
  const backend = new MockBackend({ programs, ...options.mock });
  const logged: string[] = [];
  const logger = new Logger({ level: "info", write: (line) => logged.push(line.slice(25)) });
  const cache = await openExecutableCache({
    directory,
    maxBytes: 0,
    backend,
    deviceOrdinal: 0,
    logger,
    ...options,
  });
  return { cache: cache!, backend, logged, [Symbol.asyncDispose]: () => close(cache) };
}

async function close(cache: ExecutableCache | undefined): Promise<void> {
  await cache?.[Symbol.asyncDispose]();
}

/** Opens a cache, loads these programs in turn, and closes it again. */
async function start(
  directory: string,
  programs: readonly string[],
  options: Parameters<typeof open>[1] = {},
) {
  await using opened = await open(directory, options);
  const cached: boolean[] = [];
  for (const name of programs) {
    const { program, isCached }: CachedProgram = await opened.cache.load(code(name));
    cached.push(isCached);
    assert.deepEqual(program.signature.parameters, identity.parameters);
    program[Symbol.dispose]();
  }
  await close(opened.cache);
  assert.equal(opened.backend.liveHandles().executable, 0);
  return { cached, ...opened, reading: opened.cache.reading() };
}

async function temporaryFolder(): Promise<{ path: string; entries: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  return {
    path,
    entries: join(path, "executables"),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

/** File names in the cache, sorted. */
function filesIn(folder: { entries: string }): string[] {
  return [...Deno.readDirSync(folder.entries)].map(({ name }) => name).sort();
}

/** The only entry in the cache. */
function onlyEntry(folder: { entries: string }): string {
  const files = filesIn(folder);
  assert.equal(files.length, 1);
  assert.match(files[0]!, /^[0-9a-f]{64}\.executable$/);
  return join(folder.entries, files[0]!);
}

Deno.test("load() compiles a program once and loads it ever after", async () => {
  await using folder = await temporaryFolder();
  const first = await start(folder.path, [nameA]);
  assert.deepEqual(first.cached, [false]);
  const second = await start(folder.path, [nameA, nameA]);
  assert.deepEqual(second.cached, [true, true]);
  assert.deepEqual(
    [second.backend.calls.compile, second.backend.calls.deserialize],
    [0, 2],
  );
  assert.deepEqual(second.reading, {
    hits: 2,
    misses: 0,
    errors: { damaged: 0, unreadable: 0, refused: 0, unwritten: 0 },
    bytes: ENTRY_BYTES,
  });
  assert.equal(first.reading.misses, 1);
  assert.equal(first.reading.bytes, ENTRY_BYTES);
  assert.deepEqual([...first.logged, ...second.logged], []);
});

Deno.test("an entry is private to the user, also under an open umask", async () => {
  await using folder = await temporaryFolder();
  const umask = Deno.umask(0);
  try {
    await start(join(folder.path, "deep/er"), [nameA]);
  } finally {
    Deno.umask(umask);
  }
  const entries = join(folder.path, "deep/er/executables");
  const bits = (path: string) => Deno.statSync(path).mode! & 0o777;
  assert.equal(bits(entries), 0o700);
  assert.equal(bits(onlyEntry({ entries })), 0o600);
});

Deno.test("load() compiles anew for whatever changes what compiling gives", async () => {
  await using folder = await temporaryFolder();
  const count = async (
    options: Parameters<typeof open>[1],
    settings: Parameters<ExecutableCache["load"]>[1] = {},
    name = nameA,
  ) => {
    await using opened = await open(folder.path, options);
    const { isCached, program } = await opened.cache.load(code(name), settings);
    program[Symbol.dispose]();
    return isCached;
  };
  const changes: Parameters<typeof count>[] = [
    [{}],
    [{}, {}, nameB],
    [{ mock: { fingerprint: "another build" } }],
    [{ mock: { deviceKind: "another kind" } }],
    [{ mock: { platform: "cuda" } }],
    [{ deviceOrdinal: 1 }],
    [{}, { autotuneLevel: 0 }],
    [{}, { overrides: { xla_a: true, xla_b: 1 } }],
    [{}, { overrides: { xla_a: true, xla_b: "1" } }],
    [{}, { overrides: { xla_a: false, xla_b: 1 } }],
  ];
  for (const change of changes) assert.equal(await count(...change), false);
  for (const change of changes) assert.equal(await count(...change), true);
  assert.equal(filesIn(folder).length, changes.length);
  // The order of overrides changes nothing.
  assert.equal(await count({}, { overrides: { xla_b: 1, xla_a: true } }), true);
  const flags = Deno.env.get("XLA_FLAGS");
  Deno.env.set("XLA_FLAGS", "--xla_some_flag=1");
  try {
    assert.equal(await count({}), false);
  } finally {
    if (flags === undefined) Deno.env.delete("XLA_FLAGS");
    else Deno.env.set("XLA_FLAGS", flags);
  }
});

/** A damaged entry must be found out before the plugin sees it, told of, and replaced. */
async function assertReplaced(
  folder: { path: string; entries: string },
  name: string,
  what: string,
  problem = "damaged",
): Promise<string> {
  const { cached, backend, logged, reading } = await start(folder.path, [name]);
  assert.deepEqual(cached, [false], what);
  assert.equal(backend.calls.deserialize, 0, what);
  assert.equal(backend.calls.compile, 1, what);
  assert.equal(logged.length, 1, what);
  assert.match(logged[0]!, /^WARN .*cannot be used and is compiled again/, what);
  assert.equal(reading.errors[problem as "damaged"], 1, what);
  const again = await start(folder.path, [name]);
  assert.deepEqual(again.cached, [true], what);
  return logged[0]!;
}

Deno.test("an entry with any one byte changed never reaches the plugin", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, ["tiny"]);
  const path = onlyEntry(folder);
  const good = Deno.readFileSync(path);
  assert.equal(good.length, HEADER_BYTES + 4);
  for (let at = 0; at < good.length; at++) {
    const bad = good.slice();
    bad[at]! ^= 1 << (at % 8);
    Deno.writeFileSync(path, bad);
    await assertReplaced(folder, "tiny", `byte ${at}`);
    assert.deepEqual(Deno.readFileSync(path), good, `byte ${at}`);
  }
});

Deno.test("an entry cut off anywhere, or longer than written, never reaches the plugin", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, ["tiny"]);
  const path = onlyEntry(folder);
  const good = Deno.readFileSync(path);
  for (let length = 0; length < good.length; length++) {
    Deno.writeFileSync(path, good.subarray(0, length));
    await assertReplaced(folder, "tiny", `${length} bytes`);
  }
  for (const extra of [1, good.length, 100_000]) {
    Deno.writeFileSync(path, new Uint8Array([...good, ...new Uint8Array(extra)]));
    await assertReplaced(folder, "tiny", `${extra} bytes too many`);
  }
});

Deno.test("an entry of another program or of another build of the plugin is not taken", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  const pathA = onlyEntry(folder);
  const entryA = Deno.readFileSync(pathA);
  await start(folder.path, [nameA], { mock: { fingerprint: "another build" } });
  const foreign = filesIn(folder).map((name) => join(folder.entries, name))
    .find((path) => path !== pathA)!;
  Deno.copyFileSync(foreign, pathA);
  assert.match(await assertReplaced(folder, nameA, "another build"), /it holds another program/);
  // Its header made to claim the right program, digest and all: the build is told apart by itself.
  const claimed = Deno.readFileSync(foreign);
  claimed.set(entryA.subarray(8, 40), 8);
  const digest = await crypto.subtle.digest("SHA-256", claimed.slice(0, 112));
  claimed.set(new Uint8Array(digest), 112);
  Deno.writeFileSync(pathA, claimed);
  assert.match(await assertReplaced(folder, nameA, "claim"), /another build of the plugin/);
});

Deno.test("what is no regular file is neither opened nor waited for", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  const path = onlyEntry(folder);
  Deno.removeSync(path);
  Deno.symlinkSync("/dev/zero", path);
  assert.match(await assertReplaced(folder, nameA, "link"), /no regular file/);
  Deno.removeSync(path);
  assert.ok((await new Deno.Command("mkfifo", { args: [path] }).output()).success);
  assert.match(await assertReplaced(folder, nameA, "pipe"), /no regular file/);
  Deno.removeSync(path);
  Deno.mkdirSync(join(path, "full"), { recursive: true });
  // A folder with something in it stays where it is; the program is compiled every time.
  const { cached, reading } = await start(folder.path, [nameA]);
  assert.deepEqual(cached, [false]);
  assert.deepEqual([reading.errors.damaged, reading.errors.unwritten], [1, 1]);
});

Deno.test("an entry that the plugin refuses is compiled again", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  await using opened = await open(folder.path);
  opened.backend.failNext("deserialize", new Error("no such custom call"));
  const { isCached, program } = await opened.cache.load(code(nameA));
  program[Symbol.dispose]();
  assert.equal(isCached, false);
  assert.equal(opened.cache.reading().errors.refused, 1);
  assert.match(opened.logged[0]!, /problem=refused reason="no such custom call"/);
  await close(opened.cache);
  assert.deepEqual((await start(folder.path, [nameA])).cached, [true]);
});

Deno.test("a closing client costs no entry", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  await using opened = await open(folder.path);
  opened.backend.failNext("deserialize", new UnavailableError("the client is shutting down"));
  await assert.rejects(opened.cache.load(code(nameA)), UnavailableError);
  assert.deepEqual(opened.logged, []);
  assert.deepEqual((await start(folder.path, [nameA])).cached, [true]);
});

Deno.test("a program that does not compile leaves nothing behind", async () => {
  await using folder = await temporaryFolder();
  await using opened = await open(folder.path);
  await assert.rejects(opened.cache.load(code("unknown")), /no mock program/);
  await close(opened.cache);
  assert.deepEqual(filesIn(folder), []);
});

Deno.test("what was not used for longest goes when the cache is larger than allowed", async () => {
  await using folder = await temporaryFolder();
  const [a, b, c, d] = names as [string, string, string, string];
  const maxBytes = 3 * ENTRY_BYTES;
  await start(folder.path, [a, b, c], { maxBytes });
  const used = (name: string, minute: number) => {
    // Entries are found by content: the payload is the program's name.
    const path = filesIn(folder).map((file) => join(folder.entries, file))
      .find((file) => Deno.readTextFileSync(file).endsWith(name))!;
    Deno.utimeSync(path, 60 * minute, 60 * minute);
  };
  used(a, 1);
  used(b, 2);
  used(c, 3);
  // Loading is using: `a` is the newest now, `b` has to make room for `d`.
  assert.deepEqual((await start(folder.path, [a, d], { maxBytes })).cached, [true, false]);
  assert.equal(filesIn(folder).length, 3);
  const { cached, reading } = await start(folder.path, [a, c, d], { maxBytes });
  assert.deepEqual(cached, [true, true, true]);
  assert.equal(reading.bytes, maxBytes);
  assert.deepEqual((await start(folder.path, [b], { maxBytes })).cached, [false]);

  // A smaller bound holds from the next start on, and one that is too small keeps nothing.
  assert.equal(
    (await start(folder.path, [], { maxBytes: ENTRY_BYTES })).reading.bytes,
    ENTRY_BYTES,
  );
  assert.equal(filesIn(folder).length, 1);
  await start(folder.path, [], { maxBytes: ENTRY_BYTES - 1 });
  const none = await start(folder.path, [a, b], { maxBytes: ENTRY_BYTES - 1 });
  assert.deepEqual(none.cached, [false, false]);
  assert.equal(none.reading.bytes, 0);
  assert.equal(none.reading.errors.unwritten, 0);
  assert.deepEqual(filesIn(folder), []);
});

Deno.test("files that are not the cache's are left alone and not counted", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  for (const name of ["README", "x.executable", "core"]) {
    Deno.writeFileSync(join(folder.entries, name), new Uint8Array(100_000));
  }
  const { cached } = await start(folder.path, [nameA, nameB], { maxBytes: 2 * ENTRY_BYTES });
  assert.deepEqual(cached, [true, false]);
  assert.equal(filesIn(folder).length, 5);
});

Deno.test("temporary files of writers that are gone are removed, those of live ones are not", async () => {
  await using folder = await temporaryFolder();
  await start(folder.path, [nameA]);
  const temporary = () => `${onlyName.slice(0, 64)}.${crypto.randomUUID()}.temporary`;
  const onlyName = filesIn(folder)[0]!;
  const left = join(folder.entries, temporary());
  const live = join(folder.entries, temporary());
  Deno.writeFileSync(left, new Uint8Array(500));
  using writer = Deno.openSync(live, { write: true, createNew: true });
  writer.lockSync(true);
  writer.writeSync(new Uint8Array(700));
  const { logged, reading } = await start(folder.path, [nameA]);
  assert.match(logged.join(), /unfinished files .*files=1$/);
  assert.equal(reading.bytes, ENTRY_BYTES + 700);
  assert.deepEqual(filesIn(folder), [onlyName, live.slice(folder.entries.length + 1)].sort());
});

Deno.test("a disk that is full costs the cache and nothing else, and is told of once", async () => {
  await using folder = await temporaryFolder();
  let free = 1500;
  const calls = {
    // As a full disk does: what still fits is written, then comes the error.
    write(file: Deno.FsFile, bytes: Uint8Array): Promise<number> {
      if (free === 0) {
        const error = new Error("No space left on device (os error 28)");
        return Promise.reject(Object.assign(error, { code: "ENOSPC" }));
      }
      const part = bytes.subarray(0, free);
      free -= part.length;
      return file.write(part);
    },
  };
  const { cached, logged, reading } = await start(folder.path, names, { calls });
  assert.deepEqual(cached, [false, false, false, false]);
  assert.deepEqual(logged, [
    `WARN  a compiled program could not be cached folder=${folder.entries} ` +
    'reason="No space left on device (os error 28)"',
  ]);
  assert.equal(reading.errors.unwritten, 3);
  assert.equal(reading.bytes, ENTRY_BYTES);
  // Nothing half-written is left, and what fitted is good.
  assert.equal(filesIn(folder).length, 1);
  assert.deepEqual((await start(folder.path, [nameA], { calls })).cached, [true]);
  assert.equal(filesIn(folder).length, 1);
});

Deno.test("a cache that is cleared while it is in use goes on", async () => {
  await using folder = await temporaryFolder();
  await using opened = await open(folder.path);
  (await opened.cache.load(code(nameA))).program[Symbol.dispose]();
  while (opened.cache.reading().bytes === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await Deno.remove(folder.path, { recursive: true });
  (await opened.cache.load(code(nameB))).program[Symbol.dispose]();
  await close(opened.cache);
  assert.deepEqual((await start(folder.path, [nameB])).cached, [true]);
});

Deno.test("a folder that cannot be had is a warning, and there is no cache", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "file");
  Deno.writeTextFileSync(file, "");
  const link = join(folder.path, "elsewhere");
  Deno.mkdirSync(link);
  Deno.symlinkSync(folder.path, join(link, "executables"));
  for (const [directory, reason] of [[file, /Not a directory/i], [link, /is no folder/]] as const) {
    const { cache, logged } = await open(directory);
    assert.equal(cache, undefined);
    assert.equal(logged.length, 1);
    assert.match(logged[0]!, /^WARN +compiled programs are not cached/);
    assert.match(logged[0]!, reason);
  }
});

Deno.test("a folder that others could write to is closed to them", async () => {
  await using folder = await temporaryFolder();
  Deno.mkdirSync(folder.entries);
  Deno.chmodSync(folder.entries, 0o777);
  await start(folder.path, [nameA]);
  assert.equal(Deno.statSync(folder.entries).mode! & 0o777, 0o700);
});

Deno.test({
  name: "a folder of another user is not trusted",
  // Only root can give files away.
  ignore: Deno.uid() !== 0,
  async fn() {
    await using folder = await temporaryFolder();
    Deno.mkdirSync(folder.entries);
    Deno.chownSync(folder.entries, 12345, 12345);
    const { cache, logged } = await open(folder.path);
    assert.equal(cache, undefined);
    assert.match(logged[0]!, /belongs to user 12345/);
  },
});

Deno.test("executableKey() tells processor counts apart where the compiler makes use of them", async () => {
  const keyOf = async (platform: string, processors: number) => {
    const backend = { platform, deviceKind: "kind", fingerprint: "build" };
    const compiler = { backend, deviceOrdinal: 0, xlaFlags: "", processors };
    return (await executableKey(code(nameA), {}, compiler)).join();
  };
  assert.notEqual(await keyOf("cpu", 1), await keyOf("cpu", 2));
  assert.equal(await keyOf("cuda", 1), await keyOf("cuda", 2));
});

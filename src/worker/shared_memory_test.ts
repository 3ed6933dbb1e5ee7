import assert from "node:assert/strict";
import { isSameIpcNamespace, SharedMemory } from "./shared_memory.ts";

/** An object of 16 bytes, 0…15, removed at the end. */
function object(): { key: string; path: string } & Disposable {
  const path = Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "reactant-test-" });
  Deno.writeFileSync(path, Uint8Array.from({ length: 16 }, (_, index) => index));
  return {
    key: path.replace("/dev/shm", ""),
    path,
    [Symbol.dispose]: () => {
      try {
        Deno.removeSync(path);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    },
  };
}

const whole = (name: string, key: string) => ({ name, key, offset: 0n, byteSize: 16n });

Deno.test("read() and write() address a region relative to its own offset", () => {
  using shared = object();
  using regions = new SharedMemory();
  regions.register({ name: "r", key: shared.key, offset: 4n, byteSize: 8n });
  const read = regions.read({ region: "r", offset: 2, byteSize: 3 }, "input");
  assert.deepEqual([...read], [6, 7, 8]);
  regions.write({ region: "r", offset: 0, byteSize: 8 }, new Uint8Array([99, 98]), "output");
  assert.deepEqual([...Deno.readFileSync(shared.path).subarray(3, 7)], [3, 99, 98, 6]);
});

Deno.test("ranges outside the region are refused, unknown regions with their own status", () => {
  using shared = object();
  using regions = new SharedMemory();
  regions.register(whole("r", shared.key));
  const bad = { region: "r", offset: 10, byteSize: 7 };
  assert.throws(() => regions.read(bad, 'input "x"'), { status: "INVALID_ARGUMENT" });
  assert.throws(() => regions.check(bad, 'output "y"'), { status: "INVALID_ARGUMENT" });
  assert.throws(() => regions.read({ region: "q", offset: 0, byteSize: 1 }, 'input "x"'), {
    status: "FAILED_PRECONDITION",
    message: /unregistered shared memory region/,
  });
});

Deno.test("register() refuses names, keys and ranges that cannot work", () => {
  using shared = object();
  using regions = new SharedMemory();
  const cases: [region: Parameters<SharedMemory["register"]>[0], message: RegExp][] = [
    [whole("", shared.key), /needs a name/],
    [whole("r", ""), /no object name/],
    [whole("r", "/../../etc/passwd"), /no object name/],
    [whole("r", "/.."), /no object name/],
    [whole("r", "/no-such-object"), /cannot be opened/],
    [{ ...whole("r", shared.key), byteSize: 0n }, /byte_size is 0/],
    [{ ...whole("r", shared.key), byteSize: 17n }, /has 16 bytes/],
    [{ ...whole("r", shared.key), offset: 2n ** 64n - 1n }, /has 16 bytes/],
  ];
  for (const [region, message] of cases) {
    assert.throws(() => regions.register(region), { status: "INVALID_ARGUMENT", message });
  }
  assert.deepEqual(regions.status(), []);
});

Deno.test("an object that shrinks or vanishes is an error of the request, never a crash", () => {
  using shared = object();
  using regions = new SharedMemory();
  regions.register(whole("r", shared.key));
  Deno.truncateSync(shared.path, 4);
  const reference = { region: "r", offset: 0, byteSize: 16 };
  assert.throws(() => regions.read(reference, "input"), /has shrunk/);
  assert.throws(() => regions.write(reference, new Uint8Array(16), "output"), /has shrunk/);
  assert.equal(Deno.statSync(shared.path).size, 4);
  assert.deepEqual([...regions.read({ region: "r", offset: 1, byteSize: 2 }, "input")], [1, 2]);
  Deno.removeSync(shared.path);
  assert.deepEqual([...regions.read({ region: "r", offset: 1, byteSize: 2 }, "input")], [1, 2]);
});

Deno.test("register() replaces, unregister() forgets, status() lists", () => {
  using shared = object();
  using regions = new SharedMemory();
  regions.register(whole("r", shared.key));
  regions.register({ ...whole("r", shared.key), byteSize: 8n });
  regions.register(whole("s", shared.key));
  assert.deepEqual(regions.status().map(({ name, byteSize }) => [name, byteSize]), [
    ["r", 8],
    ["s", 16],
  ]);
  assert.deepEqual(regions.status("nobody"), []);
  regions.unregister("nobody");
  regions.unregister("r");
  assert.deepEqual(regions.status("r"), []);
  regions.unregisterAll();
  assert.deepEqual(regions.status(), []);
});

Deno.test("isSameIpcNamespace() is true only for an object that can be opened here", () => {
  using shared = object();
  assert.equal(isSameIpcNamespace(shared.key), true);
  assert.equal(isSameIpcNamespace("/no-such-object"), false);
  assert.equal(isSameIpcNamespace(""), false);
  assert.equal(isSameIpcNamespace("/../shm"), false);
});

Deno.test("a link among the shared-memory objects leads nowhere", () => {
  using shared = object();
  using regions = new SharedMemory();
  const outside = Deno.makeTempFileSync();
  const link = `${shared.path}-link`;
  Deno.writeFileSync(outside, new Uint8Array(16));
  try {
    for (const target of [outside, shared.path]) {
      Deno.symlinkSync(target, link);
      const key = link.replace("/dev/shm", "");
      assert.throws(() => regions.register(whole("r", key)), /no shared-memory object/);
      assert.equal(isSameIpcNamespace(key), false);
      Deno.removeSync(link);
    }
  } finally {
    Deno.removeSync(outside);
  }
});

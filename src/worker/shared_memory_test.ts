import assert from "node:assert/strict";
import type { SharedMemoryReference } from "../protocol/mod.ts";
import { type Datatype, DATATYPES } from "../tensor/mod.ts";
import { isSameIpcNamespace, SharedMemory, type SharedMemoryOptions } from "./shared_memory.ts";

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

/** Reads as a request does that is done with what it has read. */
function read(
  regions: SharedMemory,
  reference: SharedMemoryReference,
  what = "input",
  datatype: Datatype = "FP32",
): number[] {
  const use = regions.use(true);
  try {
    const found = [...use.read(reference, what, datatype)];
    use.verifyInputs();
    return found;
  } finally {
    use.release();
  }
}

function write(regions: SharedMemory, reference: SharedMemoryReference, data: Uint8Array): void {
  const use = regions.use(true);
  try {
    use.place("y", reference, 'output "y"');
    use.write(reference, data);
  } finally {
    use.release();
  }
}

/** What must hold whether or not regions can be mapped. */
function testBoth(name: string, run: (options: SharedMemoryOptions) => void): void {
  Deno.test(`${name}, mapped`, () => run({}));
  Deno.test(`${name}, through the descriptor`, () => run({ maxMapped: 0 }));
}

testBoth("a request addresses a region relative to its own offset", (options) => {
  using shared = object();
  using regions = new SharedMemory(options);
  regions.register({ name: "r", key: shared.key, offset: 4n, byteSize: 8n });
  assert.deepEqual(read(regions, { region: "r", offset: 2, byteSize: 3 }), [6, 7, 8]);
  write(regions, { region: "r", offset: 0, byteSize: 8 }, new Uint8Array([99, 98]));
  assert.deepEqual([...Deno.readFileSync(shared.path).subarray(3, 7)], [3, 99, 98, 6]);
  const small = { region: "r", offset: 0, byteSize: 1 };
  assert.throws(() => write(regions, small, new Uint8Array(2)), {
    status: "INVALID_ARGUMENT",
    message: /output "y" has 2 bytes; its shared-memory slot holds 1/,
  });
});

testBoth(
  "ranges outside the region are refused, unknown regions with their own status",
  (options) => {
    using shared = object();
    using regions = new SharedMemory(options);
    regions.register(whole("r", shared.key));
    const bad = { region: "r", offset: 10, byteSize: 7 };
    assert.throws(() => read(regions, bad), { status: "INVALID_ARGUMENT" });
    assert.throws(() => write(regions, bad, new Uint8Array(1)), { status: "INVALID_ARGUMENT" });
    assert.throws(() => read(regions, { region: "q", offset: 0, byteSize: 1 }), {
      status: "FAILED_PRECONDITION",
      message: /unregistered shared memory region/,
    });
  },
);

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

testBoth(
  "an object that shrinks or vanishes is an error of the request, never a crash",
  (options) => {
    using shared = object();
    using regions = new SharedMemory(options);
    regions.register(whole("r", shared.key));
    Deno.truncateSync(shared.path, 4);
    const reference = { region: "r", offset: 0, byteSize: 16 };
    assert.throws(() => read(regions, reference), /has shrunk/);
    assert.throws(() => write(regions, reference, new Uint8Array(16)), /has shrunk/);
    assert.equal(Deno.statSync(shared.path).size, 4);
    assert.deepEqual(read(regions, { region: "r", offset: 1, byteSize: 2 }), [1, 2]);
    Deno.removeSync(shared.path);
    assert.deepEqual(read(regions, { region: "r", offset: 1, byteSize: 2 }), [1, 2]);
  },
);

const PAGES = 16 * 4096;
const large = (key: string) => ({ name: "r", key, offset: 0n, byteSize: BigInt(PAGES) });

/** An object of `PAGES` bytes, all 7. */
function largeObject(): ReturnType<typeof object> {
  const shared = object();
  Deno.writeFileSync(shared.path, new Uint8Array(PAGES).fill(7));
  return shared;
}

Deno.test("floating-point inputs are the client's memory, others and those of hooks are copies", () => {
  using shared = largeObject();
  using regions = new SharedMemory();
  regions.register(large(shared.key));
  const reference = { region: "r", offset: 64, byteSize: PAGES - 64 };
  const seesWrites = (isDirect: boolean, datatype: Datatype, range = reference) => {
    const use = regions.use(isDirect);
    const data = use.read(range, "input", datatype);
    assert.equal(data.length, range.byteSize);
    assert.deepEqual([...data.subarray(0, 1)], [7]);
    using file = Deno.openSync(shared.path, { write: true });
    file.seekSync(range.offset, Deno.SeekMode.Start);
    file.writeSync(Uint8Array.of(8));
    const isView = data[0] === 8;
    file.seekSync(range.offset, Deno.SeekMode.Start);
    file.writeSync(Uint8Array.of(7));
    use.release();
    return isView;
  };
  for (const { datatype } of DATATYPES) {
    const isFloat = ["FP16", "BF16", "FP32", "FP64"].includes(datatype);
    assert.equal(seesWrites(true, datatype), isFloat, datatype);
    assert.equal(seesWrites(false, datatype), false);
  }
  // Read in place from here, it would be copied once more by the device.
  assert.equal(seesWrites(true, "FP32", { ...reference, offset: 60 }), false);
  assert.equal(seesWrites(true, "FP32", { ...reference, offset: 60, byteSize: 100 }), true);
});

Deno.test("outputs go straight into regions where nothing else of the request lies", () => {
  using shared = largeObject();
  using regions = new SharedMemory();
  regions.register(large(shared.key));
  regions.register({ ...large(shared.key), name: "later", offset: 4096n, byteSize: 8192n });
  const targets = (places: [string, SharedMemoryReference][], inputs: SharedMemoryReference[]) => {
    const use = regions.use(true);
    for (const reference of inputs) use.read(reference, "input", "FP32");
    for (const [name, reference] of places) use.place(name, reference, name);
    const names = [...use.targets((name) => name !== "twice")?.keys() ?? []];
    use.release();
    return names.join();
  };
  const at = (offset: number, byteSize = 1000, region = "r") => ({ region, offset, byteSize });
  assert.equal(targets([["a", at(0)], ["b", at(1008)]], [at(2048)]), "a,b");
  assert.equal(targets([["a", at(0)], ["b", at(992)]], []), "");
  assert.equal(targets([["a", at(0)], ["b", at(1008)]], [at(1500)]), "a");
  assert.equal(targets([["a", at(4096)], ["b", at(0, 16, "later")]], []), "");
  assert.equal(targets([["a", at(0)], ["b", at(0, 16, "later")]], []), "a,b");
  assert.equal(targets([["a", at(8)], ["twice", at(2048)]], []), "");
  const use = regions.use(false);
  use.place("a", at(0), "a");
  assert.equal(use.targets(() => true), undefined);
  use.release();
});

Deno.test("a region cut off under a request fails it, is copied from then on, and its neighbour is not", () => {
  using shared = largeObject();
  using other = largeObject();
  using regions = new SharedMemory();
  regions.register(large(shared.key));
  regions.register({ ...large(other.key), name: "other" });
  const reference = { region: "r", offset: 0, byteSize: PAGES };
  const [cut, spared, written] = [regions.use(true), regions.use(true), regions.use(true)];
  const data = cut.read(reference, 'input "x"', "FP32");
  const neighbour = spared.read({ ...reference, region: "other" }, "input", "FP32");
  written.place("y", reference, 'output "y"');
  const target = written.targets(() => true)!.get("y")!;
  Deno.truncateSync(shared.path, 4096);
  // Grown again before anyone looks: the size alone does not tell.
  Deno.truncateSync(shared.path, PAGES);
  Deno.truncateSync(shared.path, 2 * 4096);
  assert.equal(data[3 * 4096], 0);
  Deno.truncateSync(shared.path, PAGES);
  assert.throws(() => cut.verifyInputs(), {
    status: "INVALID_ARGUMENT",
    message: /^input "x" lies beyond the end of .*which has shrunk/,
  });
  assert.throws(() => written.write(reference, target), /^.*output "y" lies beyond.*has shrunk/);
  assert.equal(neighbour[3 * 4096], 7);
  spared.verifyInputs();
  for (const use of [cut, spared, written]) use.release();

  Deno.writeFileSync(shared.path, new Uint8Array(PAGES).fill(9));
  const late = regions.use(true);
  const copy = late.read(reference, "input", "FP32");
  assert.equal(copy.every((byte) => byte === 9), true);
  late.place("y", reference, "output");
  assert.equal(late.targets(() => true)!.size, 0);
  late.write(reference, new Uint8Array(PAGES).fill(5));
  late.release();
  assert.equal(Deno.readFileSync(shared.path).every((byte) => byte === 5), true);

  regions.register(large(shared.key));
  const anew = regions.use(true);
  const view = anew.read(reference, "input", "FP32");
  Deno.writeFileSync(shared.path, new Uint8Array(PAGES).fill(3));
  assert.equal(view[0], 3);
  anew.verifyInputs();
  anew.release();
});

Deno.test("a region lives as long as the last request that uses it, and leaves nothing behind", () => {
  using shared = largeObject();
  const countMaps = () =>
    Deno.readTextFileSync("/proc/self/maps").split("\n").filter((line) =>
      line.includes(shared.path)
    ).length;
  const countFiles = () => [...Deno.readDirSync("/proc/self/fd")].length;
  const filesBefore = countFiles();
  using regions = new SharedMemory();
  const reference = { region: "r", offset: 0, byteSize: PAGES };
  regions.register(large(shared.key));
  const first = regions.use(true);
  const view = first.read(reference, "input", "FP32");
  regions.register(large(shared.key));
  const second = regions.use(true);
  second.place("y", reference, "output");
  regions.unregister("r");
  assert.equal(countMaps(), 2);
  assert.equal(view[5], 7);
  first.verifyInputs();
  second.write(reference, new Uint8Array(PAGES).fill(1));
  assert.equal(view[5], 1);
  first.release();
  assert.equal(countMaps(), 1);
  assert.equal(view.length, 0);
  second.release();
  second.release();
  assert.equal(countMaps(), 0);
  assert.equal(countFiles(), filesBefore);

  const linesBefore = Deno.readTextFileSync("/proc/self/maps").split("\n").length;
  // More than can be mapped at once, and than can be guarded.
  for (let round = 0; round < 5_000; round++) {
    regions.register(large(shared.key));
    const use = regions.use(true);
    assert.equal(use.read(reference, "input", "FP32")[0], 1);
    use.place("y", { ...reference, byteSize: 16 }, "output");
    if (round % 3 === 0) regions.unregister("r");
    if (round % 2 === 0) use.verifyInputs();
    use.release();
  }
  regions.unregisterAll();
  assert.equal(countMaps(), 0);
  assert.equal(countFiles(), filesBefore);
  const lines = Deno.readTextFileSync("/proc/self/maps").split("\n").length;
  assert.ok(lines < linesBefore + 50, `${linesBefore} mappings became ${lines}`);
});

Deno.test("only so many regions are mapped, and the others work all the same", () => {
  using shared = largeObject();
  using regions = new SharedMemory({ maxMapped: 1 });
  const reference = (region: string) => ({ region, offset: 0, byteSize: PAGES });
  regions.register({ ...large(shared.key), name: "a" });
  regions.register({ ...large(shared.key), name: "b" });
  const isMapped = (name: string) => {
    const use = regions.use(true);
    use.place("y", reference(name), "output");
    const { size } = use.targets(() => true)!;
    use.release();
    return size === 1;
  };
  assert.deepEqual(["a", "b"].map(isMapped), [true, false]);
  assert.equal(read(regions, reference("b"))[1], 7);
  regions.unregister("a");
  regions.register({ ...large(shared.key), name: "b" });
  assert.equal(isMapped("b"), true);
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

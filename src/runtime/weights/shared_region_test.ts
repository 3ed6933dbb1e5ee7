import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { notRun } from "../../../tests/harness/not_run.ts";
import { weightFileIdentity, Weights } from "../../bundle/mod.ts";
import { silentLogger } from "../../log.ts";
import { HostStore } from "./host_store.ts";
import {
  acquireRegion,
  regionKey,
  regionName,
  type RegionRequest,
  type SharedRegion,
  sweepRegions,
} from "./shared_region.ts";

const BYTES = 100_000;

function randomKey(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(32));
}

/** A request for a region of sevens, which counts how often it had to be filled. */
function request(changes: Partial<RegionRequest> = {}): RegionRequest & { fills: number } {
  const made: RegionRequest & { fills: number } = {
    key: randomKey(),
    byteLength: BYTES,
    source: { model: "m", path: "/nowhere", identity: "none" },
    mode: 0o600,
    logger: silentLogger,
    fills: 0,
    fill: (target, start) => {
      made.fills++;
      target.bytes(start, BYTES).fill(7);
      return Promise.resolve();
    },
    ...changes,
  };
  return made;
}

function objectOf({ key }: RegionRequest): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(`/dev/shm${regionName(key)}`);
  } catch {
    return undefined;
  }
}

function isSevens(region: SharedRegion): boolean {
  return region.bytes(0, BYTES).every((byte) => byte === 7);
}

Deno.test("acquireRegion() fills once for everyone, and the last to leave removes it", async () => {
  const wanted = request();
  const regions = await Promise.all([1, 2, 3].map(() => acquireRegion(wanted)));
  assert.equal(wanted.fills, 1);
  assert.deepEqual(regions.map(({ isReused }) => isReused).toSorted(), [false, true, true]);
  for (const region of regions) {
    assert.ok(isSevens(region));
    assert.ok(objectOf(wanted));
    region[Symbol.dispose]();
    region[Symbol.dispose]();
  }
  assert.equal(objectOf(wanted), undefined);
});

Deno.test("acquireRegion() gives a region the mode asked for, whatever the umask", async () => {
  const before = Deno.umask(0o077);
  try {
    const wanted = request({ mode: 0o664 });
    using _region = await acquireRegion(wanted);
    assert.equal(objectOf(wanted)!.mode! & 0o777, 0o664);
  } finally {
    Deno.umask(before);
  }
});

Deno.test("acquireRegion() leaves nothing of a region that could not be filled", async () => {
  const wanted = request({ fill: () => Promise.reject(new Error("the file is gone")) });
  await assert.rejects(acquireRegion(wanted), /the file is gone/);
  assert.equal(objectOf(wanted), undefined);
});

Deno.test("acquireRegion() says when there is no room, and takes none", async () => {
  // More than any machine has, less than a file may have.
  const wanted = request({ byteLength: 2 ** 50 });
  await assert.rejects(acquireRegion(wanted), /posix_fallocate.*(ENOSPC|ENOMEM|EFBIG)/);
  assert.equal(objectOf(wanted), undefined);
});

Deno.test("acquireRegion() writes anew what a writer left that was killed half way", async () => {
  const wanted = request();
  const script = new URL("../../../tests/harness/region_writer.ts", import.meta.url);
  const writer = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", fileURLToPath(script), wanted.key.toHex(), String(BYTES)],
    stdout: "piped",
  }).spawn();
  const reader = writer.stdout.getReader();
  await reader.read();
  const waiting = acquireRegion(wanted);
  writer.kill("SIGKILL");
  await writer.status;
  await reader.cancel();
  using region = await waiting;
  assert.ok(isSevens(region));
  assert.deepEqual([wanted.fills, region.isReused], [1, false]);
});

Deno.test("acquireRegion() takes over what a process left complete, and not what was damaged", async () => {
  const wanted = request({ source: lasting() });
  const path = `/dev/shm${regionName(wanted.key)}`;
  /** As if the process had been killed: the object stays. */
  const leave = async () => {
    const region = await acquireRegion(wanted);
    Deno.linkSync(path, `${path}-kept`);
    region[Symbol.dispose]();
    Deno.renameSync(`${path}-kept`, path);
  };
  await leave();
  await leave();
  assert.equal(wanted.fills, 1);
  using file = Deno.openSync(path, { write: true });
  file.seekSync(50_000, Deno.SeekMode.Start);
  file.writeSync(Uint8Array.of(8));
  using region = await acquireRegion(wanted);
  assert.equal(wanted.fills, 2);
  assert.ok(isSevens(region));
});

/** A file that stays, so that a worker that starts meanwhile does not sweep its region. */
function lasting(): RegionRequest["source"] {
  const path = fileURLToPath(import.meta.url);
  return { model: "m", path, identity: weightFileIdentity(path)! };
}

/** A complete region that another process has left, with its owner and mode changed. */
async function plant(wanted: RegionRequest, { uid, mode }: { uid?: number; mode: number }) {
  const path = `/dev/shm${regionName(wanted.key)}`;
  const region = await acquireRegion({ ...wanted, mode });
  Deno.linkSync(path, `${path}-kept`);
  region[Symbol.dispose]();
  Deno.renameSync(`${path}-kept`, path);
  if (uid !== undefined) Deno.chownSync(path, uid, uid);
}

Deno.test("acquireRegion() does not take over a region that more users may write to than it is to be", async () => {
  for (const [left, mode] of [[0o666, 0o660], [0o666, 0o600], [0o660, 0o600]] as const) {
    const wanted = request({ mode });
    await plant(wanted, { mode: left });
    using region = await acquireRegion(wanted);
    assert.deepEqual([wanted.fills, region.isReused], [2, false], `${left} for ${mode}`);
    assert.equal(objectOf(wanted)!.mode! & 0o777, mode);
  }
  const wanted = request({ mode: 0o666, source: lasting() });
  await plant(wanted, { mode: 0o666 });
  using region = await acquireRegion(wanted);
  assert.equal(region.isReused, true);
});

Deno.test("acquireRegion() refuses such a region at once while it is held", async () => {
  const wanted = request({ mode: 0o660 });
  using _held = await acquireRegion({ ...wanted, mode: 0o666 });
  await assert.rejects(acquireRegion(wanted), { code: "EACCES" });
});

Deno.test("acquireRegion() does not take over another user's region unless it may be anyone's", async (t) => {
  if (Deno.uid() !== 0) {
    return await notRun(t, "only root can give a file to another user");
  }
  const nobody = 65534;
  for (const mode of [0o600, 0o660]) {
    const wanted = request({ mode });
    await plant(wanted, { uid: nobody, mode });
    using region = await acquireRegion(wanted);
    assert.equal(region.isReused, false);
    assert.equal(objectOf(wanted)!.uid, 0);
  }
  const wanted = request({ mode: 0o666, source: lasting() });
  await plant(wanted, { uid: nobody, mode: 0o666 });
  using region = await acquireRegion(wanted);
  assert.equal(region.isReused, true);
});

Deno.test("acquireRegion() does not wait for ever for a writer that does not go on", async () => {
  const [filling, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const wanted = request();
  const writer = acquireRegion({
    ...wanted,
    fill: async (target, start) => {
      filling.resolve();
      await finish.promise;
      await wanted.fill(target, start);
    },
  });
  await filling.promise;
  await assert.rejects(acquireRegion({ ...wanted, patienceMs: 50 }), { code: "EAGAIN" });
  finish.resolve();
  using region = await writer;
  assert.ok(isSevens(region));
});

Deno.test("SharedRegion.isWhole says when somebody has made it shorter", async () => {
  const wanted = request();
  using region = await acquireRegion(wanted);
  assert.equal(region.isWhole, true);
  Deno.truncateSync(`/dev/shm${regionName(wanted.key)}`, 8192);
  assert.equal(region.isWhole, false);
});

Deno.test("acquireRegion() writes anew what somebody cut short while it was written", async () => {
  let fills = 0;
  const wanted = request({
    fill: (target, start) => {
      if (++fills === 1) Deno.truncateSync(`/dev/shm${regionName(wanted.key)}`, 8192);
      target.bytes(start, BYTES).fill(7);
      return Promise.resolve();
    },
  });
  using region = await acquireRegion(wanted);
  assert.equal(fills, 2);
  assert.ok(region.isWhole && isSevens(region));
});

Deno.test("SharedRegion.isWhole remembers that something was missing when it was read", async () => {
  const wanted = request();
  using region = await acquireRegion(wanted);
  const path = `/dev/shm${regionName(wanted.key)}`;
  const { size } = Deno.statSync(path);
  Deno.truncateSync(path, 8192);
  assert.equal(isSevens(region), false);
  Deno.truncateSync(path, size);
  assert.equal(region.isWhole, false);
});

Deno.test("sweepRegions() removes what nobody has and nobody will want", async () => {
  const file = Deno.makeTempFileSync();
  const identity = weightFileIdentity(file)!;
  const source = { model: "m", path: file, identity };
  const [held, intact, gone, changed] = [
    request(),
    request({ source }),
    request(),
    request({ source: { ...source, identity: "another" } }),
  ];
  const names = [held, intact, gone, changed].map(({ key }) => `/dev/shm${regionName(key)}`);
  using _region = await acquireRegion(held);
  for (const left of [intact, gone, changed]) {
    const path = `/dev/shm${regionName(left.key)}`;
    const region = await acquireRegion(left);
    Deno.linkSync(path, `${path}-kept`);
    region[Symbol.dispose]();
    Deno.renameSync(`${path}-kept`, path);
  }
  const unfinished = `/dev/shm${regionName(randomKey())}`;
  Deno.writeFileSync(unfinished, new Uint8Array(5000));
  // A worker that starts meanwhile does the same.
  await sweepRegions();
  const isThere = (path: string) => Deno.lstatSync(path).isFile;
  assert.deepEqual(names.slice(0, 2).map(isThere), [true, true]);
  for (const path of [names[2]!, names[3]!, unfinished]) {
    assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
  }
  Deno.removeSync(file);
  await sweepRegions();
  assert.throws(() => Deno.lstatSync(names[1]!), Deno.errors.NotFound);
});

Deno.test("HostStore keeps weights in program layout, shared and private alike", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/w.safetensors`;
  const header = new TextEncoder().encode(JSON.stringify({
    __metadata__: { argument_order: '["b","a"]' },
    a: { dtype: "U8", shape: [2, 3], data_offsets: [0, 6] },
    b: { dtype: "U8", shape: [3], data_offsets: [6, 9] },
  }));
  const bytes = new Uint8Array(8 + header.length + 9);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set([1, 2, 3, 4, 5, 6, 7, 8, 9], 8 + header.length);
  Deno.writeFileSync(path, bytes);
  try {
    for (const sharedMode of [undefined, 0o600]) {
      using weights = Weights.open("m", path, "column_major");
      const store = new HostStore({ sharedMode, logger: silentLogger });
      using copy = await store.materialise("m", weights);
      assert.equal(copy.isShared, sharedMode !== undefined);
      assert.deepEqual([...copy.bytes(0)], [7, 8, 9]);
      assert.deepEqual([...copy.bytes(1)], [1, 4, 2, 5, 3, 6], "axes reversed");
      const name = `/dev/shm${regionName(await regionKey(weights.identity, weights.specs))}`;
      if (copy.isShared) assert.ok(Deno.lstatSync(name).isFile);
      else assert.throws(() => Deno.lstatSync(name), Deno.errors.NotFound);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

/** One host copy of weights for several workers, whatever becomes of them. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Weights, WEIGHTS_FILE } from "../../src/bundle/mod.ts";
import { regionKey, regionName } from "../../src/runtime/mod.ts";
import { temporaryDirectory, writeBundle } from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { startServer, type TestServer } from "../harness/server.ts";
import {
  askValue,
  weightBytesOf,
  weightedBundle,
  weightedFile,
} from "../harness/weighted_bundle.ts";

const ELEMENTS = 500_000;
const MODELS = ["a", "b"];
const ARGS = [
  ...["--device-memory-bytes", String(16 * weightBytesOf(ELEMENTS)), "--shared-host-weights"],
  ...["--shared-host-weights-mode", "666", "--log-level", "debug"],
];

async function regionOf(directory: string): Promise<string> {
  using weights = Weights.open("m", `${directory}/${WEIGHTS_FILE}`, "row_major");
  return `/dev/shm${regionName(await regionKey(weights.identity, weights.specs))}`;
}

function exists(path: string): boolean {
  try {
    return Deno.lstatSync(path).isFile;
  } catch {
    return false;
  }
}

/** How the worker came by the copy of each model. */
function sharedFrom({ events }: TestServer): unknown[] {
  const found = events.filter(({ message }) => message === "shared weights");
  return found.toSorted((a, b) => String(a.model).localeCompare(String(b.model)))
    .map(({ model, isReused }) => [model, isReused]);
}

Deno.test("two workers share one copy of weights, a killed one leaves it usable, the last one removes it", async () => {
  await using folder = await temporaryDirectory();
  const directories = await Promise.all(
    MODELS.map((name, index) =>
      writeBundle(folder.path, name, weightedBundle(index + 1, ELEMENTS))
    ),
  );
  const regions = await Promise.all(directories.map(regionOf));
  const start = () => startServer({ modelDirs: [folder.path], args: ARGS });
  const check = async (server: TestServer) => {
    await using client = connect(server);
    for (const [index, name] of MODELS.entries()) {
      assert.equal(await askValue(client, name, 1), index + 1);
    }
  };

  await using first = await start();
  const exposed = first.events.find(({ message }) =>
    /may write to the shared weights/.test(message)
  );
  assert.match(String(exposed!.remedy), /"660"/);
  await using second = await start();
  assert.deepEqual(sharedFrom(first), [["a", false], ["b", false]]);
  assert.deepEqual(sharedFrom(second), [["a", true], ["b", true]]);
  for (const region of regions) {
    const { ino, mode, size } = Deno.lstatSync(region);
    assert.equal(mode! & 0o777, 0o666);
    assert.ok(size > weightBytesOf(ELEMENTS) && size < weightBytesOf(ELEMENTS) + 10_000);
    for (const { pid } of [first, second]) {
      const maps = Deno.readTextFileSync(`/proc/${pid}/maps`).split("\n");
      const lines = maps.filter((line) => line.includes(` ${ino} `) && line.includes(region));
      assert.equal(lines.length, 1, `process ${pid} maps ${region}`);
      assert.match(lines[0]!, / r--s /, "nobody can write to it by mistake");
    }
  }
  await check(first);
  await check(second);

  for (const server of [first, second]) {
    server.kill("SIGKILL");
    await server.exited;
  }
  assert.ok(regions.every(exists), "a killed process removes nothing");
  // As a writer leaves it that was killed before it had finished.
  Deno.truncateSync(regions[1]!, 4096 + 1000);
  await using third = await start();
  assert.deepEqual(sharedFrom(third), [["a", true], ["b", false]]);
  assert.ok(third.events.some(({ message }) => /never finished are written anew/.test(message)));
  await check(third);
  third.kill("SIGTERM");
  await third.exited;
  assert.deepEqual(regions.map(exists), [false, false]);
});

/** Commands before which shared memory is small, the most faithful one first. */
const SMALL = [
  {
    how: "a tmpfs of 1 MiB in a mount namespace",
    wrap: ["unshare", "--mount", "sh", "-c"],
    before: "mount -t tmpfs -o size=1m tmpfs /dev/shm",
  },
  {
    how: "a tmpfs of 1 MiB in a user and mount namespace",
    wrap: ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"],
    before: "mount -t tmpfs -o size=1m tmpfs /dev/shm",
  },
  {
    // What is too large is refused with EFBIG, as a full folder refuses with ENOSPC.
    how: "a limit of 1 MiB on the size of files (RLIMIT_FSIZE)",
    wrap: ["sh", "-c"],
    before: "trap '' XFSZ && ulimit -f 2048",
  },
];

async function canRun(command: readonly string[]): Promise<boolean> {
  try {
    const [name, ...args] = command;
    const { success } = await new Deno.Command(name!, {
      args,
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch {
    return false;
  }
}

Deno.test("weights that shared memory has no room for are kept by the worker alone, which says why", async () => {
  await using folder = await temporaryDirectory();
  const file = `${folder.path}/${WEIGHTS_FILE}`;
  Deno.writeFileSync(file, weightedFile(1, ELEMENTS));
  const script = fileURLToPath(new URL("../harness/host_copy.ts", import.meta.url));
  for (const { how, wrap, before } of SMALL) {
    if (!await canRun([...wrap, before])) continue;
    console.log(`shared memory is made small with ${how}`);
    const [name, ...args] = wrap;
    const { stdout, stderr } = await new Deno.Command(name!, {
      args: [
        ...args,
        `${before} && exec "$0" run -A --no-check "$1" "$2"`,
        Deno.execPath(),
        script,
        file,
      ],
    }).output();
    const text = new TextDecoder().decode(stdout);
    assert.ok(text.startsWith("{"), new TextDecoder().decode(stderr));
    const { isShared, isRight, warnings, left } = JSON.parse(text);
    assert.deepEqual([isShared, isRight], [false, true]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0].message, /cannot be shared, this worker keeps a copy of its own/);
    assert.match(warnings[0].reason, /posix_fallocate .*(ENOSPC|EFBIG).*--shm-size/);
    using weights = Weights.open("m", file, "row_major");
    const region = regionName(await regionKey(weights.identity, weights.specs)).slice(1);
    assert.ok(!left.includes(region), "nothing is left of the attempt");
    return;
  }
  throw new Error("sh cannot even limit the size of files");
});

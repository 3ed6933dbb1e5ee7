import assert from "node:assert/strict";
import { snapshots } from "./reload_snapshot.ts";

/** A model folder that is a link, so that a test can put another file system in its place. */
async function withFolder(
  check: (folder: string, show: (target: string) => void, disk: string) => Promise<void>,
): Promise<void> {
  const disk = Deno.makeTempDirSync();
  const folder = `${disk}/models`;
  const show = (target: string) => {
    Deno.symlinkSync(target, `${folder}.new`);
    Deno.renameSync(`${folder}.new`, folder);
  };
  Deno.mkdirSync(`${disk}/full/bundle`, { recursive: true });
  Deno.writeTextFileSync(`${disk}/full/bundle/manifest.yaml`, "name: bundle\n");
  Deno.mkdirSync(`${disk}/empty`);
  try {
    await check(folder, show, disk);
  } finally {
    Deno.removeSync(disk, { recursive: true });
  }
}

Deno.test("snapshots() tells a mount that is gone from a folder that was emptied", async () => {
  const elsewhere = Deno.makeTempDirSync({ dir: "/dev/shm" });
  try {
    await withFolder(async (folder, show, disk) => {
      show(`${disk}/full`);
      const look = snapshots([folder], []);
      const names = async () => {
        const { models, unreadable } = await look();
        return [[...models.keys()], [...unreadable]];
      };
      assert.deepEqual(await names(), [["bundle"], []]);
      show(elsewhere);
      const gone = [[], [[folder, "what was mounted there is gone"]]];
      assert.deepEqual(await names(), gone);
      // It stays so until there is something again.
      assert.deepEqual(await names(), gone);
      show(`${disk}/full`);
      assert.deepEqual(await names(), [["bundle"], []]);
      show(`${disk}/empty`);
      assert.deepEqual(await names(), [[], []]);
      show(elsewhere);
      assert.deepEqual(await names(), [[], []]);
    });
  } finally {
    Deno.removeSync(elsewhere, { recursive: true });
  }
});

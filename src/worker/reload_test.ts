import assert from "node:assert/strict";
import { BundleError } from "../errors.ts";
import { silentLogger } from "../log.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import { ModelRegistry } from "./model_registry.ts";
import { ModelLifecycle } from "./reload.ts";
import type { ServedModel } from "./served_model.ts";

Deno.test("start() reads few bundles of a large folder at once, and tells of each", async () => {
  const names = Array.from({ length: 200 }, (_, index) => `m${index}`);
  const failed: string[] = [];
  let reading = 0;
  let most = 0;
  const lifecycle = new ModelLifecycle({
    registry: new ModelRegistry<ServedModel>(),
    scheduler: {} as Scheduler,
    loader: {
      read: async (directory) => {
        most = Math.max(most, ++reading);
        await new Promise((resolve) => setTimeout(resolve, 0));
        reading--;
        throw new BundleError(directory, "is broken");
      },
      make: () => assert.fail("nothing was read"),
    },
    logger: silentLogger,
    observer: {
      loaded: () => {},
      failed: (name) => void failed.push(name),
      renamed: () => {},
      removed: () => {},
    },
    pollSeconds: 1,
    isStopping: () => false,
  });
  const models = new Map(
    names.map((name) => [name, { directory: name, contents: name, identity: name }]),
  );
  await lifecycle.start({ models, unreadable: new Map() });
  assert.deepEqual(failed.toSorted(), names.toSorted());
  assert.ok(most > 1 && most <= 16, `${most} at once`);
});

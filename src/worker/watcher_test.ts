import assert from "node:assert/strict";
import { Logger } from "../log.ts";
import type { KnownModel, ReloadPlan } from "./reload_plan.ts";
import type { RepositorySnapshot } from "./reload_snapshot.ts";
import { Watcher } from "./watcher.ts";

const EMPTY: RepositorySnapshot = { models: new Map(), unreadable: new Map() };

function holding(...names: string[]): RepositorySnapshot {
  const models = names.map((name) =>
    [name, { directory: `/m/${name}`, contents: "1", identity: name }] as const
  );
  return { models: new Map(models), unreadable: new Map() };
}

/** A watcher over folders that a test sets, with what it logged and what it asked for. */
function watching(look: () => Promise<RepositorySnapshot>, pollSeconds = 1000) {
  const logged: string[] = [];
  const plans: ReloadPlan[] = [];
  const logger = new Logger({
    format: "json",
    write: (line) => logged.push(JSON.parse(line).message),
  });
  const known = new Map<string, KnownModel>();
  const lifecycle = {
    known,
    busy: new Set<string>(),
    apply: (plan: ReloadPlan) => {
      plans.push(plan);
      return Promise.resolve();
    },
  };
  const watcher = new Watcher({ look, baseline: EMPTY, lifecycle, pollSeconds, logger });
  return { watcher, logged, plans };
}

Deno.test("poll() hands over what two looks have seen, and goes on after one that failed", async () => {
  const looks = [
    () => Promise.resolve(holding("a")),
    () => Promise.reject(new Error("the disk is away")),
    () => Promise.resolve(holding("a")),
  ];
  const { watcher, logged, plans } = watching(() => looks.shift()!());
  for (let i = 0; i < 3; i++) await watcher.poll();
  assert.deepEqual(plans.map(({ loads }) => loads.map(({ name }) => name)), [[], ["a"]]);
  assert.deepEqual(logged, ["the model folders could not be looked through"]);
});

Deno.test("poll() tells of a folder that cannot be read once, and once when it can again", async () => {
  const broken = { models: new Map(), unreadable: new Map([["/m", "stale file handle"]]) };
  const looks = [broken, broken, EMPTY, EMPTY];
  const { watcher, logged } = watching(() => Promise.resolve(looks.shift()!));
  for (let i = 0; i < 4; i++) await watcher.poll();
  assert.deepEqual(logged, ["A model folder cannot be read", "a model folder can be read again"]);
});

Deno.test("a watcher that is stopped ends at once, also in the middle of a look", async () => {
  const look = Promise.withResolvers<RepositorySnapshot>();
  const { watcher, plans } = watching(() => look.promise, 0.001);
  watcher.start();
  const poll = watcher.poll();
  watcher[Symbol.dispose]();
  look.resolve(holding("a"));
  await poll;
  watcher.start();
  assert.deepEqual(plans, []);
});

Deno.test("start() looks again and again", async () => {
  const third = Promise.withResolvers<void>();
  let looks = 0;
  const { watcher } = watching(() => {
    if (++looks === 3) third.resolve();
    return Promise.resolve(EMPTY);
  }, 0.001);
  watcher.start();
  await third.promise;
  watcher[Symbol.dispose]();
});

/** `reactantserver ctl` against gateways and workers: what it prints, and what it says when it cannot. */

import assert from "node:assert/strict";
import { EXIT, main } from "../../src/cli/mod.ts";
import { FakeWorker, startTestGateway } from "../../src/gateway/testing.ts";
import { freePort } from "../harness/ports.ts";

async function ctl(target: string | number, ...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const address = typeof target === "number" ? `127.0.0.1:${target}` : target;
  const code = await main(["ctl", ...args, "--target", address, "--timeout-seconds", "60"], {
    print: (line) => void out.push(line),
    complain: (line) => void err.push(line),
  });
  return { code, out: out.join("\n"), err: err.join("\n") };
}

const PACKING = `
scheduling:
  mode: lpt_packing
  default_replicas: 1
  models: {big: {replicas: all}}
`;

Deno.test("ctl shows and changes a packing gateway", async () => {
  await using a = await FakeWorker.start({ models: ["big", "small"] });
  await using b = await FakeWorker.start({ models: ["big", "small"] });
  await using gateway = await startTestGateway({ endpoints: [a.id, b.id], yaml: PACKING });
  const port = gateway.grpcPort;

  const status = await ctl(port, "status");
  assert.equal(status.code, EXIT.ok, status.err);
  assert.match(status.out, /^gateway {2}127\.0\.0\.1:\d+, lpt_packing$/m);
  assert.match(status.out, /hysteresis 0; replicas 1; fill_least, run of 1 batches, by compute/);
  assert.match(status.out, /1 so far; last .*Z by startup: 2 placed, 0 moved/);
  for (const worker of [a, b]) {
    assert.match(status.out, new RegExp(`^${worker.id} +yes +[12] +0 +[12] B +none`, "m"));
  }

  const models = await ctl(port, "models");
  assert.match(models.out, /^MODEL +REPLICAS +UTIL/m);
  assert.match(models.out, new RegExp(`^big +2\\* .*(${a.id} ${b.id}|${b.id} ${a.id})$`, "m"));
  assert.match(models.out, /^small +1 /m);
  const one = await ctl(port, "models", "small", "nowhere");
  assert.equal(one.code, EXIT.failure);
  assert.doesNotMatch(one.out, /big/);
  assert.match(one.err, /has no model "nowhere"; "ctl models" lists/);

  const policy = await ctl(port, "set-policy", "hysteresis=0.25", "default_replicas=all");
  assert.equal(policy.code, EXIT.ok, policy.err);
  assert.match(
    policy.out,
    /changed hysteresis, default_replicas \(generation 1\); until the gateway/,
  );
  const json = JSON.parse((await ctl(port, "status", "--json")).out);
  assert.equal(json.policy.hysteresis, 0.25);
  assert.equal(json.policy.default_replicas, "-1");
  const refused = await ctl(port, "set-policy", "hysteresis=2");
  assert.equal(refused.code, EXIT.failure);
  assert.match(refused.err, /hysteresis must be a number .*below 1, got "2"/);

  const replicas = await ctl(port, "set-replicas", "small", "2", "--fill-mode", "spread");
  assert.equal(replicas.code, EXIT.ok, replicas.err);
  assert.match(replicas.out, /^small: 2 replicas, spread of 1 items; until the gateway restarts$/m);
  assert.match(replicas.err, /warning: .*next repack/);
  const repack = await ctl(port, "repack", "--wait-seconds", "60");
  assert.equal(repack.code, EXIT.ok, repack.err);
  assert.match(repack.out, /^repacked after .* s: 2 models placed, 1 moved$/m);
  const placed = await ctl(port, "models", "small", "--json");
  assert.equal(JSON.parse(placed.out).models[0].replicas.length, 2);
  assert.equal((await ctl(port, "repack", "--wait-seconds", "0")).code, EXIT.ok);

  const compacted = await ctl(port, "compact", "small");
  assert.equal(compacted.out, "compacted: 4 models loaded again");
  assert.ok(a.compacted.some((models) => models.join() === "small"));

  const residency = await ctl(port, "set-residency", "small", "device");
  assert.equal(residency.code, EXIT.failure);
  assert.match(residency.err, /a gateway leaves it to its workers; give a worker's address/);
});

Deno.test("ctl shows workers by their names, with their addresses", async () => {
  await using a = await FakeWorker.start({ models: ["m"] });
  await using b = await FakeWorker.start({ models: ["m"] });
  await using gateway = await startTestGateway({
    endpoints: [a.id, b.id],
    // A worker without a name is called by its address.
    yaml: `${PACKING.replaceAll("replicas: 1", "replicas: all")}\nworker_names: [left, "${b.id}"]`,
  });
  const port = gateway.grpcPort;
  const { out } = await ctl(port, "status");
  assert.match(out, new RegExp(`^left \\(${a.id}\\) +yes `, "m"));
  assert.match(out, new RegExp(`^${b.id} +yes `, "m"));
  assert.match(
    (await ctl(port, "models", "m")).out,
    new RegExp(` (left ${b.id}|${b.id} left)$`, "m"),
  );

  const { workers, models } = JSON.parse((await ctl(port, "status", "--json")).out);
  type Named = { worker: string; worker_name: string };
  const names = (list: Named[]) =>
    list.map(({ worker, worker_name }) => [worker, worker_name]).sort();
  const expected = [[a.id, "left"], [b.id, ""]].sort();
  assert.deepEqual(names(workers), expected);
  const [{ replicas }] = models.filter(({ name }: { name: string }) => name === "m");
  assert.deepEqual(names(replicas), expected);
});

Deno.test("ctl shows what a gateway without placement knows", async () => {
  await using a = await FakeWorker.start({ models: ["m"] });
  await using gateway = await startTestGateway({ endpoints: [a.id] });
  const port = gateway.grpcPort;
  assert.match((await ctl(port, "status")).out, /: round_robin; nothing is placed in this mode$/);
  const models = await ctl(port, "models");
  assert.match(models.out, /^m +READY/m);
  const repack = await ctl(port, "repack");
  assert.equal(repack.code, EXIT.failure);
  assert.match(repack.err, /needs scheduling\.mode lpt_packing, and the gateway runs round_robin/);
});

Deno.test("ctl shows a single worker, and says what only a gateway can do", async () => {
  await using worker = await FakeWorker.start({ models: ["m"] });
  const status = await ctl(worker.port, "status");
  assert.equal(status.code, EXIT.ok, status.err);
  assert.match(status.out, /^worker {3}127\.0\.0\.1:\d+, discipline fifo/m);
  assert.match(status.out, /^m +\w+ +no +1 B/m);
  assert.match((await ctl(worker.port, "models", "m")).out, /^m /m);
  const repack = await ctl(worker.port, "repack");
  assert.equal(repack.code, EXIT.failure);
  assert.match(repack.err, /is no gateway: a single worker has no placement/);
  assert.match((await ctl(worker.port, "compact")).out, /^compacted: 2 models/);
  worker.name = "left";
  const named = await ctl(worker.port, "status");
  assert.match(named.out, /^worker {3}left \(127\.0\.0\.1:\d+\), discipline fifo/m);
});

Deno.test("ctl names the remedy when nobody answers, and when it is used wrongly", async () => {
  const port = freePort();
  const gone = await ctl(port, "status");
  assert.equal(gone.code, EXIT.failure);
  assert.match(
    gone.err,
    new RegExp(`127\\.0\\.0\\.1:${port} .*give the address with --target .*grpcs://.* is TLS`),
  );
  const wrong: [string[], RegExp][] = [
    [[], /ctl takes an action: status, models/],
    [["statsu"], /no action "statsu".*did you mean status\?/],
    [["status", "more"], /Usage: reactantserver ctl status/],
    [["set-policy"], /ctl set-policy NAME=VALUE/],
    [["set-policy", "hysteresis"], /takes NAME=VALUE, got "hysteresis"/],
    [["set-policy", "histeresis=1"], /did you mean hysteresis\?/],
    [["set-policy", "hysteresis=much"], /hysteresis must be a number, got "much"/],
    [["set-policy", "default_replicas=-1"], /must be a whole number or all/],
    [["set-policy", "forbid_memory_oversubscription=maybe"], /must be true or false/],
    [["set-replicas", "m"], /MODEL COUNT\|all\|inherit/],
    [["set-replicas", "m", "some"], /must be a whole number or all, got "some"/],
    [["set-replicas", "m", "0"], /at least 1 replica; inherit/],
    [["set-replicas", "m", "1", "--fill-factor", "0"], /above 0, or inherit/],
    [["set-residency", "m", "moon"], /one of unpinned, system, device, got "moon"/],
    [["repack", "--wait-seconds", "-1"], /--wait-seconds must be a number from 0/],
  ];
  for (const [args, expected] of wrong) {
    const { code, err } = await ctl(port, ...args);
    assert.equal(code, EXIT.usage, args.join(" "));
    assert.match(err, expected);
  }
  assert.equal((await ctl("no address", "status")).code, EXIT.usage);
});

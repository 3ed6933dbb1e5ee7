/** The page at `/` in a real browser, where this machine has one. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Logger } from "../../src/log.ts";
import { serveHttp } from "../../src/metrics/mod.ts";
import { float32Bytes, temporaryDirectory } from "../harness/bundle_builder.ts";
import { findBrowser, openPage } from "../harness/browser.ts";
import { connect } from "../harness/client.ts";
import { notRun } from "../harness/not_run.ts";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const digits = fileURLToPath(new URL("../../examples/digits/bundle/digits", import.meta.url));
/** What would be an element if the page took names for markup. */
const EVIL = "<img src=x onerror=alert(1)>";

const browser = await findBrowser();
const NO_BROWSER = "the page in a browser, there is no chromium";

/** The texts of a table's cells, row by row. */
const cells = (section: string) =>
  `[...document.querySelectorAll("#${section} tbody tr")]` +
  `.map((row) => [...row.cells].map((cell) => cell.textContent))`;

Deno.test("a worker's page shows its models live, names as text", async (t) => {
  await using folder = await temporaryDirectory();
  for (const name of ["digits", EVIL]) {
    await Deno.mkdir(join(folder.path, name));
    for await (const file of Deno.readDir(digits)) {
      await Deno.copyFile(join(digits, file.name), join(folder.path, name, file.name));
    }
  }
  await using server = await startServer({ modelDirs: [folder.path] });
  const { status, body } = await server.http("/");
  assert.equal(status, 200);
  assert.match(body, /<script type="module" src="page.js"><\/script>/);
  if (browser === undefined) return await notRun(t, NO_BROWSER);

  await using client = connect(server);
  let isOver = false;
  const load = (async () => {
    const data = float32Bytes(new Array(5 * 64).fill(0));
    const image = { name: "image", datatype: "FP32" as const, shape: [5, 64], data };
    while (!isOver) {
      await client.inference.infer({ modelName: EVIL, inputs: [image] });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  try {
    await using page = await openPage(browser, `http://127.0.0.1:${server.httpPort}/`);
    // The second reading has rates; whatever is looked at has to be of one reading.
    let models: string[][] = [];
    await until(async () => {
      models = await page.evaluate<string[][]>(cells("models"));
      return Number(models[0]?.[5]) > 0;
    }, "the model that is asked has a rate");
    assert.deepEqual(models.map(([name, worker, weights]) => [name, worker, weights]), [
      [EVIL, "worker0", "on device"],
      ["digits", "worker0", "on device"],
    ]);
    const busy = models[0]!;
    // A quotient of two rates: 5, or 5.0 when it is off by the last bit.
    assert.equal(Number(busy[7]), 5);
    assert.match(busy[8]!, /^[\d.]+ (µs|ms|s)$/);
    assert.equal(await page.evaluate(`document.images.length`), 0);
    assert.ok(await page.evaluate(`document.querySelector("main").checkVisibility()`));
    assert.equal(
      await page.evaluate(`document.querySelector("#state").textContent`),
      "2 of 2 models ready",
    );
    assert.equal(await page.evaluate(`document.querySelector("#role").textContent`), "worker");
    assert.equal((await page.evaluate<string[][]>(cells("workers"))).length, 1);
    assert.equal(await page.evaluate(`document.querySelector("#placement").hidden`), true);
    for (const scheme of ["light", "dark"] as const) {
      await page.present({ width: 390, height: 800, scheme });
      const color = await page.evaluate<string>(`getComputedStyle(document.body).backgroundColor`);
      assert.equal(color, scheme === "light" ? "rgb(255, 255, 255)" : "rgb(20, 23, 27)");
      // Tables scroll in their own frames, the page does not.
      assert.ok(await page.evaluate(`document.documentElement.scrollWidth <= 390`), scheme);
    }
    const type = (text: string) =>
      `document.querySelector("#filter").value = ${JSON.stringify(text)};` +
      `document.querySelector("#filter").dispatchEvent(new Event("input")); true`;
    await page.evaluate(type("dig"));
    assert.deepEqual((await page.evaluate<string[][]>(cells("models"))).map(([name]) => name), [
      "digits",
    ]);
    await page.evaluate(type(""));
    await page.evaluate(`document.querySelector("#pause").click()`);
    assert.equal(
      await page.evaluate(`document.querySelector("#pause").getAttribute("aria-pressed")`),
      "true",
    );
    assert.deepEqual(page.complaints, []);
  } finally {
    isOver = true;
    await load;
  }
});

Deno.test("a gateway's page shows its workers and where models are placed", async (t) => {
  if (browser === undefined) return await notRun(t, NO_BROWSER);
  let routed = 0;
  const metrics = () => {
    routed += 100;
    return Promise.resolve(`
gateway_routing_table_size 1
gateway_worker_ready{worker="a"} 1
gateway_worker_ready{worker="b"} 0
gateway_placement_weight{model="m",worker="a"} 1
gateway_placement_weight{model="m",worker="b"} 0
gateway_model_replicas{model="m"} 1
gateway_replica_routed_total{model="m",worker="a"} ${routed}
worker_model_resident{worker="a",model="m"} 1
`);
  };
  await using endpoint = serveHttp({
    hostname: "127.0.0.1",
    port: 0,
    metrics,
    readiness: () => ({ isReady: false, progress: "1 of 2 workers ready" }),
    logger: new Logger({ write: () => {} }),
  });
  await using page = await openPage(browser, `http://127.0.0.1:${endpoint.port}/`);
  await page.until(`/\\d\\/s/.test(${cells("placement")}[0]?.[3])`, `document.body.innerText`);
  const [[model, replicas, , a, b]] = await page.evaluate<[string[]]>(cells("placement"));
  assert.deepEqual([model, replicas, b], ["m", "1", "–"]);
  assert.match(a!, /^100 % · [\d.]+( k)?\/s$/);
  assert.deepEqual(
    (await page.evaluate<string[][]>(cells("workers"))).map(([name, state]) => [name, state]),
    [["a", "ready"], ["b", "not ready"]],
  );
  assert.equal(
    await page.evaluate(`document.querySelector("#state").textContent`),
    "not ready: 1 of 2 workers ready",
  );
  // The page says so when the server is gone, and goes on asking.
  await endpoint.close();
  await page.until(
    `/^no answer/.test(document.querySelector("#state").textContent)`,
    `document.body.innerText`,
  );
});

Deno.test("what the reader has selected, focused and scrolled to stays while figures change", async (t) => {
  if (browser === undefined) return await notRun(t, NO_BROWSER);
  let asked = 0;
  let models = ["b", "c", "m"];
  const isResident = (model: string) => `worker_model_resident{worker="w",model="${model}"} 1`;
  const metrics = () => {
    asked++;
    return Promise.resolve(`
worker_info{worker="w",discipline="fifo"} 1
worker_queue_depth{worker="w",model="m"} ${asked % 2 === 0 ? 7 : 123456}
${models.map(isResident).join("\n")}
`);
  };
  await using endpoint = serveHttp({
    hostname: "127.0.0.1",
    port: 0,
    metrics,
    readiness: () => ({ isReady: true, progress: "2 of 2 models ready" }),
    logger: new Logger({ write: () => {} }),
  });
  await using page = await openPage(browser, `http://127.0.0.1:${endpoint.port}/`);
  await page.present({ width: 390, height: 800, scheme: "light" });
  const names = `${cells("models")}.map(([name]) => name).join("")`;
  await page.until(`${names} === "bcm"`, `document.body.innerText`);
  // From inside the model's name to the end of how many of its requests wait.
  const setUp = `(() => {
    window.row = [...document.querySelectorAll("#models tbody tr")].at(-1);
    const frame = document.querySelector("#models .scroll");
    frame.focus({ preventScroll: true });
    frame.scrollLeft = 40;
    const [name, waiting] = [0, 4].map((index) => row.cells[index].firstChild);
    getSelection().setBaseAndExtent(name, 0, waiting, waiting.length);
    return getSelection().toString().split(/\\s+/);
  })()`;
  const before = await page.evaluate<string[]>(setUp);
  assert.deepEqual([before[0], before.length > 4], ["m", true]);
  const waiting = () => page.evaluate<string>(`row.cells[4].textContent`);
  const seen = new Set([await waiting()]);
  // One that comes before the others, and one of them that goes.
  models = ["a", "b", "m"];
  await page.until(`${names} === "abm"`, `document.body.innerText`);
  seen.add(await waiting());
  await page.until(`row.cells[4].textContent !== ${JSON.stringify(await waiting())}`, names);
  seen.add(await waiting());
  assert.deepEqual([...seen].sort(), ["123.5 k", "7"]);
  const after = await page.evaluate<string[]>(`getSelection().toString().split(/\\s+/)`);
  const number = (await waiting()).split(" ");
  assert.deepEqual(after.slice(0, 4), before.slice(0, 4));
  assert.deepEqual(after.slice(-number.length), number);
  assert.equal(
    await page.evaluate(`document.activeElement === document.querySelector("#models .scroll")`),
    true,
  );
  assert.equal(await page.evaluate(`document.activeElement.scrollLeft`), 40);
  assert.equal(await page.evaluate(`row.isConnected`), true);
  assert.deepEqual(page.complaints, []);
});

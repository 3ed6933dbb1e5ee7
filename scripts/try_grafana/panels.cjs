/**
 * Runs every panel of every dashboard as a page of Grafana does, and fails when a variable has no values, a
 * query is refused or was not sent, a variable was left in it, a panel has no data, or names are blank or the
 * same twice.
 */
require("./browser.cjs");
const { readdirSync, readFileSync } = require("node:fs");
const { from, map } = require("rxjs");
const grafana = require("@grafana/data");
const runtime = require("@grafana/runtime");
const scenes = require("@grafana/scenes");
const { PrometheusDatasource } = require("@grafana/prometheus");
const { answer } = require("./server.cjs");

const { PROMETHEUS_URL, DATA_SOURCE, DASHBOARDS, ODD_MODEL } = process.env;
const { sceneGraph } = scenes;
const WITHIN_MS = 60_000;

/** What Prometheus was asked since this was emptied. */
const sent = [];
/** The object whose variables hold at the moment. */
let here;
useSource(JSON.parse(DATA_SOURCE));

/** Makes the provisioned source the one that there is. */
function useSource(provisioned) {
  runtime.config.featureToggles ??= {};
  runtime.setBackendSrv({
    fetch: (request) =>
      from(
        answer(PROMETHEUS_URL, request, (query) => sent.push(query))
          .then((data) => ({ data, status: 200, ok: true })),
      ),
  });
  runtime.setTemplateSrv({
    replace: (text, scoped, format) => sceneGraph.interpolate(here, text, scoped, format),
    getAdhocFilters: () => [],
    getVariables: () => [],
  });
  runtime.setRunRequest((asked, request, query) =>
    from((query ?? asked.query.bind(asked))(request)).pipe(map(({ data, error, errors }) => ({
      state: error || errors?.length ? grafana.LoadingState.Error : grafana.LoadingState.Done,
      error: error ?? errors?.[0],
      series: query ? data : data.map((frame) => grafana.toDataFrame(frame)),
      timeRange: request.range,
      request,
    })))
  );
  const { mergeTransformer, organizeFieldsTransformer } = grafana.standardTransformers;
  grafana.standardTransformersRegistry.setInit(() =>
    [mergeTransformer, organizeFieldsTransformer]
      .map((transformation) => ({
        id: transformation.id,
        name: transformation.name,
        transformation,
      }))
  );
  const settings = { ...provisioned, id: 1, meta: { id: provisioned.type, info: {} } };
  const made = new PrometheusDatasource(settings);
  runtime.setDataSourceSrv({
    get: (ref) =>
      ref.uid === provisioned.uid
        ? Promise.resolve(made)
        : Promise.reject(new Error(`no ${ref.uid}`)),
    getInstanceSettings: () => settings,
  });
}

/** Waits until a function gives something. */
async function until(find) {
  const endMs = Date.now() + WITHIN_MS;
  for (;;) {
    const found = find();
    if (found !== undefined || Date.now() > endMs) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function openDashboard(dashboard, problem) {
  const variables = dashboard.templating.list.map((variable) =>
    new scenes.QueryVariable({
      ...variable,
      type: "query",
      isMulti: variable.multi,
      value: variable.current?.value ?? "",
      text: variable.current?.text ?? "",
    })
  );
  const scene = new scenes.SceneFlexLayout({
    $timeRange: new scenes.SceneTimeRange({ from: "now-5m", to: "now" }),
    $variables: new scenes.SceneVariableSet({ variables }),
    children: [],
  });
  here = scene;
  scene.activate();
  for (const variable of variables) {
    const { name } = variable.state;
    const values = await until(() =>
      variable.state.options.length > 0 ? variable.state.options : undefined
    );
    if (values === undefined) problem(`$${name} has no values: ${variable.state.error}`);
    if (variable.state.isMulti) continue;
    // The hardest of them.
    variable.changeValueTo(ODD_MODEL);
    if (variable.getValue() !== ODD_MODEL) problem(`$${name} does not take ${ODD_MODEL}`);
  }
  return scene;
}

/** A panel once, or for each value of what it is repeated for. */
function copies(scene, panel) {
  if (panel.repeat === undefined) return [undefined];
  const variable = sceneGraph.lookupVariable(panel.repeat, scene);
  return variable.state.options.map(({ value, label }) =>
    new scenes.SceneVariableSet({
      variables: [new scenes.LocalValueVariable({ name: panel.repeat, value, text: label })],
    })
  );
}

async function runPanel(scene, panel, $variables, problem) {
  sent.length = 0;
  const data = new scenes.SceneDataTransformer({
    $data: new scenes.SceneQueryRunner({
      datasource: panel.datasource,
      queries: panel.targets,
      maxDataPoints: 300,
    }),
    transformations: panel.transformations ?? [],
  });
  here = new scenes.SceneFlexItem({
    $data: data,
    ...($variables === undefined ? {} : { $variables }),
  });
  scene.setState({ children: [here] });
  const leave = here.activate();
  const done = await until(() =>
    ["Done", "Error"].includes(data.state.data?.state) ? data.state.data : undefined
  );
  leave();
  if (done?.state !== "Done") problem(`ended as ${done?.state}`);
  if (sent.length !== panel.targets.length) {
    problem(`sent ${sent.length} of ${panel.targets.length} queries`);
  }
  for (const { expression, error } of sent) {
    if (error !== undefined) problem(`${error}: ${expression}`);
    if (/\$\w/.test(expression)) problem(`a variable is left in ${expression}`);
  }
  const frames = grafana.applyFieldOverrides({
    data: done?.series ?? [],
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: new grafana.Registry(() => []),
    replaceVariables: (text) => sceneGraph.interpolate(here, text),
    theme: grafana.createTheme(),
    timeZone: "utc",
  });
  judge(panel, frames, problem);
}

function judge(panel, frames, problem) {
  const fields = frames.flatMap((frame) =>
    frame.fields
      .filter(({ type }) => panel.type === "table" || type !== grafana.FieldType.time)
      .map((field) => ({ field, name: grafana.getFieldDisplayName(field, frame, frames) }))
  );
  const names = fields.map(({ name }) => name);
  if (names.length === 0) problem("has no data");
  for (const { field, name } of fields) {
    if (name.trim() === "") problem("has a blank name");
    if (!field.values.some((value) => value !== null && value !== undefined)) {
      problem(`${name} is empty`);
    }
  }
  if (new Set(names).size < names.length) problem(`has names twice: ${names}`);
  if (panel.type !== "table") return;
  const [first, ...columns] = names;
  const titles = Object.values(panel.transformations.at(-1).options.renameByName);
  if (columns.join() !== titles.join()) problem(`has columns ${columns} instead of ${titles}`);
  for (const { field, name } of fields) {
    if (name !== first && field.values.some(Number.isNaN)) problem(`has NaN in ${name}`);
  }
}

async function main() {
  const problems = [];
  let [panels, targets] = [0, 0];
  for (const file of readdirSync(DASHBOARDS).sort()) {
    const dashboard = JSON.parse(readFileSync(`${DASHBOARDS}/${file}`, "utf8"));
    const scene = await openDashboard(
      dashboard,
      (text) => problems.push(`${dashboard.title}: ${text}`),
    );
    for (const panel of dashboard.panels.filter((panel) => panel.targets !== undefined)) {
      for (const $variables of copies(scene, panel)) {
        await runPanel(scene, panel, $variables, (text) => {
          problems.push(
            `${dashboard.title} / ${sceneGraph.interpolate(here, panel.title)}: ${text}`,
          );
        });
        panels++;
        targets += panel.targets.length;
      }
    }
  }
  for (const text of problems) console.error(text);
  console.log(`${panels} panels, ${targets} queries, ${problems.length} problems`);
  process.exit(problems.length === 0 ? 0 : 1);
}

main();

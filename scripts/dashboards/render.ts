/** A dashboard as the JSON that Grafana provisions (schema version 39, Grafana 11). */

import {
  type Dashboard,
  type DataPanel,
  layOut,
  type Panel,
  type Query,
  type Step,
  type TablePanel,
  type Variable,
} from "./panels.ts";

type Json = Record<string, unknown>;

/** The data source that is provisioned beside the dashboards. */
const SOURCE = { type: "prometheus", uid: "prometheus" };

/** Which panel of Grafana's shows a kind. */
const PANEL_TYPES: Readonly<Record<DataPanel["kind"], string>> = {
  stat: "stat",
  label: "stat",
  series: "timeseries",
  stacked: "timeseries",
  heatmap: "heatmap",
  states: "state-timeline",
  bars: "bargauge",
};

/** The whole dashboard. */
export function renderDashboard(dashboard: Dashboard): Json {
  const places = layOut(dashboard.panels);
  return {
    uid: dashboard.uid,
    title: dashboard.title,
    description: dashboard.description,
    tags: ["reactantserver"],
    schemaVersion: 39,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: `${dashboard.refreshSeconds}s`,
    time: { from: "now-30m", to: "now" },
    timezone: "",
    annotations: { list: [] },
    links: [{
      title: "Dashboards",
      type: "dashboards",
      tags: ["reactantserver"],
      asDropdown: true,
      keepTime: true,
      includeVars: true,
      targetBlank: false,
      icon: "external link",
      tooltip: "",
    }],
    templating: { list: dashboard.variables.map(renderVariable) },
    panels: dashboard.panels.map((panel, index) => ({
      id: index + 1,
      title: panel.title,
      description: panel.kind === "text" ? "" : panel.note,
      gridPos: { ...places[index], w: panel.width, h: panel.height },
      ...(panel.repeat === undefined
        ? {}
        : { repeat: panel.repeat, repeatDirection: "h", maxPerRow: 2 }),
      ...renderPanel(panel),
    })),
  };
}

function renderVariable({ name, label, series, isSingle = false }: Variable): Json {
  const query = `label_values(${series}, ${name})`;
  return {
    name,
    label,
    type: "query",
    datasource: SOURCE,
    definition: query,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: !isSingle,
    includeAll: !isSingle,
    ...(isSingle ? {} : { allValue: ".*", current: { text: "All", value: "$__all" } }),
  };
}

function renderPanel(panel: Panel): Json {
  if (panel.kind === "text") {
    return { type: "text", options: { mode: "markdown", content: panel.markdown } };
  }
  return panel.kind === "table" ? renderTable(panel) : renderData(panel);
}

function renderData(panel: DataPanel): Json {
  const isInstant = panel.kind === "bars";
  return {
    type: PANEL_TYPES[panel.kind],
    datasource: SOURCE,
    targets: panel.queries.map((query, index) => ({
      ...target(query, index, isInstant),
      ...(panel.kind === "heatmap" ? { format: "heatmap" } : {}),
    })),
    fieldConfig: {
      defaults: {
        unit: panel.unit ?? "short",
        ...(panel.min === undefined ? {} : { min: panel.min }),
        ...(panel.max === undefined ? {} : { max: panel.max }),
        ...thresholds(panel.steps),
        custom: custom(panel),
      },
      overrides: [],
    },
    options: options(panel),
  };
}

function target(query: Query, index: number, isInstant: boolean): Json {
  return {
    refId: String.fromCharCode(65 + index),
    datasource: SOURCE,
    expr: query.expression,
    legendFormat: query.legend ?? "__auto",
    editorMode: "code",
    instant: isInstant,
    range: !isInstant,
  };
}

function thresholds(steps: readonly Step[] = []): Json {
  const base = { color: steps.length === 0 ? "text" : "green", value: null };
  return {
    thresholds: {
      mode: "absolute",
      steps: [base, ...steps.map(({ from, color }) => ({ color, value: from }))],
    },
    ...(steps.length === 0 ? {} : { color: { mode: "thresholds" } }),
  };
}

function custom({ kind }: DataPanel): Json {
  switch (kind) {
    case "series":
      return { lineWidth: 1, fillOpacity: 5, showPoints: "never", spanNulls: false };
    case "stacked":
      return {
        lineWidth: 1,
        fillOpacity: 40,
        showPoints: "never",
        stacking: { mode: "normal", group: "A" },
      };
    case "states":
      return { fillOpacity: 70, lineWidth: 0 };
    default:
      return {};
  }
}

function options({ kind, unit }: DataPanel): Json {
  const legend = { displayMode: "list", placement: "bottom", showLegend: true };
  switch (kind) {
    case "stat":
    case "label":
      return {
        reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
        textMode: kind === "label" ? "name" : "auto",
        colorMode: "value",
        graphMode: kind === "label" ? "none" : "area",
      };
    case "heatmap":
      return {
        calculate: false,
        color: { mode: "scheme", scheme: "Turbo", steps: 64 },
        yAxis: { unit: unit ?? "s" },
        legend: { show: true },
      };
    case "states":
      return { legend, mergeValues: true, showValue: "never" };
    case "bars":
      return {
        reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
        orientation: "horizontal",
        displayMode: "basic",
      };
    default:
      return { legend, tooltip: { mode: "multi", sort: "desc" } };
  }
}

function renderTable(panel: TablePanel): Json {
  return {
    type: "table",
    datasource: SOURCE,
    targets: panel.columns.map((column, index) => ({
      ...target(column, index, true),
      format: "table",
    })),
    transformations: [
      { id: "merge", options: {} },
      {
        id: "organize",
        options: {
          excludeByName: { Time: true },
          indexByName: {},
          renameByName: Object.fromEntries(
            panel.columns.map(({ title }, index) => [
              `Value #${String.fromCharCode(65 + index)}`,
              title,
            ]),
          ),
        },
      },
    ],
    fieldConfig: {
      defaults: { unit: "short", decimals: 3, custom: { filterable: true } },
      overrides: panel.columns.flatMap(({ title, unit }) =>
        unit === undefined ? [] : [{
          matcher: { id: "byName", options: title },
          properties: [{ id: "unit", value: unit }],
        }]
      ),
    },
    options: {
      showHeader: true,
      cellHeight: "sm",
      sortBy: [{ displayName: panel.sortBy, desc: true }],
    },
  };
}

/** As much of a browser as Grafana's libraries want while they are loaded. */
const { JSDOM } = require("jsdom");

const { window } = new JSDOM("<!doctype html>", {
  url: "http://localhost/",
  pretendToBeVisual: true,
});
const nothing = () => {};

class Observer {
  observe() {}
  unobserve() {}
  disconnect() {}
}

Object.assign(window, {
  ResizeObserver: Observer,
  IntersectionObserver: Observer,
  Path2D: class {},
  grafanaBootData: { settings: {}, user: {}, navTree: [] },
  matchMedia: () => ({ matches: false, addListener: nothing, addEventListener: nothing }),
});
window.HTMLCanvasElement.prototype.getContext = () => ({ measureText: () => ({ width: 10 }) });

for (const name of [...Object.getOwnPropertyNames(window), "window", "self"]) {
  const isTaken = name in globalThis && !["window", "self", "navigator"].includes(name);
  if (isTaken || name.startsWith("_")) continue;
  const value = name === "window" || name === "self" ? window : window[name];
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

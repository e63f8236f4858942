// Lines over time, in SVG.

import { h, s, setAttribute, setText } from "./dom.js";
import { KEPT } from "./store.js";

/** Samples that a chart has room for at least. */
const LEAST = 60;

const WIDTH = 600;
const HEIGHT = 140;

/** A round number that is at least `value`. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function points(series, most, width, height, kept) {
  const step = width / (kept - 1);
  const start = width - (series.length - 1) * step;
  return series.map((value, i) => `${(start + i * step).toFixed(1)},${(height - (value / most) * (height - 2) - 1).toFixed(1)}`).join(" ");
}

/** A chart of some lines, each `{name, title}`; `show` says how a value is written. */
export function chart(title, names, show) {
  const lines = names.map(({ name }) => s("polyline", { class: `line ${name}`, fill: "none", "vector-effect": "non-scaling-stroke" }));
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "chart" }, lines);
  const top = h("span");
  const since = h("span");
  const legend = names.map(({ name, title }) => ({ text: h("span"), element: null, name, title }));
  for (const entry of legend) entry.element = h("li", { class: entry.name }, `${entry.title} `, entry.text);
  const element = h(
    "figure",
    {},
    h("figcaption", {}, title, h("ul", { class: "legend" }, legend.map((entry) => entry.element))),
    h("p", { class: "axis" }, top),
    svg,
    h("p", { class: "axis" }, since, h("span", {}, "now")),
  );
  return {
    element,
    update(history) {
      const series = names.map(({ name }) => history?.series(name) ?? []);
      const most = ceiling(Math.max(0, ...series.flat()));
      const kept = Math.min(KEPT, Math.max(LEAST, series[0].length));
      setText(since, `${kept} seconds ago`);
      lines.forEach((line, i) => setAttribute(line, "points", points(series[i], most, WIDTH, HEIGHT, kept)));
      legend.forEach((entry, i) => setText(entry.text, show(series[i].at(-1) ?? 0)));
      setText(top, show(most));
      const said = names.map(({ title }, i) => `${title} ${show(series[i].at(-1) ?? 0)}, at most ${show(Math.max(0, ...series[i]))}`);
      setAttribute(svg, "aria-label", `${title}: ${said.join("; ")}`);
    },
  };
}

const SPARK = 60;

/** Draws the last minute of a port into a cell. */
export function spark(cell, history, label) {
  let svg = cell.firstElementChild;
  if (!svg) {
    const line = (name) => s("polyline", { class: `line ${name}`, fill: "none", "vector-effect": "non-scaling-stroke" });
    svg = s("svg", { viewBox: "0 0 90 22", class: "spark", role: "img", preserveAspectRatio: "none" }, line("rx"), line("tx"), line("drops"));
    cell.append(svg);
  }
  const [rx, tx, drops] = ["rx", "tx", "drops"].map((name) => history?.series(name, SPARK) ?? []);
  const most = Math.max(1, ...rx, ...tx);
  setAttribute(svg.children[0], "points", points(rx, most, 90, 22, SPARK));
  setAttribute(svg.children[1], "points", points(tx, most, 90, 22, SPARK));
  setAttribute(svg.children[2], "points", drops.some((value) => value > 0) ? points(drops, Math.max(1, ...drops), 90, 22, SPARK) : "");
  setAttribute(svg, "aria-label", label);
}

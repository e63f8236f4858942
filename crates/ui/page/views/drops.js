// Why frames were dropped: what each reason means and what to do, for the ports where it happened.

import { part } from "../api.js";
import { checkbox, h, heading, offer, select } from "../dom.js";
import * as store from "../store.js";
import { table } from "../table.js";
import { count, rate } from "../text.js";

const response = await fetch("/drops.json");
/** Reasons with `way`, `meaning` and `remedy`. */
const REASONS = response.ok ? await response.json() : {};
const unknown = { way: "–", meaning: "A reason that this page does not know yet.", remedy: "See docs/drops.md of the daemon's version." };
const told = (reason) => REASONS[reason] ?? unknown;

/** Sums up the reasons of some ports. */
export function reasonRows(ports, all = false) {
  const rows = new Map(all ? Object.keys(REASONS).map((reason) => [reason, { reason, total: 0, now: 0, where: [] }]) : []);
  for (const port of ports) {
    for (const [reason, total] of Object.entries(port.counters.drops)) {
      if (total === 0) continue;
      if (!rows.has(reason)) rows.set(reason, { reason, total: 0, now: 0, where: [] });
      const row = rows.get(reason);
      row.total += total;
      row.now += port.rates.reasons[reason] ?? 0;
      row.where.push({ id: port.id, total });
    }
  }
  for (const row of rows.values()) row.where.sort((one, other) => other.total - one.total);
  return [...rows.values()].sort((one, other) => other.total - one.total);
}

function where(row) {
  const names = row.where.slice(0, 3).map(({ id, total }) => `${id} (${count(total)})`);
  return names.length === 0 ? "–" : names.join(", ") + (row.where.length > 3 ? `, and ${row.where.length - 3} more` : "");
}

/** The columns of a list of reasons. */
export function reasonColumns(withPorts = false) {
  return [
    { title: "Reason", text: (row) => row.reason },
    { title: "Frames", text: (row) => count(row.total), sort: (row) => row.total, numeric: true },
    { title: "Now", text: (row) => rate(row.now), sort: (row) => row.now, numeric: true },
    { title: "Way", text: (row) => told(row.reason).way, wide: true },
    { title: "Meaning", text: (row) => told(row.reason).meaning },
    { title: "What to do", text: (row) => told(row.reason).remedy },
    ...(withPorts ? [{ title: "Ports", text: where, wide: true }] : []),
  ];
}

/** The view; `query.network` narrows it. */
export function drops({ query }) {
  let network = query.get("network") ?? "";
  let all = false;
  const list = table({ caption: "Drop reasons", columns: reasonColumns(true), key: (row) => row.reason, empty: "Nothing was dropped." });
  const choice = select("Network", [], network, (value) => {
    network = value;
    update();
  });
  const every = checkbox("Explain every reason", all, (value) => {
    all = value;
    update();
  });
  const link = h("a", {}, "Capture what is dropped");

  function update() {
    offer(choice.select, [["", "all"], ...store.networks().map((name) => [name, name])], network);
    link.setAttribute("href", `#/capture?drops=true${network ? `&ports=${part(network)}` : ""}`);
    list.update(reasonRows(store.ports.filter((port) => network === "" || port.network === network), all));
  }

  return {
    title: "Drops",
    element: [heading("Why was this dropped?"), h("div", { class: "bar" }, choice.element, every.element, link), list.element],
    update,
  };
}

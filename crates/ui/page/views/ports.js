// The ports of all networks, and one of them.

import { part, request } from "../api.js";
import { chart, spark } from "../chart.js";
import { h, heading, setText } from "../dom.js";
import * as store from "../store.js";
import { table } from "../table.js";
import { bitRate, count, few, octets, orDash, rate, several, vlan } from "../text.js";
import { reasonColumns, reasonRows } from "./drops.js";

export const portPath = (port) => `#/port/${part(port.network)}/${part(port.port)}`;

/** The columns of a list of ports. */
export function portColumns(withNetwork = false) {
  const network = withNetwork ? [{ title: "Network", text: (port) => port.network }] : [];
  return [
    { title: "Port", text: (port) => port.port, href: portPath },
    ...network,
    { title: "Kind", text: (port) => port.kind, wide: true },
    { title: "State", text: (port) => port.state, state: (port) => port.state },
    { title: "Addresses", text: (port) => few([port.name, several(port.mac), ...port.addresses].filter((it) => it && it !== "–")), wide: true },
    { title: "In", text: (port) => bitRate(port.rates.rx), sort: (port) => port.rates.rx, numeric: true },
    { title: "Out", text: (port) => bitRate(port.rates.tx), sort: (port) => port.rates.tx, numeric: true },
    { title: "Drops", text: (port) => count(port.dropped), sort: (port) => port.dropped, numeric: true },
    {
      title: "Last minute",
      text: (port) => bitRate(port.rates.rx + port.rates.tx),
      sort: (port) => port.rates.rx + port.rates.tx,
      draw: (cell, port) => spark(cell, store.historyOf(port.id), `${port.port}: in ${bitRate(port.rates.rx)}, out ${bitRate(port.rates.tx)}`),
      wide: true,
    },
  ];
}

/** All ports. */
export function ports() {
  const list = table({ caption: "Ports", columns: portColumns(true), key: (port) => port.id, empty: "No port." });
  return { title: "Ports", element: [heading("Ports"), list.element], update: () => list.update(store.ports) };
}

const RX = { name: "rx", title: "In (from the guest)" };
const TX = { name: "tx", title: "Out (to the guest)" };

const FACTS = [
  ["Kind", (port) => port.kind],
  ["State", (port) => port.state],
  ["Why", (port) => orDash(port.reason)],
  ["At", (port) => orDash(port.address)],
  ["Peer", (port) => orDash(port.peer)],
  ["Name", (port) => orDash(port.name)],
  ["IP addresses", (port) => orDash(port.addresses.join(" "))],
  ["MAC address", (port) => several(port.mac)],
  ["VLAN", (port) => vlan(port.vlan)],
  ["MTU", (port) => orDash(port.mtu)],
  ["Mechanism", (port) => orDash(port.mechanism)],
  ["Frames in", (port) => `${count(port.counters.rx_frames)} (${octets(port.counters.rx_octets)})`],
  ["Frames out", (port) => `${count(port.counters.tx_frames)} (${octets(port.counters.tx_octets)})`],
  ["Waiting for the guest", (port) => count(port.counters.queued)],
  ["Dropped", (port) => `${count(port.dropped)} (${rate(port.rates.drops)} now)`],
  ["No receiver", (port) => count(port.counters.no_receiver)],
];

/** One port; `parameters` are its network and its name. */
export function port({ parameters: [network, name], about }) {
  const id = store.portId(network, name);
  const state = h("p", { class: "status", role: "status" });
  const throughput = chart("Throughput", [RX, TX], bitRate);
  const dropped = chart("Drops", [{ name: "drops", title: "Dropped" }], rate);
  const values = FACTS.map(() => h("dd"));
  const facts = h("dl", { class: "facts" }, FACTS.map(([title], i) => h("div", {}, h("dt", {}, title), values[i])));
  const reasons = table({ caption: "Why frames were dropped", columns: reasonColumns(), key: (row) => row.reason, empty: "Nothing was dropped.", filter: false });
  const flows = h("a", { href: `#/flows?port=${part(id)}` }, "Flows of this port");
  const change = h("button", { type: "button", hidden: true }, "Take the port down");
  const said = h("p", { role: "status" });
  change.addEventListener("click", async () => {
    const enabled = change.dataset.enabled !== "true";
    try {
      await request("PATCH", `/v1/networks/${part(network)}/ports/${part(name)}`, { body: JSON.stringify({ enabled }) });
      setText(said, enabled ? "The port is enabled." : "The port is not enabled any more.");
    } catch (error) {
      setText(said, error.message);
    }
  });
  const links = h(
    "p",
    { class: "bar" },
    h("a", { href: `#/capture?ports=${part(id)}` }, "Capture this port"),
    h("a", { href: `#/fdb?network=${part(network)}` }, "Addresses of the network"),
    flows,
    change,
  );
  return {
    title: id,
    element: [heading(`Port ${id}`), state, links, said, throughput.element, dropped.element, reasons.element, facts],
    update() {
      const found = store.find(id);
      setText(state, found ? (found.reason ? `${found.state}: ${found.reason}` : found.state) : "The port is not there. It is shown again when it comes back.");
      state.dataset.state = found?.state ?? "gone";
      facts.hidden = reasons.element.hidden = !found;
      throughput.update(store.historyOf(id));
      dropped.update(store.historyOf(id));
      if (!found) return;
      FACTS.forEach(([, value], i) => setText(values[i], value(found)));
      reasons.update(reasonRows([found]));
      flows.hidden = !store.ports.some((other) => other.network === network && other.kind === "uplink");
      change.hidden = !about.writes || ["trunk", "uplink"].includes(found.kind);
      const enabled = !(found.state === "down" && /enabled/.test(found.reason ?? ""));
      change.dataset.enabled = enabled;
      setText(change, enabled ? "Take the port down" : "Take the port up");
    },
  };
}

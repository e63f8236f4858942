// Lists that the daemon is asked for while they are looked at: addresses, trunks, leases and flows.

import { get, part } from "../api.js";
import { h, heading, offer, select, setText } from "../dom.js";
import * as store from "../store.js";
import { table } from "../table.js";
import { age, count, octets, orDash } from "../text.js";

/** A view of a list of `path(network)`, asked for again with each sample of the ports. */
function list({ title, path, all, columns, key, empty, extra }) {
  return ({ query }) => {
    let network = query.get("network") ?? "";
    let asking = false;
    let closed = false;
    const choice = select("Network", [], network, (value) => {
      network = value;
      update();
    });
    const said = h("p", { role: "status" });
    const grid = table({ caption: title, columns, key, empty });
    const more = extra?.(query);

    async function update() {
      const names = store.networks();
      if (!all && network === "" && names.length > 0) network = names[0];
      offer(choice.select, [...(all ? [["", "all"]] : []), ...names.map((name) => [name, name])], network);
      if (asking || (!all && network === "")) return;
      asking = true;
      const asked = network;
      try {
        const rows = await get(path(asked, query));
        if (closed || asked !== network) return;
        setText(said, "");
        grid.update(rows);
        more?.update(rows);
      } catch (error) {
        setText(said, error.message);
      } finally {
        asking = false;
      }
    }

    return {
      title,
      element: [heading(title), h("div", { class: "bar" }, choice.element, more?.element), said, grid.element],
      update,
      close: () => (closed = true),
    };
  };
}

const portOf = (row) => `#/port/${part(row.network)}/${part(row.port)}`;
const suffix = (network) => (network ? `?network=${part(network)}` : "");

/** The forwarding database of a network. */
export const fdb = list({
  title: "Addresses (FDB)",
  path: (network) => `/v1/networks/${part(network)}/fdb`,
  all: false,
  columns: [
    { title: "MAC address", text: (row) => row.mac },
    { title: "VLAN", text: (row) => orDash(row.vlan) },
    { title: "Port", text: (row) => row.port },
    { title: "Age", text: (row) => (row.static ? "static" : age(row.age_seconds)), sort: (row) => row.age_seconds ?? -1, numeric: true },
    { title: "IP addresses", text: (row) => orDash(row.addresses.join(" ")), wide: true },
    { title: "Name", text: (row) => orDash(row.name), wide: true },
    { title: "Fast", text: (row) => (row.fast ? "by the kernel" : "–"), wide: true },
  ],
  key: (row) => `${row.mac} ${row.vlan}`,
  empty: "No address is known yet.",
});

/** How networks are joined to the host's interfaces. */
export const trunks = list({
  title: "Trunks",
  path: (network) => `/v1/trunks${suffix(network)}`,
  all: true,
  columns: [
    { title: "Network", text: (row) => row.network },
    { title: "Interface", text: (row) => row.interface },
    { title: "Mode", text: (row) => row.mode },
    { title: "State", text: (row) => row.state, state: (row) => (row.state === "connected" ? "up" : "down") },
    { title: "Why", text: (row) => orDash(row.reason) },
    { title: "Carrier", text: (row) => (row.carrier ? "yes" : "no") },
    { title: "Guests", text: (row) => count(row.stations), numeric: true },
    { title: "Host's addresses", text: (row) => orDash(row.host_addresses.join(" ")), wide: true },
    { title: "Host in / out", text: (row) => `${octets(row.host.rx_octets)} / ${octets(row.host.tx_octets)}`, wide: true },
    { title: "Wire in / out", text: (row) => `${octets(row.wire.rx_octets)} / ${octets(row.wire.tx_octets)}`, wide: true },
    { title: "On the host", text: (row) => orDash(row.installed.join("; ")), wide: true },
  ],
  key: (row) => row.network,
  empty: "No network has a trunk.",
});

/** Addresses that guests have. */
export const leases = list({
  title: "Leases",
  path: (network) => `/v1/leases${suffix(network)}`,
  all: true,
  columns: [
    { title: "Address", text: (row) => row.address },
    { title: "Network", text: (row) => row.network },
    { title: "Port", text: (row) => orDash(row.port) },
    { title: "MAC address", text: (row) => row.mac },
    { title: "Name", text: (row) => orDash(row.name) },
    { title: "Source", text: (row) => row.source, wide: true },
    { title: "Until", text: (row) => (row.until === null ? "no end" : new Date(row.until).toLocaleString()), sort: (row) => row.until ?? "", wide: true },
  ],
  key: (row) => `${row.network} ${row.address}`,
  empty: "No guest has an address of an uplink.",
});

/** What guests have open to the outside; `query.port` is NETWORK/PORT. */
export const flows = list({
  title: "Flows",
  path: (network, query) => {
    const [ofNetwork, ofPort] = (query.get("port") ?? "").split("/");
    if (ofPort) return `/v1/flows?network=${part(ofNetwork)}&port=${part(ofPort)}`;
    return `/v1/flows${suffix(network)}`;
  },
  all: true,
  columns: [
    { title: "Guest", text: (row) => row.guest },
    { title: "Peer", text: (row) => orDash(row.peer) },
    { title: "Protocol", text: (row) => row.protocol },
    { title: "Direction", text: (row) => row.direction, wide: true },
    { title: "Port", text: (row) => row.port, href: portOf },
    { title: "State", text: (row) => row.state },
    { title: "From the guest", text: (row) => octets(row.rx_octets), sort: (row) => row.rx_octets, numeric: true },
    { title: "To the guest", text: (row) => octets(row.tx_octets), sort: (row) => row.tx_octets, numeric: true },
    { title: "Age", text: (row) => age(row.age_seconds), sort: (row) => row.age_seconds, numeric: true, wide: true },
    { title: "Idle", text: (row) => age(row.idle_seconds), sort: (row) => row.idle_seconds, numeric: true, wide: true },
  ],
  key: (row) => `${row.network} ${row.id}`,
  empty: "Nothing is open.",
  extra: (query) => {
    const port = query.get("port");
    return port ? { element: h("span", {}, `of ${port} · `, h("a", { href: "#/flows" }, "all flows")), update() {} } : null;
  },
});

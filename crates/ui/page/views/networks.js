// The networks: a picture of one, and its ports as a list.

import { checkbox, h, heading, offer, select } from "../dom.js";
import { picture } from "../picture.js";
import * as store from "../store.js";
import { table } from "../table.js";
import { talks } from "../talks.js";
import { bitRate } from "../text.js";
import { portColumns } from "./ports.js";

/** The view of a network; `query.network` names it. */
export function networks({ query, go }) {
  let network = query.get("network") ?? "";
  let wanted = true;
  const stop = new AbortController();
  const choice = select("Network", [], network, (value) => go("/", { network: value }));
  const sampled = checkbox("Show who talks to whom (samples frame headers)", wanted, (value) => {
    wanted = value;
    if (!wanted) show([]);
  });
  const drawing = picture((id) => go(`/port/${id.split("/").map(encodeURIComponent).join("/")}`));
  const ports = table({ caption: "Ports of the network", columns: portColumns(), key: (port) => port.id, empty: "No port." });
  const pairs = table({
    caption: "Who talks to whom",
    columns: [
      { title: "From", text: (pair) => pair.from.slice(network.length + 1) },
      { title: "To", text: (pair) => (pair.to === null ? "all, or not known" : pair.to.slice(network.length + 1)) },
      { title: "Rate", text: (pair) => bitRate(pair.rate), sort: (pair) => pair.rate, numeric: true },
    ],
    key: (pair) => JSON.stringify([pair.from, pair.to]),
    empty: "No frame was seen in the last second.",
    filter: false,
    rows: 20,
  });

  function show(list) {
    drawing.talks(list);
    pairs.update([...list].sort((one, other) => other.rate - one.rate));
  }

  async function sampling() {
    while (!stop.signal.aborted) {
      if (wanted && network && document.visibilityState === "visible") {
        try {
          const list = await talks(network, stop.signal);
          if (wanted && !stop.signal.aborted) show(list);
        } catch {
          // The samples of the counters say what is wrong.
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }

  sampling();
  return {
    title: "Networks",
    element: [heading("Networks"), h("div", { class: "bar" }, choice.element, sampled.element), drawing.element, ports.element, pairs.element],
    update() {
      const all = store.networks();
      if (!network && all.length > 0) network = all[0];
      offer(choice.select, all.map((name) => [name, name]), network);
      const list = store.ports.filter((port) => port.network === network);
      drawing.update(network, list);
      ports.update(list);
    },
    close: () => stop.abort(),
  };
}

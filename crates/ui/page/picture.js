// A network as a picture: its ports around it, as thick a line to each as it has traffic, and lines between those that talk
// to each other. Arrow keys go from port to port, Enter opens one.

import { h, s, setAttribute, setText } from "./dom.js";
import { bitRate, rate } from "./text.js";

const NODE = 54;
const RADIUS = 150;
/** More ports than that have their names only when they are pointed at. */
const NAMED = 48;

const LETTERS = { tap: "T", stream: "S", datagram: "D", vde: "V", tunnel: "U", interface: "I", vhost_user: "H", trunk: "⇅", uplink: "↑" };

/** Width of a line for bits a second: a step for each factor of ten. */
export const thickness = (bits) => (bits < 1 ? 0.75 : Math.min(12, 1 + 1.4 * Math.max(0, Math.log10(bits) - 2)));

/** Places on rings: as many on each as fit. */
function places(count) {
  const found = [];
  const named = count <= NAMED;
  const node = named ? NODE : 24;
  let radius = named ? Math.max(RADIUS, (count * NODE) / (2 * Math.PI)) : RADIUS;
  for (let left = count; left > 0; radius += node) {
    const here = Math.min(left, Math.max(1, Math.floor((2 * Math.PI * radius) / node)));
    for (let i = 0; i < here; i += 1) {
      const angle = (2 * Math.PI * i) / here - Math.PI / 2;
      found.push({ x: radius * Math.cos(angle), y: radius * Math.sin(angle) });
    }
    left -= here;
  }
  return { found, radius: radius - node };
}

function shape(kind, size) {
  if (kind === "trunk") return s("rect", { x: -size, y: -size, width: 2 * size, height: 2 * size });
  if (kind === "uplink") return s("polygon", { points: `0,${-size * 1.3} ${size * 1.3},0 0,${size * 1.3} ${-size * 1.3},0` });
  return s("circle", { r: size });
}

/** The picture; `open` is called with the id of a port. */
export function picture(open) {
  const links = s("g", { class: "links" });
  const between = s("g", { class: "between" });
  const nodes = s("g", { class: "nodes" });
  const centre = s("g", { class: "centre" }, s("circle", { r: 34 }), s("text", { "text-anchor": "middle", dy: "0.35em" }));
  const svg = s("svg", { class: "picture", role: "group" }, links, between, centre, nodes);
  const hint = h("p", { class: "hint" }, "Point at a port, or go there with the arrow keys. Red: it drops frames now. Broken line: it waits for its guest. Crossed out: down or failed.");
  const made = new Map();
  const chords = new Map();
  let order = "";
  let current = null;

  function focus(id) {
    if (current) made.get(current)?.node.setAttribute("tabindex", "-1");
    current = id;
    made.get(id)?.node.setAttribute("tabindex", "0");
  }

  svg.addEventListener("keydown", (event) => {
    const ids = [...made.keys()];
    const at = ids.indexOf(current);
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in steps) {
      focus(ids[(at + steps[event.key] + ids.length) % ids.length]);
      made.get(current).node.focus();
    } else if (event.key === "Home" || event.key === "End") {
      focus(event.key === "Home" ? ids[0] : ids.at(-1));
      made.get(current).node.focus();
    } else if (event.key === "Enter" && current) {
      open(current);
    } else {
      return;
    }
    event.preventDefault();
  });

  function make(port, place, size, named) {
    const { x, y } = place;
    const link = s("line", { x1: 0, y1: 0, x2: x, y2: y });
    const label = s("text", { class: "name", "text-anchor": "middle", y: place.y < 0 ? -size - 6 : size + 14 });
    const letter = s("text", { class: "letter", "text-anchor": "middle", dy: "0.35em" }, size > 9 ? (LETTERS[port.kind] ?? "?") : "");
    const node = s(
      "g",
      { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, tabindex: "-1", role: "link", class: "node" },
      shape(port.kind, size),
      letter,
      s("line", { class: "cross", x1: -size, y1: -size, x2: size, y2: size }),
      named ? label : null,
    );
    node.addEventListener("click", () => open(port.id));
    node.addEventListener("focus", () => focus(port.id));
    const tell = () => setText(hint, node.getAttribute("aria-label"));
    node.addEventListener("focus", tell);
    node.addEventListener("pointerenter", tell);
    links.append(link);
    nodes.append(node);
    return { node, link, label, place };
  }

  function layout(ports) {
    const { found, radius } = places(ports.length);
    const named = ports.length <= NAMED;
    const size = named ? 15 : 8;
    links.replaceChildren();
    nodes.replaceChildren();
    svg.classList.toggle("crowded", !named);
    made.clear();
    ports.forEach((port, i) => made.set(port.id, make(port, found[i], size, named)));
    const half = radius + (named ? 40 : 16);
    svg.setAttribute("viewBox", `${-half} ${-half} ${2 * half} ${2 * half}`);
    focus(made.has(current) ? current : (ports[0]?.id ?? null));
  }

  return {
    element: h("div", { class: "frame" }, svg, hint),
    /** Shows the ports of a network as they are now. */
    update(network, ports) {
      const now = ports.map((port) => `${port.id} ${port.kind}`).join("\n");
      if (now !== order) {
        const hadFocus = nodes.contains(document.activeElement);
        order = now;
        layout(ports);
        if (hadFocus) made.get(current)?.node.focus();
      }
      setAttribute(svg, "aria-label", `Network ${network} with ${ports.length} ports; arrow keys go from port to port`);
      setText(centre.lastChild, network.length > 9 ? `${network.slice(0, 8)}…` : network);
      for (const port of ports) {
        const { node, link, label } = made.get(port.id);
        const all = port.rates.rx + port.rates.tx;
        setAttribute(node, "data-state", port.state);
        setAttribute(link, "data-state", port.state);
        setAttribute(link, "stroke-width", thickness(all).toFixed(2));
        setAttribute(link, "data-busy", all >= 1);
        setAttribute(node, "data-drops", port.rates.drops > 0);
        setText(label, port.port.length > 12 ? `${port.port.slice(0, 11)}…` : port.port);
        const drops = port.rates.drops > 0 ? `, ${rate(port.rates.drops)} dropped` : "";
        setAttribute(node, "aria-label", `${port.port}, ${port.kind}, ${port.state}, ${bitRate(port.rates.rx)} in, ${bitRate(port.rates.tx)} out${drops}`);
      }
    },
    /** Shows who talks to whom: `{from, to, rate}` each. */
    talks(list) {
      const seen = new Set();
      for (const { from, to, rate: bits } of list) {
        const [one, other] = [made.get(from)?.place, made.get(to)?.place];
        if (!one || !other || from === to) continue;
        const id = JSON.stringify([from, to]);
        seen.add(id);
        let chord = chords.get(id);
        if (!chord) {
          chords.set(id, (chord = s("path", { fill: "none" }, s("title"))));
          between.append(chord);
        }
        // Each way bends to a side of its own.
        const bend = 0.25;
        const [mx, my] = [(one.x + other.x) / 4 + (other.y - one.y) * bend, (one.y + other.y) / 4 + (one.x - other.x) * bend];
        setAttribute(chord, "d", `M${one.x.toFixed(1)} ${one.y.toFixed(1)} Q${mx.toFixed(1)} ${my.toFixed(1)} ${other.x.toFixed(1)} ${other.y.toFixed(1)}`);
        setAttribute(chord, "stroke-width", thickness(bits).toFixed(2));
        setText(chord.firstChild, `${from} to ${to}: ${bitRate(bits)}`);
      }
      for (const [id, chord] of chords) {
        if (!seen.has(id)) {
          chord.remove();
          chords.delete(id);
        }
      }
    },
  };
}

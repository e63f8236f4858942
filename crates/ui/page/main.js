// The page: which view is shown, and what it is told.

import { get, takeKey } from "./api.js";
import { h, setText } from "./dom.js";
import * as store from "./store.js";
import { capture } from "./views/capture.js";
import { config } from "./views/config.js";
import { drops } from "./views/drops.js";
import { events } from "./views/events.js";
import { fdb, flows, leases, trunks } from "./views/lists.js";
import { networks } from "./views/networks.js";
import { port, ports } from "./views/ports.js";

const hasKind = (kind) => () => store.ports.some((port) => port.kind === kind);

/** Each view: its path, its name, how it is made, and when there is anything to see in it. */
const VIEWS = [
  ["/", "Networks", networks],
  ["/ports", "Ports", ports],
  ["/fdb", "Addresses", fdb],
  ["/trunks", "Trunks", trunks, hasKind("trunk")],
  ["/leases", "Leases", leases, hasKind("uplink")],
  ["/flows", "Flows", flows, hasKind("uplink")],
  ["/events", "Events", events],
  ["/drops", "Drops", drops],
  ["/capture", "Capture", capture],
  ["/config", "Configuration", config],
];

const main = document.getElementById("main");
const trouble = document.getElementById("trouble");
const links = new Map();
let view = null;
let about = { writes: false };

function go(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  location.hash = text ? `${path}?${text}` : path;
}

/** The view that the address names, with what it is made from. */
function named() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const parts = path.split("/").slice(1);
  if (parts[0] === "port" && parts.length === 3) return { path: "/ports", make: port, parameters: parts.slice(1).map(decodeURIComponent), query };
  const found = VIEWS.find(([known]) => known === path) ?? VIEWS[0];
  return { path: found[0], make: found[2], parameters: [], query };
}

function show(focus) {
  view?.close?.();
  let wanted;
  try {
    wanted = named();
  } catch {
    wanted = { path: "/", make: networks, parameters: [], query: "" };
  }
  view = wanted.make({ parameters: wanted.parameters, query: new URLSearchParams(wanted.query), go, about });
  main.replaceChildren(...[view.element].flat());
  document.title = `${view.title} – vmlan`;
  for (const [path, link] of links) {
    if (path === wanted.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.update();
  if (focus) main.querySelector("h1")?.focus();
  window.scrollTo(0, 0);
}

function tell(error) {
  trouble.hidden = error === null;
  if (error !== null) {
    const lost = error.status === 403 ? "This page is of an earlier `vmlan ui`, or of the daemon before it was started anew: `vmlan ui --link` prints the new link." : `Nothing is heard of vmlan: ${error.message}`;
    setText(trouble, lost);
  }
}

function update(what) {
  if (what === "events") {
    view.happened?.();
    return;
  }
  for (const [path, , , when] of VIEWS) links.get(path).parentElement.hidden = when ? !when() : false;
  view.update();
}

async function start() {
  if (!takeKey()) {
    tell(new Error("open the link that `vmlan ui`, or `vmlan ui --link`, printed"));
    return;
  }
  const nav = document.getElementById("nav");
  for (const [path, name, , when] of VIEWS) {
    const link = h("a", { href: `#${path}` }, name);
    links.set(path, link);
    nav.append(h("li", { hidden: Boolean(when) }, link));
  }
  try {
    about = await get("/ui/about");
    setText(document.getElementById("version"), about.version);
  } catch (error) {
    tell(error);
  }
  show(false);
  window.addEventListener("hashchange", () => show(true));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  store.listen(update);
  store.run(tell);
}

start();

// Captures: what passes ports, or what they drop, as a pcapng file.

import { request } from "../api.js";
import { checkbox, h, heading, number, offer, select, setText } from "../dom.js";
import * as store from "../store.js";
import { octets } from "../text.js";

/** The file is in the page until it is saved, so there is an end. */
const LARGEST = 128 << 20;

// A capture goes on while other views are looked at.
const now = { pieces: [], length: 0, number: null, controller: null, url: null, said: "No capture runs.", full: false };

function name() {
  return `vmlan-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.pcapng`;
}

async function run(body) {
  if (now.url) URL.revokeObjectURL(now.url);
  Object.assign(now, { pieces: [], length: 0, number: null, url: null, full: false, controller: new AbortController(), said: "The capture begins." });
  try {
    const response = await request("POST", "/v1/capture", { body: JSON.stringify(body), signal: now.controller.signal });
    now.number = response.headers.get("vmlan-capture");
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      now.pieces.push(value);
      now.length += value.length;
      if (now.length > LARGEST && !now.full) {
        now.full = true;
        stop();
      }
    }
    now.url = URL.createObjectURL(new Blob(now.pieces, { type: "application/x-pcapng" }));
    now.said = `The capture has ended with ${octets(now.length)}${now.full ? ", which is as much as this page keeps" : ""}.`;
  } catch (error) {
    now.said = `The capture failed: ${error.message}`;
  } finally {
    now.pieces = [];
    now.controller = null;
  }
}

/** Ends the capture in order, so that the file is whole. */
async function stop() {
  try {
    if (now.number) await request("DELETE", `/v1/capture/${now.number}`);
  } catch (error) {
    // It has just ended by itself.
    if (error.status !== 404) now.controller?.abort();
  }
}

/** The view; `query.ports` names a network or a port, and `query.drops` says that drops are wanted. */
export function capture({ query }) {
  let chosen = query.get("ports") ?? "";
  const choice = select("What", [], chosen, (value) => {
    chosen = value;
    update();
  });
  const dropped = checkbox("Only what is dropped, and why", query.get("drops") === "true", () => update());
  const both = checkbox("Every port in both directions", false, () => update());
  const frames = number("End after frames", { min: 1, max: 10000000, placeholder: "no end" });
  const kept = number("Octets of each frame", { min: 1, max: 262144, placeholder: "all" });
  const begin = h("button", { type: "submit" }, "Start");
  const end = h("button", { type: "button", onclick: () => stop() }, "Stop");
  const status = h("p", { role: "status", class: "status" });
  // Not told by screen readers with each second.
  const length = h("p", { class: "status" });
  const save = h("a", { hidden: true, class: "button" }, "Download the capture");
  const same = h("code");
  const form = h(
    "form",
    { class: "form" },
    choice.element,
    dropped.element,
    both.element,
    frames.element,
    kept.element,
    h("div", { class: "bar" }, begin, end, save),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (now.controller) return;
    const body = { drops: dropped.box.checked, both: both.box.checked };
    if (chosen) body.ports = [chosen];
    if (frames.input.value) body.count = Number(frames.input.value);
    if (kept.input.value) body.snaplen = Number(kept.input.value);
    const ends = run(body);
    update();
    await ends;
    update();
  });
  frames.input.addEventListener("input", () => update());
  kept.input.addEventListener("input", () => update());

  function update() {
    const places = store.networks().flatMap((network) => [network, ...store.ports.filter((port) => port.network === network).map((port) => port.id)]);
    if (chosen && !places.includes(chosen)) places.push(chosen);
    offer(choice.select, [["", "all networks"], ...places.map((place) => [place, place])], chosen);
    const runs = now.controller !== null;
    begin.disabled = runs;
    end.disabled = !runs || !now.number;
    setText(status, runs ? "The capture runs." : now.said);
    setText(length, runs ? `${octets(now.length)} so far` : "");
    save.hidden = now.url === null;
    if (now.url && save.getAttribute("href") !== now.url) {
      save.href = now.url;
      save.download = name();
    }
    const options = [chosen, dropped.box.checked ? "--drops" : "", both.box.checked ? "--both" : ""];
    if (frames.input.value) options.push(`--count ${frames.input.value}`);
    if (kept.input.value) options.push(`--snaplen ${kept.input.value}`);
    setText(same, `vmlan capture ${options.filter(Boolean).join(" ")} -w capture.pcapng`.replaceAll("  ", " "));
  }

  return {
    title: "Capture",
    element: [heading("Capture"), form, status, length, h("p", {}, "The same in a terminal, where it can be filtered (-f) and has no limit of size: ", same)],
    update,
  };
}

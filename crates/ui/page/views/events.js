// Events, as they come.

import { checkbox, h, heading, setText } from "../dom.js";
import * as store from "../store.js";

const SHOWN = 200;

/** `member=value …`, without what stands elsewhere. */
function members(event) {
  const rest = Object.entries(event).filter(([name, value]) => !["number", "time", "event"].includes(name) && value !== null);
  return rest.map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : value}`).join(" ");
}

const clock = (time) => String(time).slice(11, 19);

/** The view. */
export function events() {
  let words = "";
  let paused = false;
  let waiting = false;
  let drawn = 0;
  const log = h("ol", { class: "log", role: "log", "aria-label": "Events", tabindex: "0" });
  const status = h("p", { class: "status" });
  const filter = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  filter.addEventListener("input", () => {
    words = filter.value.toLowerCase();
    drawn = 0;
    log.replaceChildren();
    draw();
  });
  const pause = checkbox("Pause", paused, (value) => {
    paused = value;
    draw();
  });

  function draw() {
    waiting = false;
    setText(status, store.events.length === 0 ? "Nothing has happened since the page was opened." : `${store.eventCount} since the page was opened`);
    if (paused) return;
    const fresh = store.events.filter((event) => event.number > drawn).slice(-SHOWN);
    drawn = store.eventCount;
    for (const event of fresh) {
      const text = members(event);
      if (words && !`${event.event} ${text}`.toLowerCase().includes(words)) continue;
      log.prepend(h("li", {}, h("time", { datetime: event.time, title: event.time }, clock(event.time)), " ", h("strong", {}, event.event), " ", text));
    }
    while (log.children.length > SHOWN) log.lastChild.remove();
  }

  return {
    title: "Events",
    element: [heading("Events"), h("div", { class: "bar" }, h("label", { class: "filter" }, "Filter events ", filter), pause.element, status), log],
    // However many come at once, they are drawn together.
    happened() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(draw);
    },
    update() {
      if (drawn === 0) draw();
    },
  };
}

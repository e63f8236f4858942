// The configuration that runs, as a file, and what applying another one would do.

import { get, getText, post } from "../api.js";
import { h, heading, setText } from "../dom.js";
import { table } from "../table.js";
import { orDash } from "../text.js";

/** Longer files are not compared line by line. */
const LONGEST = 3000;

/** The lines that differ: `[sign, line]` each, by the longest common part. */
export function difference(before, after) {
  let [one, other] = [before.split("\n"), after.split("\n")];
  while (one.length > 0 && other.length > 0 && one[0] === other[0]) [one, other] = [one.slice(1), other.slice(1)];
  while (one.length > 0 && other.length > 0 && one.at(-1) === other.at(-1)) [one, other] = [one.slice(0, -1), other.slice(0, -1)];
  if (one.length > LONGEST || other.length > LONGEST) return [["!", "too long to be compared line by line"]];
  const width = other.length + 1;
  const common = new Uint16Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i -= 1) {
    for (let j = other.length - 1; j >= 0; j -= 1) {
      const [right, down] = [common[i * width + j + 1], common[(i + 1) * width + j]];
      common[i * width + j] = one[i] === other[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(right, down);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) [i, j] = [i + 1, j + 1];
    else if (j >= other.length || (i < one.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) found.push(["-", one[i++]]);
    else found.push(["+", other[j++]]);
  }
  return found;
}

/** The view. */
export function config({ about }) {
  let running = "";
  const text = h("textarea", { id: "config", rows: "20", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const said = h("p", { role: "status", class: "status" });
  const faults = h("ul", { class: "faults" });
  const notes = h("ul");
  const lines = h("pre", { class: "difference", "aria-label": "Lines that differ from the configuration that runs" });
  const actions = table({
    caption: "What applying does",
    columns: [
      { title: "Action", text: (row) => row.action },
      { title: "Network", text: (row) => orDash(row.network) },
      { title: "Port", text: (row) => orDash(row.port) },
      { title: "Outcome", text: (row) => row.outcome },
      { title: "Reason", text: (row) => orDash(row.reason) },
    ],
    key: (row) => JSON.stringify([row.action, row.network, row.port]),
    empty: "Nothing: this configuration runs already.",
    filter: false,
  });
  actions.element.hidden = true;

  function differ() {
    const found = difference(running, text.value);
    lines.replaceChildren(...found.map(([sign, line]) => h("span", { class: sign === "+" ? "added" : "removed" }, `${sign} ${line}\n`)));
    lines.hidden = found.length === 0;
  }

  async function ask(path, body, done) {
    faults.replaceChildren();
    notes.replaceChildren();
    actions.element.hidden = true;
    try {
      const report = await post(path, body);
      actions.element.hidden = false;
      actions.update(report.actions);
      notes.replaceChildren(...report.notes.map((note) => h("li", {}, note)));
      setText(said, done(report));
    } catch (error) {
      setText(said, error.message);
      faults.replaceChildren(...error.details.map((fault) => h("li", {}, fault.field ? `${fault.field}: ${fault.message}` : fault.message)));
    }
    differ();
  }

  async function load() {
    try {
      running = await getText("/v1/config?format=toml");
      text.value = running;
      differ();
    } catch (error) {
      setText(said, error.message);
    }
  }

  const planned = (report) => (report.actions.length === 0 ? "Nothing would be done." : `${report.actions.length} actions would be done. Nothing has been done yet.`);
  const button = (title, act) => h("button", { type: "button", onclick: act }, title);
  const question = h(
    "dialog",
    { "aria-label": "Apply the configuration" },
    h("p", {}, "The daemon makes this configuration the running one now. Its file stays as it is."),
    h("form", { method: "dialog", class: "bar" }, h("button", { value: "yes" }, "Apply"), h("button", { value: "no", autofocus: true }, "Cancel")),
  );
  question.addEventListener("close", async () => {
    if (question.returnValue !== "yes") return;
    await ask("/ui/apply", text.value, (report) => {
      const failed = report.actions.filter((action) => action.outcome === "failed").length;
      return failed > 0 ? `Applied; ${failed} of ${report.actions.length} actions failed.` : `Applied: ${report.actions.length} actions.`;
    });
    if (faults.children.length === 0) running = await getText("/v1/config?format=toml").catch(() => running);
    differ();
  });
  const buttons = h(
    "div",
    { class: "bar" },
    button("What would change?", () => ask("/ui/apply?dry_run=true", text.value, planned)),
    button("What would the daemon's file change?", () => ask("/v1/reload?dry_run=true", "", planned)),
    about.writes ? button("Apply", () => question.showModal()) : null,
    button("Back to what runs", load),
  );
  const file = h("p", {});
  const rights = about.writes ? "This page may apply it." : "This page changes nothing: `vmlan ui --writes` may, the daemon's own page with `ui_writes = true`, and `vmlan apply FILE`.";
  load();
  get("/v1/status").then(
    (status) => setText(file, `The daemon's file: ${status.config ?? "none"}. ${rights}`),
    () => {},
  );
  return {
    title: "Configuration",
    element: [heading("Configuration"), file, h("label", { for: "config" }, "Configuration (TOML); change it to see what applying it would do"), text, buttons, said, faults, notes, lines, actions.element, question],
    update() {},
  };
}

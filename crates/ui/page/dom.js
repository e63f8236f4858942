// Elements. What the daemon tells holds names that guests and other users chose, so text becomes text nodes only.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Makes an element of HTML; children are nodes or text. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Makes an element of SVG. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Sets the text of a node where it is another one: nothing is told to a screen reader twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute where it has another value. */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** The heading of a view. */
export function heading(text) {
  return h("h1", { tabindex: "-1" }, text);
}

let labels = 0;

/** A control with its label in front. */
function labelled(label, control) {
  labels += 1;
  control.id = `control-${labels}`;
  return h("span", { class: "labelled" }, h("label", { for: control.id }, label), " ", control);
}

/** A choice with its label. */
export function select(label, options, chosen, change) {
  const element = h("select", { onchange: () => change(element.value) });
  offer(element, options, chosen);
  return { element: labelled(label, element), select: element };
}

/** What choices offer now. */
const offered = new WeakMap();

/** Replaces the options of a choice by `[value, text]` pairs, where they are others. */
export function offer(element, options, chosen) {
  const now = JSON.stringify(options);
  if (offered.get(element) !== now) {
    offered.set(element, now);
    element.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  }
  if (element.value !== chosen) element.value = chosen;
}

/** A box to tick with its label. */
export function checkbox(label, checked, change) {
  const box = h("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return { element: h("label", {}, box, ` ${label}`), box };
}

/** A number with its label. */
export function number(label, attributes) {
  const input = h("input", { type: "number", inputmode: "numeric", ...attributes });
  return { element: labelled(label, input), input };
}

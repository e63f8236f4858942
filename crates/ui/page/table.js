// A table that can be filtered, sorted and turned over, a page of rows at a time; so 512 ports cost no more than 50. Rows
// stay the same elements while their text changes, so that neither focus nor a screen reader loses its place.

import { h, setAttribute, setText } from "./dom.js";

const ROWS = 50;
let tables = 0;

const compare = (one, other) =>
  typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });

/**
 * A table. A column has `title` and `text(row)`, and may have `sort(row)`, `href(row)`, `draw(cell, row)`, `numeric`,
 * `wide` (left out at phone width) and `state(row)` (a class).
 */
export function table({ caption, columns, key, empty, filter = true, rows: most = ROWS }) {
  tables += 1;
  const id = `table-${tables}`;
  const state = { rows: [], filter: "", column: null, down: false, page: 0 };
  const shown = new Map();
  const body = h("tbody");
  const heads = columns.map((column) => {
    const head = h("th", { scope: "col", class: classes(column) });
    head.append(h("button", { type: "button", onclick: () => sortBy(column) }, column.title));
    return head;
  });
  const status = h("p", { class: "status", role: "status" });
  const back = h("button", { type: "button", onclick: () => turn(-1) }, "Previous rows");
  const on = h("button", { type: "button", onclick: () => turn(1) }, "Next rows");
  const input = h("input", { type: "search", id, autocomplete: "off", spellcheck: "false", oninput: () => narrow(input.value) });
  const search = filter ? h("label", { class: "filter" }, `Filter ${caption.toLowerCase()} `, input) : null;
  const grid = h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body);
  const frame = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, grid);
  const element = h("div", { class: "listing" }, h("div", { class: "bar" }, search, status, back, on), frame);

  function classes(column) {
    return [column.numeric ? "numeric" : "", column.wide ? "wide" : ""].join(" ").trim() || null;
  }

  function sortBy(column) {
    state.down = state.column === column ? !state.down : Boolean(column.numeric);
    state.column = column;
    state.page = 0;
    render();
  }

  function narrow(text) {
    state.filter = text.toLowerCase();
    state.page = 0;
    render();
  }

  function turn(by) {
    state.page += by;
    render();
  }

  function wanted() {
    let rows = state.rows;
    if (state.filter) rows = rows.filter((row) => columns.some((column) => String(column.text(row)).toLowerCase().includes(state.filter)));
    if (state.column) {
      const value = state.column.sort ?? state.column.text;
      const sign = state.down ? -1 : 1;
      rows = [...rows].sort((one, other) => sign * compare(value(one), value(other)));
    }
    return rows;
  }

  function make(row) {
    const cells = columns.map((column, i) => {
      const content = column.href ? h("a") : null;
      const cell = h(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: classes(column) }, content);
      return { cell, content: content ?? cell };
    });
    return { cells, row: h("tr", {}, cells.map(({ cell }) => cell)) };
  }

  function update({ cells }, row) {
    columns.forEach((column, i) => {
      const { cell, content } = cells[i];
      if (column.draw) return column.draw(cell, row);
      setText(content, String(column.text(row)));
      if (column.href) setAttribute(content, "href", column.href(row));
      if (column.state) setAttribute(cell, "data-state", column.state(row));
    });
  }

  function render() {
    const rows = wanted();
    const pages = Math.max(1, Math.ceil(rows.length / most));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * most;
    const here = rows.slice(first, first + most);
    const keys = new Set(here.map(key));
    for (const [name, made] of shown) {
      if (!keys.has(name)) {
        made.row.remove();
        shown.delete(name);
      }
    }
    here.forEach((row, i) => {
      const name = key(row);
      let made = shown.get(name);
      if (!made) shown.set(name, (made = make(row)));
      update(made, row);
      if (body.children[i] !== made.row) body.insertBefore(made.row, body.children[i] ?? null);
    });
    heads.forEach((head, i) => {
      const sorted = state.column === columns[i];
      setAttribute(head, "aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
    });
    const range = pages > 1 ? `Rows ${first + 1} to ${first + here.length} of ${rows.length}` : `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
    setText(status, rows.length === 0 && !state.filter ? empty : range);
    back.hidden = on.hidden = pages === 1;
    back.disabled = state.page === 0;
    on.disabled = state.page === pages - 1;
    frame.hidden = state.rows.length === 0;
    if (search) search.hidden = state.rows.length === 0;
  }

  return {
    element,
    update(rows) {
      state.rows = rows;
      render();
    },
  };
}

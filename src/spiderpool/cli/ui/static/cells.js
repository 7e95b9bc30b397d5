// A grid of addresses for mouse, keyboard and screen reader. It has at most 256 cells, however large the pool is.
import { format } from "./addresses.js";
import { h } from "./dom.js";
import { shade, sign, word } from "./states.js";

/**
 * @typedef {{address: any, state: number | null}} Cell
 * @param {{label: string, cells: Cell[], version: number, columns: number, open: (address: string) => void}} options
 */
export function grid({ label, cells, version, columns, open }) {
  const elements = cells.map((cell, place) => element(cell, version, place === 0));
  const rows = [];
  for (let start = 0; start < elements.length; start += columns) {
    rows.push(h("div", { role: "row" }, elements.slice(start, start + columns)));
  }
  const choose = (place) => {
    for (const each of elements) each.removeAttribute("aria-selected");
    elements[place].setAttribute("aria-selected", "true");
    open(format(cells[place].address, version));
  };
  const root = h(
    "div",
    {
      class: columns < 16 ? "cells wide" : "cells",
      role: "grid",
      "aria-label": label,
      onclick: (event) => {
        const place = elements.indexOf(event.target.closest("[role=gridcell]"));
        if (place >= 0) {
          focus(elements, place);
          choose(place);
        }
      },
      onkeydown: (event) => onKey(event, elements, columns, choose),
    },
    rows,
  );
  return { root, update: (state) => update(elements, cells, version, state) };
}

function element(cell, version, first) {
  const text = format(cell.address, version);
  const found = h(
    "div",
    { role: "gridcell", tabindex: first ? "0" : "-1" },
    h("span", { class: "sign", "aria-hidden": "true" }),
    h("span", { "aria-hidden": "true" }, version === 4 ? text.slice(text.lastIndexOf(".") + 1) : text),
  );
  paint(found, cell, text);
  return found;
}

function paint(found, cell, text) {
  found.className = `cell ${shade(cell.state)}`;
  found.setAttribute("aria-label", `${text}, ${word(cell.state)}`);
  found.title = `${text}: ${word(cell.state)}`;
  found.firstChild.textContent = sign(cell.state);
}

/** Shows the present states; only cells that differ are touched. */
function update(elements, cells, version, state) {
  cells.forEach((cell, place) => {
    const now = state(cell.address);
    if (now !== cell.state) {
      cell.state = now;
      paint(elements[place], cell, format(cell.address, version));
    }
  });
}

function focus(elements, place) {
  for (const each of elements) each.tabIndex = -1;
  elements[place].tabIndex = 0;
  elements[place].focus();
}

function onKey(event, elements, columns, choose) {
  const place = elements.indexOf(document.activeElement);
  if (place < 0) return;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  let next = null;
  if (event.key in steps) next = place + steps[event.key];
  else if (event.key === "Home") next = event.ctrlKey ? 0 : place - (place % columns);
  else if (event.key === "End") next = event.ctrlKey ? elements.length - 1 : Math.min(place - (place % columns) + columns, elements.length) - 1;
  else if (event.key === "Enter" || event.key === " ") choose(place);
  else return;
  event.preventDefault();
  if (next !== null && next >= 0 && next < elements.length) focus(elements, next);
}

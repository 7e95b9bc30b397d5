// Makes elements without ever parsing text as markup: what comes from the cluster stays text.

/**
 * An element.
 * @param {string} tag
 * @param {Record<string, any>} [props] attributes; `on…` are listeners, `class` and `data-…` as in HTML
 * @param {...any} children texts, elements, lists of both; null and false are left out
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "width%") element.style.width = `${value}%`; // by the object model: the policy forbids attributes
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Give an element new children. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** A table; cells that are numbers are aligned to the right. A quiet caption repeats the heading above it. */
export function table(caption, titles, rows, quiet = false) {
  const numeric = titles.map((_, place) => rows.some((row) => typeof row[place] === "number"));
  const cell = (tag, value, place) =>
    h(tag, { class: numeric[place] && !(value instanceof Node) ? "number" : null, scope: tag === "th" ? "col" : null }, shown(value));
  const shown = (value) => (typeof value === "number" ? value.toLocaleString(document.documentElement.lang) : (value ?? "–"));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: quiet ? "quiet" : null }, caption),
      h("thead", {}, h("tr", {}, titles.map((title, place) => cell("th", title, place)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, place) => cell("td", value, place))))),
    ),
  );
}

/** Facts that are known, as a list of terms. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", {}, known.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

/** Sentences about what needs attention, and about what is left out. */
export function alerts(texts) {
  return (texts ?? []).map((text) => h("p", { class: "alert" }, text));
}

export function notes(texts) {
  return (texts ?? []).map((text) => h("p", { class: "note" }, text));
}

// The path of a pod's packets: interfaces, gateways and routes, the ENI, and the Services that lead to it.
import { get, path } from "./api.js";
import { alerts, h, notes, put, s, table } from "./dom.js";
import { t } from "./words.js";

const WIDTH = 250;
const GAP = 60;
const LINE = 18;

export async function showPod(root, [namespace, name]) {
  const { answer: found, leftOut } = await get(path("pods", namespace, name));
  put(
    root,
    h("h2", {}, `${t("pod")} ${namespace}/${name}`),
    h("p", {}, t("on node", { node: found.node }), ": ", found.outcome),
    alerts(found.refusal ? [found.refusal] : []),
    found.interfaces.length ? drawing(found) : null,
    interfaces(found),
    found.services.length ? services(found.services) : h("p", { class: "muted" }, t("no services")),
    found.advice.length ? [h("h3", {}, t("advice")), h("ul", {}, found.advice.map((each) => h("li", {}, each)))] : null,
    notes([...found.notes, ...leftOut]),
  );
}

/** The same as the drawing, as a table: for screen readers, and to copy from. */
function interfaces(found) {
  const titles = ["interface", "network", "made as", "MAC", "addresses", "gateways", "routes", "eni"].map((each) => t(each));
  return table(t("interfaces"), titles, found.interfaces.map((each) => [
    each.interface,
    each.network,
    each.made_as,
    each.mac,
    each.addresses.join(", "),
    each.gateways.join(", "),
    each.routes.map((route) => `${route.dst} → ${route.gw}`).join(", "),
    each.eni,
  ]));
}

function services(found) {
  const titles = ["service", "type", "addresses", "ports"].map((each) => t(each));
  return table(t("services"), titles, found.map((each) => [each.name, each.type, each.addresses.join(", "), each.ports.join(", ")]));
}

function drawing(found) {
  const rows = found.interfaces.map((each) => ({
    link: [each.interface, each.network, ...each.addresses],
    way: [each.made_as, each.mac, each.eni].filter(Boolean),
    exit: [...each.gateways.map((gateway) => `${t("gateway")} ${gateway}`), ...each.routes.slice(0, 4).map((route) => `${route.dst} → ${route.gw}`)],
  }));
  const heights = rows.map((row) => Math.max(row.link.length, row.way.length, row.exit.length, 2) * LINE + 20);
  const total = heights.reduce((sum, each) => sum + each + 12, 0);
  const parts = [];
  const left = 0;
  const middle = WIDTH + GAP;
  const right = 2 * (WIDTH + GAP);
  let top = 0;
  rows.forEach((row, place) => {
    const height = heights[place];
    const centre = top + height / 2;
    parts.push(box(left, top, height, row.link), box(middle, top, height, row.way), box(right, top, height, row.exit.length ? row.exit : [t("no gateway")]));
    parts.push(arrow(left + WIDTH, middle, centre), arrow(middle + WIDTH, right, centre));
    top += height + 12;
  });
  return s(
    "svg",
    { class: "path", viewBox: `-2 -2 ${right + WIDTH + 4} ${total + 4}`, role: "img", "aria-label": t("drawing of the path") },
    parts,
  );
}

function box(x, y, height, lines) {
  return s(
    "g",
    {},
    s("rect", { x, y, width: WIDTH, height, rx: 5 }),
    lines.map((line, place) => s("text", { x: x + 10, y: y + 22 + place * LINE, class: place ? "faint" : "title" }, short(line))),
  );
}

const short = (text) => (text.length > 38 ? `${text.slice(0, 37)}…` : text);

function arrow(from, to, y) {
  return s("path", { d: `M ${from} ${y} H ${to - 2} M ${to - 8} ${y - 5} L ${to - 2} ${y} L ${to - 8} ${y + 5}` });
}

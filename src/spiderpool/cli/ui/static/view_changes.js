// What has changed: addresses taken and given back, when pools will be full, and who was refused.
import { get } from "./api.js";
import { h, notes, put, s, table } from "./dom.js";
import { t, time } from "./words.js";

const HOURS = [1, 6, 24, 168];

export async function showChanges(root) {
  let hours = 6;
  const line = h("div", {});
  const forecast = h("div", {});
  const refusals = h("div", {});
  const choice = h("select", { id: "hours", onchange: (event) => { hours = Number(event.target.value); draw(); } },
    HOURS.map((each) => h("option", { value: each, selected: each === hours }, t("last hours", { hours: each }))));
  put(root, h("h2", {}, t("changes")), h("p", {}, h("label", { for: "hours" }, t("time line")), " ", choice), line, refusals, forecast);
  const draw = async () => {
    const { answer: found, leftOut } = await get(`/api/changes?hours=${hours}`);
    put(line, found.buckets.length ? chart(found) : null, rows(found), notes([...found.problems, ...leftOut]));
    await showRefusals(refusals);
  };
  await draw();
  await showForecast(forecast);
  return { topics: ["Event"], redraw: () => showRefusals(refusals) };
}

function rows(found) {
  const titles = ["time", "what", "address", "pod", "node", "pool"].map((each) => t(each));
  if (!found.changes.length) return h("p", { class: "muted" }, t("no changes"));
  return table(t("changes"), titles, found.changes.map((each) => [
    time(each.at),
    t(each.taken ? "taken" : "given back"),
    h("a", { href: `#/addresses/${encodeURIComponent(each.address)}` }, each.address),
    each.pod,
    each.node,
    each.pool,
  ]), true);
}

function chart(found) {
  const most = Math.max(1, ...found.buckets.flatMap(([, taken, given]) => [taken, given]));
  const step = 800 / found.buckets.length;
  const bars = found.buckets.map(([, taken, given], place) => [
    s("rect", { class: "taken", x: place * step + 1, width: Math.max(step - 2, 1), y: 50 - (taken / most) * 46, height: (taken / most) * 46 }),
    s("rect", { class: "given", x: place * step + 1, width: Math.max(step - 2, 1), y: 50, height: (given / most) * 46 }),
  ]);
  const sums = found.buckets.reduce(([a, b], [, taken, given]) => [a + taken, b + given], [0, 0]);
  return s("svg", { class: "chart", viewBox: "0 0 800 100", preserveAspectRatio: "none", role: "img", "aria-label": t("chart", { taken: sums[0], given: sums[1] }) },
    bars, s("line", { x1: 0, x2: 800, y1: 50, y2: 50 }));
}

/** Who was refused an address in the last hour, in the words of the agents. */
export async function showRefusals(root) {
  const { refusals } = await get("/api/refusals");
  const titles = ["time", "about", "reason", "sentence", "times"].map((each) => t(each));
  put(root, refusals.length
    ? table(t("refusals"), titles, refusals.map((each) => [time(each.at), each.object, each.reason, each.message, each.count]))
    : h("p", { class: "muted" }, t("no refusals")));
}

async function showForecast(root) {
  put(root, h("p", { class: "muted" }, t("loading")));
  const { answer: found, leftOut } = await get("/api/growth");
  const titles = ["pool", "growth", "full in"].map((each) => t(each));
  put(root, found.length ? table(t("forecast"), titles, found.map((each) => [
    h("a", { href: `#/pools/${encodeURIComponent(each.name)}` }, each.name), each.growth, each.full,
  ])) : h("p", { class: "muted" }, t("no forecast")), notes(leftOut));
}

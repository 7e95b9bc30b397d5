// How Spiderpool is, as `spiderpoolctl status` says it.
import { get } from "./api.js";
import { alerts, h, notes, put, table } from "./dom.js";
import { showRefusals } from "./view_changes.js";
import { count, t } from "./words.js";

const PERIOD = 15_000; // milliseconds between two looks

export async function showOverview(root) {
  const status = h("div", {});
  const refusals = h("div", {});
  put(root, h("h2", {}, t("overview")), status, refusals);
  const draw = async () => {
    const { answer: found, leftOut } = await get("/api/status");
    put(status, cards(found), alerts(found.problems.map((each) => each.text)), unread(found), components(found), notes(leftOut));
    await showRefusals(refusals);
  };
  await draw();
  const timer = setInterval(() => {
    if (!root.isConnected) clearInterval(timer);
    else if (!document.hidden) draw().catch(console.warn);
  }, PERIOD);
  return { topics: ["Event"], redraw: () => showRefusals(refusals) };
}

/** Never that all is well where something could not be read. */
function unread(found) {
  if (found.unread.length) return alerts([t("unread", { kinds: found.unread.join(", ") })]);
  return found.problems.length ? null : h("p", {}, t("nothing needs attention"));
}

const card = (title, value, more) => h("div", { class: "card" }, h("div", { class: "muted" }, title), h("div", { class: "big" }, value), more ? h("div", { class: "muted" }, more) : null);

function cards(found) {
  const full = (found.pools ?? []).filter((each) => each.total > 0 && each.free === 0).length;
  return h(
    "div",
    { class: "cards" },
    card(t("pools"), found.pools ? count(found.pools.length) : "–", t("full pools", { number: full })),
    card(t("agents"), found.nodes === null ? "–" : `${count(found.answered)} / ${count(found.nodes)}`, t("have answered")),
    card(t("webhooks"), found.mutating === null ? "–" : count(found.mutating + found.validating), found.certificate_expires ? t("certificate until", { day: found.certificate_expires }) : null),
    card(t("namespace"), found.namespace, found.kubernetes ? `Kubernetes ${found.kubernetes}` : null),
  );
}

function components(found) {
  if (!found.components.length) return null;
  const rows = found.components.map((each) => [each.name, each.version, each.ready === null ? null : `${each.ready}/${each.desired}`, each.leader, each.renewed]);
  return table(t("components"), [t("component"), t("version"), t("ready"), t("leader"), t("renewed")], rows);
}

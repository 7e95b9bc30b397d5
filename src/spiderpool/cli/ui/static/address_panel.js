// One address: who has it, since when, and who had it before.
import { get, path } from "./api.js";
import { alerts, facts, h, notes, put, table } from "./dom.js";
import { t, time } from "./words.js";

/** Shows an address in an element; what arrives after the next call is dropped. */
export async function showAddress(panel, address) {
  panel.dataset.address = address;
  put(panel, h("h3", {}, address), h("p", { class: "muted" }, t("loading")));
  const parts = await Promise.allSettled([get(path("addresses", address)), get(path("history", address))]);
  if (panel.dataset.address !== address) return;
  put(panel, h("h3", {}, address), holder(parts[0]), past(parts[1]));
}

function holder(part) {
  if (part.status === "rejected") return alerts([part.reason.message]);
  const { answer: found, leftOut } = part.value;
  return [
    facts([
      [t("state"), t(`who.${found.state}`)],
      [t("pod"), found.pod && podLink(found)],
      [t("node"), found.node && h("a", { href: "#/nodes" }, found.node)],
      [t("interface"), found.interface],
      [t("pool"), found.pool && h("a", { href: `#/pools/${encodeURIComponent(found.pool)}` }, found.pool)],
      [t("since"), found.since && `${time(found.since)} (${found.age})`],
      [t("owner"), found.owner],
      [t("released"), found.released && time(found.released)],
      [t("cooldown"), found.cooldown_until && time(found.cooldown_until)],
      [t("reserved by"), found.reserved_by.join(", ")],
    ]),
    found.seen.length ? sandboxes(found.seen) : null,
    found.pools.length ? table(t("pools"), [t("pool"), t("gives it"), t("because")], found.pools.map((each) => [each.pool, t(each.gives ? "yes" : "no"), each.reason])) : null,
    notes(found.notes),
    alerts(found.problems),
    notes(leftOut),
  ];
}

function podLink(found) {
  const [namespace, name] = found.pod.split("/");
  const link = h("a", { href: `#/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}` }, found.pod);
  return found.phase ? h("span", {}, link, ` (${found.phase})`) : link;
}

function sandboxes(seen) {
  const rows = seen.map((each) => [each.sandbox.slice(0, 13), each.node, each.interface, each.mac, each.pod]);
  return table(t("sandboxes"), [t("sandbox"), t("node"), t("interface"), "MAC", t("pod")], rows);
}

function past(part) {
  if (part.status === "rejected") return alerts([part.reason.message]);
  const { answer: found, leftOut } = part.value;
  const rows = [...found.items].reverse().map((each) => [each.pod, each.node, time(each.begun), each.ended_by ? time(each.ended_by) : t("now")]);
  return [
    rows.length ? table(t("history"), [t("pod"), t("node"), t("from"), t("until")], rows) : h("p", { class: "muted" }, t("no history")),
    notes([...found.problems, ...leftOut]),
  ];
}

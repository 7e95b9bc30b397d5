// The nodes: their addresses, their ENIs, and what their agents say.
import { get } from "./api.js";
import { h, put, table } from "./dom.js";
import { t, time } from "./words.js";

export async function showNodes(root) {
  const list = h("div", {});
  put(root, h("h2", {}, t("nodes")), list);
  const draw = async () => {
    const { nodes, quotas } = await get("/api/nodes");
    put(list, nodes.length ? summary(nodes) : h("p", {}, t("no nodes")), nodes.map(enis), quotas.length ? quotaTable(quotas) : null);
  };
  await draw();
  return { topics: ["Node", "SpiderNode", "SpiderServer", "SpiderIPPool", "SpiderIPQuota", "SpiderIP"], redraw: draw };
}

function summary(nodes) {
  const titles = ["node", "state", "used", "free", "total", "shared", "sandboxes", "account"].map((each) => t(each));
  return table(t("nodes"), titles, nodes.map((each) => [
    each.name,
    each.stopped ?? (each.ready === null ? null : t(each.ready ? "ready" : "not ready")),
    each.used,
    each.free,
    each.total,
    each.shared,
    each.sandboxes,
    each.answered === null ? null : `${t(each.answered ? "answered" : "not answered")}, ${time(each.observed)}`,
  ]), true);
}

function enis(node) {
  if (!node.enis.length) return null;
  const titles = ["eni", "device", "MAC", "subnet", "primary address", "addresses", "pools"].map((each) => t(each));
  const rows = node.enis.map((each) => [
    each.id,
    each.device,
    h("span", { class: "mono" }, each.mac),
    h("span", { class: "mono" }, each.subnet),
    each.primary,
    each.addresses,
    h("span", {}, each.pools.map((name) => [h("a", { href: `#/pools/${encodeURIComponent(name)}` }, name), " "])),
  ]);
  return table(t("enis of", { node: node.name, type: node.type ?? "" }), titles, rows);
}

function quotaTable(quotas) {
  return table(t("quotas"), [t("namespace"), t("quota"), t("used"), t("limit")], quotas.map((each) => [each.namespace, each.name, each.used, each.limit]));
}


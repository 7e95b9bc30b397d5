// What is found by an address, a pod, a node or a MAC address.
import { get } from "./api.js";
import { h, put, table } from "./dom.js";
import { t } from "./words.js";

export async function showSearch(root, [query]) {
  const { hits, more } = await get(`/api/search?q=${encodeURIComponent(query)}`);
  const titles = ["kind", "name", "where", "because"].map((each) => t(each));
  put(
    root,
    h("h2", {}, t("found for", { query })),
    hits.length ? table(t("hits"), titles, hits.map(row), true) : h("p", {}, t("nothing found")),
    more ? h("p", { class: "muted" }, t("more hits")) : null,
  );
}

function row(hit) {
  const [namespace, name] = hit.name.split("/");
  const link = {
    address: `#/addresses/${encodeURIComponent(hit.name)}`,
    pool: `#/pools/${encodeURIComponent(hit.name)}`,
    node: "#/nodes",
    pod: `#/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name ?? "")}`,
  }[hit.kind];
  return [t(hit.kind), h("a", { href: link }, hit.name), hit.where, hit.because];
}

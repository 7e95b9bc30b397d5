// Subnets, the pools that are cut from them, and how full these are.
import { get } from "./api.js";
import { h, put, table } from "./dom.js";
import { bar } from "./states.js";
import { count, t } from "./words.js";

export async function showSubnets(root) {
  const list = h("div", {});
  put(root, h("h2", {}, t("subnets")), list);
  const draw = async () => {
    const { subnets } = await get("/api/subnets");
    put(list, subnets.length ? subnets.map(one) : h("p", {}, t("no subnets")));
  };
  await draw();
  return { topics: ["SpiderSubnet", "SpiderIPPool", "SpiderIP"], counts: true, redraw: draw };
}

function one(subnet) {
  const share = subnet.percent === null ? "" : `, ${subnet.percent}%`;
  const title = `${subnet.name}: ${subnet.subnet}, ${count(subnet.used)} / ${count(subnet.total)}${share}`;
  if (!subnet.pools.length) return h("p", {}, title, " – ", t("no pools"));
  const titles = ["pool", "application", "use", "addresses"].map((each) => t(each));
  return table(title, titles, subnet.pools.map((pool) => [
    h("a", { href: `#/pools/${encodeURIComponent(pool.name)}` }, pool.name),
    pool.application,
    pool.counts ? bar(pool.counts) : null,
    h("span", { class: "mono" }, pool.ranges.join(", ")),
  ]));
}

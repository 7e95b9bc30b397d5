// All pools, and one pool as a map.
import { get } from "./api.js";
import { format, parse4 } from "./addresses.js";
import { showAddress } from "./address_panel.js";
import { grid } from "./cells.js";
import { alerts, h, put, table } from "./dom.js";
import * as store from "./pool_store.js";
import { blocks, stateAt, used } from "./ranges.js";
import { bar, FREE, legend, STATES } from "./states.js";
import { count, t } from "./words.js";

const TILES = 1024; // blocks on one screen: of 262,144 addresses
const CELLS = 256;

const link = (...parts) => `#/pools/${parts.map(encodeURIComponent).join("/")}`;

/** The list of pools. */
export async function showPools(root) {
  const list = h("div", {});
  put(root, h("h2", {}, t("pools")), list);
  const draw = async () => {
    const { pools } = await get("/api/pools");
    const titles = ["pool", "version", "subnet", "use", "used", "free", "total", "for"].map((each) => t(each));
    put(list, pools.length ? table(t("pools"), titles, pools.map(row), true) : h("p", {}, t("no pools")));
  };
  await draw();
  return { topics: ["SpiderIPPool", "SpiderReservedIP", "SpiderIP"], counts: true, redraw: draw };
}

function row(pool) {
  const state = [...(pool.default ? [t("default")] : []), ...states(pool)];
  return [
    h("span", {}, h("a", { href: link(pool.name) }, pool.name), state.length ? h("span", { class: "muted" }, ` ${state.join(", ")}`) : null),
    `IPv${pool.version}`,
    h("span", { class: "mono" }, pool.subnet),
    pool.counts ? bar(pool.counts) : null,
    number(pool.used),
    number(pool.free),
    number(pool.total),
    pool.for,
  ];
}

/** Why no pod gets an address of a pool, whatever its map shows as free. */
const states = (pool) => ["disabled", "terminating"].filter((each) => pool[each]).map((each) => t(each));

const number = (value) => (typeof value === "number" ? value : count(value));

/** One pool; of a large one first its blocks, then the 256 addresses of one of them. */
export async function showPool(root, [name, block]) {
  const head = h("div", {});
  const body = h("div", {});
  const panel = h("section", { class: "panel", "aria-live": "polite", "aria-label": t("address") }, h("p", { class: "muted" }, t("choose an address")));
  const split = h("div", { class: "split" }, body, panel);
  put(root, h("h2", {}, `${t("pool")} ${name}`), head, split);
  let map = await store.load(name);
  let drawn = null;
  const open = (address) => showAddress(panel, address);
  const draw = () => {
    put(head, h("p", { class: "muted" }, h("span", { class: "mono" }, map.subnet), `, IPv${map.version}`, ...states(map).map((each) => `, ${each}`)), legend(map.counts));
    if (drawn) drawn.update();
    else drawn = map.version === 6 ? usedAddresses(body, map, open) : area(body, map, block, open);
    panel.hidden = Boolean(drawn.isOverview);
    split.className = drawn.isOverview ? "" : "split";
  };
  draw();
  return {
    maps: async (names, stale) => {
      if (!names.includes(name)) return;
      try {
        if (stale.includes(name) || !store.known(name)) {
          drawn = null;
          map = await store.load(name);
        }
        draw();
      } catch (error) {
        put(head);
        put(body, alerts([error.message]));
        panel.hidden = true;
      }
    },
  };
}

function area(body, map, block, open) {
  const found = blocks(map.pieces, STATES.length);
  const chosen = block ? parse4(block) : null;
  if (chosen === null && found.length !== 1) return tiles(body, map, found);
  const first = chosen === null ? found[0].first : Math.floor(chosen / 256) * 256;
  const state = (address) => stateAt(map.pieces, address);
  const cells = Array.from({ length: CELLS }, (_, place) => ({ address: first + place, state: state(first + place) }));
  const made = grid({ label: t("addresses of", { block: `${format(first, 4)}/24` }), cells, version: 4, columns: 16, open });
  const back = found.length > 1 ? h("p", {}, h("a", { href: link(map.name) }, t("all blocks"))) : null;
  put(body, h("h3", {}, `${format(first, 4)}/24`), back, made.root);
  return { update: () => made.update(state) };
}

function tiles(body, map, found) {
  let page = 0;
  const draw = () => {
    const shown = found.slice(page * TILES, (page + 1) * TILES);
    put(
      body,
      h("h3", {}, t("blocks", { number: count(found.length) })),
      pager(page, Math.ceil(found.length / TILES), (next) => { page = next; draw(); }),
      h("ul", { class: "tiles" }, shown.map((each) => h("li", {}, tile(map.name, each)))),
      found.length ? null : h("p", { class: "muted" }, t("no addresses")),
    );
  };
  draw();
  return {
    isOverview: true, // no address can be chosen here
    update: () => {
      found = blocks(map.pieces, STATES.length);
      draw();
    },
  };
}

function tile(name, { first, counts }) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  const text = `${format(first, 4)}/24`;
  const share = Math.floor(((total - counts[FREE]) * 100) / total);
  return h("a", { class: "tile", href: link(name, format(first, 4)) }, h("span", { class: "mono" }, text), ` ${share}%`, bar(counts));
}

function usedAddresses(body, map, open) {
  let page = 0;
  const draw = () => {
    const total = map.counts.reduce((sum, each, state) => (state === FREE ? sum : sum + Number(each)), 0);
    const cells = used(map.pieces, FREE, map.version, page * CELLS, CELLS);
    const made = cells.length ? grid({ label: t("used addresses"), cells, version: map.version, columns: 4, open }) : null;
    put(
      body,
      h("h3", {}, t("used addresses")),
      pager(page, Math.ceil(total / CELLS), (next) => { page = next; draw(); }),
      made ? made.root : h("p", { class: "muted" }, t("all free")),
    );
  };
  draw();
  return { update: draw };
}

function pager(page, pages, go) {
  if (pages < 2) return null;
  const button = (text, next) => h("button", { type: "button", disabled: next < 0 || next >= pages, onclick: () => go(next) }, text);
  return h("nav", { class: "pager", "aria-label": t("pages") }, button("‹", page - 1), t("page of", { page: page + 1, pages }), button("›", page + 1));
}


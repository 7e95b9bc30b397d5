// The frame of the page: tabs, search, switches, the banner, and which view is shown.
import { follow } from "./api.js";
import { alerts, h, notes, put } from "./dom.js";
import * as store from "./pool_store.js";
import { current, switchLanguage, t } from "./words.js";
import { showAddress } from "./address_panel.js";
import { showChanges } from "./view_changes.js";
import { showNodes } from "./view_nodes.js";
import { showOverview } from "./view_overview.js";
import { showPod } from "./view_pod.js";
import { showPool, showPools } from "./view_pools.js";
import { showSearch } from "./view_search.js";
import { showSubnets } from "./view_subnets.js";

const THEMES = ["auto", "light", "dark"];
const THEME_KEY = "spiderpool-ui-theme";
const TABS = ["overview", "pools", "nodes", "subnets", "changes"];
const main = document.getElementById("main");
const banner = document.getElementById("banner");
let view = null; // what the shown view wants to be told
let shown = 0; // number of the shown view: what arrives for a former one is dropped
let state = { reading: {}, trouble: null, leftOut: [] };
let waiting = null; // timer of the next redraw
let missed = new Set(); // topics of changes since a view has begun to load
let lost = false;

const ROUTES = {
  overview: showOverview,
  nodes: showNodes,
  subnets: showSubnets,
  changes: showChanges,
  pools: (root, args) => (args.length ? showPool(root, args) : showPools(root)),
  pods: showPod,
  search: showSearch,
  addresses: async (root, [address]) => {
    const panel = h("section", { class: "panel" });
    put(root, h("h2", {}, t("address")), panel);
    await showAddress(panel, address);
  },
};

async function show({ focus = true } = {}) {
  const number = ++shown;
  const [name, ...args] = location.hash.replace(/^#\//, "").split("/").map(decodeURIComponent);
  const route = ROUTES[name] ? name : "overview";
  view = null;
  missed = new Set();
  drawTabs(route);
  const root = h("div", {}, h("p", { class: "muted" }, t("loading")));
  put(main, root);
  if (focus) main.focus();
  try {
    const made = await ROUTES[route](root, args.filter(Boolean));
    if (number === shown) {
      view = made ?? null;
      note([...missed]);
    }
  } catch (error) {
    if (number === shown) put(root, alerts([error.message]));
  }
  document.documentElement.dataset.shown = location.hash || "#/overview";
}

function drawTabs(route) {
  document.title = `${t(route)} – Spiderpool`;
  put(
    document.getElementById("tabs"),
    TABS.map((name) => h("a", { href: `#/${name}`, "aria-current": name === route ? "page" : null }, t(name))),
  );
}

function drawFrame() {
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("tabs").setAttribute("aria-label", t("views"));
  document.getElementById("query-label").textContent = t("search");
  document.getElementById("query").placeholder = t("search for");
  document.getElementById("language").textContent = current() === "en" ? "中文" : "English";
  document.getElementById("language").lang = current() === "en" ? "zh" : "en";
  drawTheme();
  drawBanner();
}

function theme() {
  const found = localStorage.getItem(THEME_KEY);
  return THEMES.includes(found) ? found : "auto";
}

function drawTheme() {
  const found = theme();
  if (found === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = found;
  document.getElementById("theme").textContent = t(`theme.${found}`);
}

function drawBanner() {
  const reading = Object.entries(state.reading).map(([kind, number]) => t("reading", { kind, number }));
  put(banner, alerts([...(lost ? [t("lost")] : []), ...(state.trouble ? [state.trouble] : [])]), notes(reading), notes(state.leftOut));
}

/** Draws the view again soon: many changes in a row cost one reading. */
function redrawSoon() {
  if (waiting !== null || !view?.redraw) return;
  waiting = setTimeout(async () => {
    waiting = null;
    try {
      await view?.redraw?.();
    } catch (error) {
      console.warn(error);
    }
  }, 1000);
}

/** Draws the view again where a change is about what it shows. */
function note(topics) {
  if (view?.topics?.some((each) => topics.includes(each))) redrawSoon();
}

function setState(value) {
  state = { reading: value.reading, trouble: value.trouble, leftOut: value.leftOut };
  drawBanner();
}

follow({
  hello: (value) => {
    lost = false;
    setState(value);
    store.forget();
    show({ focus: false });
  },
  maps: (value) => {
    const stale = store.take(value);
    document.documentElement.dataset.revision = String(value.revision);
    view?.maps?.([...Object.keys(value.changed), ...value.gone], stale);
    if (view?.counts) redrawSoon(); // such as at the end of a cooldown, which no change of an object says
  },
  topics: (names) => {
    for (const each of names) missed.add(each);
    note(names);
  },
  state: setState,
  lost: () => {
    lost = true;
    drawBanner();
    if (!shown) show({ focus: false });
  },
});

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#/")) show();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = document.getElementById("query").value.trim();
  if (query) location.hash = `#/search/${encodeURIComponent(query)}`;
});
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem(THEME_KEY, THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  drawTheme();
});
document.getElementById("language").addEventListener("click", () => {
  switchLanguage();
  drawFrame();
  show({ focus: false });
});
drawFrame();
put(main, h("p", { class: "muted" }, t("loading")));

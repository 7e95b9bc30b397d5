// The maps that are shown, kept up to date by what the server sends.
import { get, path, Refusal } from "./api.js";
import { layOver, pieces } from "./ranges.js";
import { t } from "./words.js";

const maps = new Map(); // name → map

const MOST_READS = 5; // of a map that changes while it is read by more than is sent

/** Loads the map of a pool, and keeps it up to date from then on. */
export function load(name) {
  const underWay = maps.get(name)?.loading;
  if (underWay) return underWay;
  const entry = { waiting: [], map: null, loading: null };
  maps.set(name, entry);
  entry.loading = read(name, entry);
  return entry.loading;
}

async function read(name, entry) {
  try {
    const map = await current(name, entry);
    for (const [revision, change] of entry.waiting) apply(map, revision, change);
    entry.map = map;
  } catch (error) {
    if (maps.get(name) === entry) maps.delete(name);
    throw error;
  }
  entry.waiting = [];
  entry.loading = null;
  return maps.get(name) === entry ? entry.map : load(name); // the pool has gone meanwhile, or all maps were forgotten
}

/** A map over which all changes can be laid that have arrived meanwhile. */
async function current(name, entry) {
  for (let reads = 0; reads < MOST_READS; reads++) {
    const found = await get(path("pools", name));
    if (!entry.waiting.some(([revision, change]) => revision > found.revision && !change.pieces)) {
      return { ...found, pieces: pieces(found.pieces, found.version) };
    }
  }
  throw new Refusal(t("changes too fast"));
}

/** Forgets all maps: the server's may be others by now. */
export const forget = () => maps.clear();

/** The map of a pool as far as it is loaded. */
export const known = (name) => maps.get(name)?.map ?? null;

/** Takes a change of the server in; returns the names of maps that have to be loaded anew. */
export function take({ revision, changed, gone }) {
  const stale = [];
  for (const name of gone) maps.delete(name);
  for (const [name, change] of Object.entries(changed)) {
    const entry = maps.get(name);
    if (!entry) continue;
    if (!entry.map) entry.waiting.push([revision, change]);
    else if (!change.pieces) stale.push(name);
    else apply(entry.map, revision, change);
  }
  return stale;
}

function apply(map, revision, change) {
  if (revision <= map.revision || !change.pieces) return;
  map.pieces = layOver(map.pieces, pieces(change.pieces, map.version), map.version);
  map.revision = revision;
  for (const name of ["counts", "disabled", "terminating"]) map[name] = change[name];
}

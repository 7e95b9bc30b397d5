// The maps that are shown, kept up to date by what the server sends.
import { get, path } from "./api.js";
import { layOver, pieces } from "./ranges.js";

const maps = new Map(); // name → map

/** Loads the map of a pool, and keeps it up to date from then on. */
export async function load(name) {
  const entry = { waiting: [], map: null };
  maps.set(name, entry);
  try {
    const found = await get(path("pools", name));
    entry.map = { ...found, pieces: pieces(found.pieces, found.version) };
  } catch (error) {
    maps.delete(name);
    throw error;
  }
  for (const [revision, change] of entry.waiting) apply(entry.map, revision, change);
  entry.waiting = [];
  return entry.map;
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
  map.counts = change.counts;
  map.revision = revision;
}

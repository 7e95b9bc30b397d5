// Maps of pools as the server sends them: sorted, disjoint pieces of addresses with the same state.
import { one, read } from "./addresses.js";

/** State of addresses that a pool does not have any more. */
export const GONE = -1;

/**
 * @typedef {{first: any, last: any, state: number}} Piece
 */

/** @returns {Piece[]} pieces of a flat list: first, last, state, and so on */
export function pieces(flat, version) {
  const found = [];
  for (let place = 0; place < flat.length; place += 3) {
    found.push({ first: read(flat[place], version), last: read(flat[place + 1], version), state: flat[place + 2] });
  }
  return found;
}

/** Pieces with changes laid over them; both are sorted. */
export function layOver(known, changes, version) {
  const step = one(version);
  const kept = [];
  let next = 0;
  for (const piece of known) {
    let first = piece.first;
    while (next < changes.length && changes[next].last < first) next++;
    let place = next;
    while (place < changes.length && changes[place].first <= piece.last) {
      if (first < changes[place].first) kept.push({ first, last: changes[place].first - step, state: piece.state });
      first = changes[place].last + step;
      place++;
    }
    if (first <= piece.last) kept.push({ first, last: piece.last, state: piece.state });
  }
  const added = changes.filter((each) => each.state !== GONE);
  return joined([...kept, ...added].sort((a, b) => (a.first < b.first ? -1 : 1)), step);
}

function joined(sorted, step) {
  const found = [];
  for (const each of sorted) {
    const last = found[found.length - 1];
    if (last && last.state === each.state && last.last + step === each.first) last.last = each.last;
    else found.push({ ...each });
  }
  return found;
}

/** The place of the first piece that ends at an address or behind it. */
function placeOf(known, address) {
  let low = 0;
  let high = known.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (known[middle].last < address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The state of an address; null where the pool does not have it. */
export function stateAt(known, address) {
  const found = known[placeOf(known, address)];
  return found && found.first <= address ? found.state : null;
}

/** The blocks of 256 IPv4 addresses of which a pool has some, with the number of addresses of each state. */
export function blocks(known, states) {
  const found = new Map();
  for (const { first, last, state } of known) {
    for (let block = Math.floor(first / 256); block <= Math.floor(last / 256); block++) {
      const from = Math.max(first, block * 256);
      const until = Math.min(last, block * 256 + 255);
      if (!found.has(block)) found.set(block, { first: block * 256, counts: new Array(states).fill(0) });
      found.get(block).counts[state] += until - from + 1;
    }
  }
  return [...found.values()];
}

/** The addresses that are not free, some at a time: of a network of IPv6 these are all that can be drawn. */
export function used(known, free, version, from, most) {
  const step = one(version);
  const found = [];
  let skipped = 0;
  for (const piece of known) {
    if (piece.state === free) continue;
    const size = Number(piece.last - piece.first) + 1;
    if (skipped + size <= from) {
      skipped += size;
      continue;
    }
    let address = piece.first + step * (version === 6 ? BigInt(Math.max(from - skipped, 0)) : Math.max(from - skipped, 0));
    skipped = Math.max(skipped, from);
    for (; address <= piece.last && found.length < most; address += step) {
      found.push({ address, state: piece.state });
      skipped++;
    }
    if (found.length >= most) return found;
  }
  return found;
}

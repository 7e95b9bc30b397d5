// Addresses as numbers: IPv4 as Number, IPv6 as BigInt.

/** Reads a number of an address as the server sends it. */
export const read = (value, version) => (version === 6 ? BigInt(value) : value);

/** The step from an address to the next. */
export const one = (version) => (version === 6 ? 1n : 1);

/** The text of an address. */
export function format(value, version) {
  if (version === 4) return [24, 16, 8, 0].map((bits) => Math.floor(value / 2 ** bits) % 256).join(".");
  const groups = Array.from({ length: 8 }, (_, place) => Number((value >> BigInt(112 - 16 * place)) & 0xffffn));
  const zeros = longestZeros(groups);
  const words = (part) => part.map((each) => each.toString(16)).join(":");
  if (zeros.length < 2) return words(groups);
  return `${words(groups.slice(0, zeros.start))}::${words(groups.slice(zeros.start + zeros.length))}`;
}

function longestZeros(groups) {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}

/** An IPv4 address as a number; null for what is none. */
export function parse4(text) {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((each) => /^\d{1,3}$/.test(each) && Number(each) < 256)) return null;
  return parts.reduce((sum, each) => sum * 256 + Number(each), 0);
}

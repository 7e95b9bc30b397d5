// What is read of the server, and what it sends by itself.

/** An answer that is no success, with its sentence. */
export class Refusal extends Error {}

/** Reads a document. */
export async function get(path) {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store" });
  if (response.ok) return response.json();
  const text = await response.text();
  try {
    throw new Refusal(JSON.parse(text).error);
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(text.trim() || `${response.status}`);
  }
}

/** A path of parts, each of which may hold anything. */
export const path = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

/**
 * Follows the server's events. What happens before `hello` is not sent: all has to be loaded after it.
 * @param {{hello: Function, maps: Function, topics: Function, state: Function, lost: Function}} listener
 */
export function follow(listener) {
  const source = new EventSource("/api/stream");
  const on = (name, handler) => source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  for (const name of ["hello", "maps", "topics", "state"]) on(name, (value) => listener[name](value));
  source.addEventListener("error", () => listener.lost(source.readyState === EventSource.CLOSED));
  return source;
}

// The states of addresses: a name, a sign and a colour for each, in the order of the server.
import { h } from "./dom.js";
import { count, t } from "./words.js";

export const STATES = ["free", "held", "reserved", "excluded", "cooling", "fenced", "conflicting"];
export const FREE = 0;
const SIGNS = ["·", "●", "◆", "×", "◔", "▣", "!!"];

/** The sign of a state. */
export const sign = (state) => (state === null ? "" : SIGNS[state]);

/** The class of a state, which has its colours. */
export const shade = (state) => (state === null ? "outside" : STATES[state]);

/** The state in words. */
export const word = (state) => t(state === null ? "state.outside" : `state.${STATES[state]}`);

/** What the signs stand for, with the number of addresses of each. */
export function legend(counts) {
  return h(
    "ul",
    { class: "legend", "aria-label": t("legend") },
    STATES.map((name, state) =>
      h("li", {}, h("span", { class: `sign ${name}`, "aria-hidden": "true" }, SIGNS[state]), `${word(state)}: `, h("b", {}, count(counts[state]))),
    ),
  );
}

/** How full something is, as a bar with the same as text for those who do not see it. */
export function bar(counts) {
  const numbers = counts.map(Number);
  const total = numbers.reduce((sum, each) => sum + each, 0);
  const parts = STATES.map((name, state) => [name, state, numbers[state]]).filter(([, state, number]) => number && state !== FREE);
  const text = parts.map(([, state, number]) => `${word(state)} ${count(number)}`).join(", ");
  return h(
    "span",
    { class: "bar", role: "img", "aria-label": text || t("all free") },
    parts.map(([name, , number]) => h("span", { class: name, "width%": (number / total) * 100 })),
  );
}

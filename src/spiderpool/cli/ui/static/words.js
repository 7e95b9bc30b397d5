// The language of the page, and its words.
import { ENGLISH } from "./words_en.js";
import { CHINESE } from "./words_zh.js";

const KEY = "spiderpool-ui-language";
const LANGUAGES = { en: ENGLISH, zh: CHINESE };
let language = stored() ?? (document.documentElement.lang.startsWith("zh") ? "zh" : "en");

function stored() {
  const found = localStorage.getItem(KEY);
  return found in LANGUAGES ? found : null;
}

export const current = () => language;

/** Use the other language from now on. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEY, language);
  document.documentElement.lang = language;
}

document.documentElement.lang = language;

/** The text of a key in the language of the page; `{name}` stands for values. */
export function t(key, values = {}) {
  const text = LANGUAGES[language][key] ?? ENGLISH[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** A number with the separators of the language; large ones of IPv6 come as digits. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string" && value.length > 15) return `≈ 2^${(BigInt(value).toString(2).length - 1).toString()}`;
  return Number(value).toLocaleString(language);
}

/** A time of the API in the user's zone and language; what is none stays as it is. */
export function time(text) {
  const found = new Date(text ?? "");
  return Number.isNaN(found.getTime()) ? (text ?? "–") : found.toLocaleString(language);
}

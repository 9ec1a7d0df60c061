// Elements, times and numbers: how anything becomes something that one reads.

const NUMBERS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/// An element with properties, attributes (`data-…`, `aria-…`, `role`, `scope`) and children. Texts stay texts.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in element && !key.includes("-")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/// Changes a text only when it is another, so that a screen reader is told news only.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// Other children for an element. Where somebody is with the keyboard, they stay.
export function refill(element, ...children) {
  const at = element.contains(document.activeElement) ? document.activeElement : null;
  const same = (one) =>
    one.tagName === at.tagName && one.getAttribute("href") === at.getAttribute("href") && one.getAttribute("aria-label") === at.getAttribute("aria-label");
  element.replaceChildren(...children);
  if (at) [...element.querySelectorAll("a, summary, [tabindex]")].find(same)?.focus({ preventScroll: true });
}

export const count = (number) => NUMBERS.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
export const clock = (ms) => CLOCK.format(new Date(ms));

/// The time of day, and the day when it is another one.
export function moment(ms) {
  const time = new Date(ms);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? CLOCK.format(time) : `${DAY.format(time)}, ${CLOCK.format(time)}`;
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 10000 ? `${count(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export const rate = (number) => (number > 0 && number < 10 ? number.toFixed(1) : count(number));

/// `0–127, 512`, of which only the first few are named.
export function runsText(runs, shown = 4) {
  const text = (run) => (run.first === run.last ? `${run.first}` : `${run.first}–${run.last}`);
  const named = runs.slice(0, shown).map(text).join(", ");
  return runs.length > shown ? `${named} and ${runs.length - shown} more runs` : named;
}

/// A state in words, with a mark for the eye.
export const state = (kind, text) => make("span", { className: "state", "data-state": kind }, text);

/// A table whose first column heads its rows. A column that begins with `#` has numbers.
export function table(caption, columns, rows) {
  const isNumber = columns.map((column) => column.startsWith("#"));
  const head = columns.map((column, at) =>
    make("th", { scope: "col", className: isNumber[at] ? "number" : "" }, column.replace("#", "")),
  );
  const body = rows.map((cells) =>
    make("tr", {}, ...cells.map((cell, at) =>
      make(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, className: isNumber[at] ? "number" : "" }, cell),
    )),
  );
  return make(
    "div",
    { className: "scroll", role: "region", "aria-label": caption, tabIndex: 0 },
    make(
      "table",
      {},
      make("caption", { className: "hidden-text" }, caption),
      make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...body),
    ),
  );
}

export const userLink = (id) => make("a", { href: `#/users/${id}` }, `user ${id}`);
export const transactionLink = (id, text = id) =>
  make("a", { href: `#/transactions/${id}`, className: text === id ? "mono" : "" }, text);

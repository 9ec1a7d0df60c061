// What changed while the page was open, in words. It is also what a screen reader is told.

import { byId, clock, make } from "./words.js";

const KEPT = 100;

export function note(text) {
  byId("no-changes").hidden = true;
  const list = byId("change-list");
  const now = new Date();
  list.prepend(make("li", {}, make("time", { dateTime: now.toISOString() }, clock(now)), make("span", {}, text)));
  while (list.children.length > KEPT) list.lastElementChild.remove();
}

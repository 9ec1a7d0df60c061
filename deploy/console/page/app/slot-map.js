// The 4096 slots in rows of 64: drawn, walked with the keys, and told in words and in a table.

import { note } from "./changes.js";
import { onScheme, swatch } from "./colours.js";
import { cellText, drawCell, palette } from "./slot-cells.js";
import { byId, count, make, plural, runsText, say } from "./words.js";

const SLOTS = 4096;
const ROW = 64;
/// How long a slot shines after it has changed, in milliseconds.
const SHINE = 1400;
/// Changes of this long are told together: slots move a hundred at a time.
const TOLD_AFTER = 1200;

const canvas = byId("slot-map");
const frame = byId("map-frame");
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

let names = [];
let cells = [];
let shining = new Map();
let at = 0;
let pointed = null;
let moved = new Map();
let telling = null;

export function showSlots(map) {
  const before = cells;
  const sameShards = names.join() === map.shards.map((shard) => shard.name).join();
  names = map.shards.map((shard) => shard.name);
  cells = new Array(SLOTS);
  for (const run of map.runs) {
    for (let slot = run.first; slot <= run.last; slot += 1) cells[slot] = run;
  }
  if (before.length > 0 && sameShards) noteChanges(before);
  showTable(map);
  readOut();
  draw();
}

function noteChanges(before) {
  const now = performance.now();
  for (let slot = 0; slot < SLOTS; slot += 1) {
    const [old, cell] = [before[slot], cells[slot]];
    if (old.state === cell.state && old.shard === cell.shard && old.to === cell.to) continue;
    if (!stillness.matches) shining.set(slot, now);
    if (cell.state === "owned") {
      // What was between two shards came from the one that had it.
      if (old.shard !== cell.shard) told(`now at ${names[cell.shard]}`, slot);
    } else if (cell.state === "nobody") told("owned by nobody", slot);
    else if (cell.state === "twice") told(`owned by both ${names[cell.shard]} and ${names[cell.to]}`, slot);
    else if (cell.state === "unknown") told("not known any more", slot);
  }
}

function told(what, slot) {
  if (!moved.has(what)) moved.set(what, []);
  moved.get(what).push(slot);
  telling ??= setTimeout(() => {
    for (const [text, slots] of moved) {
      note(`${plural(slots.length, "slot")} ${slots.length === 1 ? "is" : "are"} ${text}: ${runsText(runsOf(slots))}`);
    }
    moved = new Map();
    telling = null;
  }, TOLD_AFTER);
}

function runsOf(slots) {
  const runs = [];
  for (const slot of [...new Set(slots)].sort((one, other) => one - other)) {
    const last = runs.at(-1);
    if (last && last.last + 1 === slot) last.last = slot;
    else runs.push({ first: slot, last: slot });
  }
  return runs;
}

function showTable(map) {
  const rows = map.shards.map((shard, place) => {
    const of = (wanted) => map.runs.filter(wanted);
    const size = (runs) => runs.reduce((sum, run) => sum + run.last - run.first + 1, 0);
    const owned = of((run) => run.shard === place && (run.state === "owned" || run.state === "moving"));
    const leaving = size(of((run) => run.shard === place && (run.state === "moving" || run.state === "between")));
    const coming = size(of((run) => run.to === place && (run.state === "moving" || run.state === "between")));
    const which = [joined(owned).length === 0 ? "none" : runsText(joined(owned))];
    if (leaving > 0) which.push(`${count(leaving)} on their way out`);
    if (coming > 0) which.push(`${count(coming)} on their way in`);
    if (shard.silence) which.push("its database does not answer: this is what it said last");
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, swatch(place), shard.name),
      make("td", { className: "number" }, count(shard.owned)),
      make("td", {}, which.join("; ")),
    );
  });
  byId("slot-rows").replaceChildren(...rows);
  say(byId("slots-summary"), summary(map));
}

/// Runs that only differ in their state, as one.
function joined(runs) {
  const all = [];
  for (const run of runs) {
    const last = all.at(-1);
    if (last && last.last + 1 === run.first) last.last = run.last;
    else all.push({ first: run.first, last: run.last });
  }
  return all;
}

function summary(map) {
  const sums = { owned: 0, moving: 0, between: 0, twice: 0, nobody: 0, unknown: 0 };
  for (const run of map.runs) sums[run.state] += run.last - run.first + 1;
  const parts = [];
  if (sums.twice > 0) parts.push(`${count(sums.twice)} owned twice`);
  if (sums.nobody > 0) parts.push(`${count(sums.nobody)} owned by nobody`);
  if (sums.unknown > 0) parts.push(`${count(sums.unknown)} not known`);
  if (sums.moving > 0) parts.push(`${count(sums.moving)} moving`);
  if (sums.between > 0) parts.push(`${count(sums.between)} in a pause`);
  return parts.length === 0
    ? `${count(SLOTS)} slots, each owned by one of ${plural(map.shards.length, "shard")}`
    : `Of ${count(SLOTS)} slots: ${parts.join(", ")}`;
}

function draw() {
  const scale = devicePixelRatio || 1;
  // Cells of whole pixels: otherwise the lines between them are of two widths.
  const cell = Math.floor((frame.clientWidth * scale) / ROW);
  if (cell === 0 || cells.length === 0) return;
  const pixels = cell * ROW;
  if (canvas.width !== pixels) {
    [canvas.width, canvas.height] = [pixels, pixels];
    canvas.style.width = canvas.style.height = `${pixels / scale}px`;
  }
  const context = canvas.getContext("2d");
  const colours = palette(names.length);
  const size = cell - Math.max(1, Math.floor(cell / 9));
  const now = performance.now();
  context.clearRect(0, 0, pixels, pixels);
  for (let slot = 0; slot < SLOTS; slot += 1) {
    const [x, y] = [(slot % ROW) * cell, Math.floor(slot / ROW) * cell];
    drawCell(context, colours, cells[slot], x, y, size);
    const since = shining.has(slot) ? now - shining.get(slot) : SHINE;
    if (since < SHINE) {
      context.globalAlpha = 0.85 * (1 - since / SHINE);
      context.fillStyle = colours.flash;
      context.fillRect(x, y, size, size);
      context.globalAlpha = 1;
    } else shining.delete(slot);
  }
  for (const slot of [document.activeElement === canvas ? at : null, pointed]) {
    if (slot === null) continue;
    context.strokeStyle = colours.ink;
    context.lineWidth = 2 * scale;
    context.strokeRect((slot % ROW) * cell - scale, Math.floor(slot / ROW) * cell - scale, cell + scale, cell + scale);
  }
  if (shining.size > 0) requestAnimationFrame(draw);
}

function readOut() {
  if (cells.length === 0) return;
  canvas.setAttribute("aria-valuenow", at);
  canvas.setAttribute("aria-valuetext", cellText(at, cells[at], names));
  const shown = pointed ?? (document.activeElement === canvas ? at : null);
  if (shown !== null) say(byId("slot-readout"), cellText(shown, cells[shown], names));
}

const STEPS = {
  ArrowLeft: -1,
  ArrowRight: 1,
  ArrowUp: -ROW,
  ArrowDown: ROW,
  PageUp: -8 * ROW,
  PageDown: 8 * ROW,
  Home: -SLOTS,
  End: SLOTS,
};

canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (step === undefined || event.altKey || event.metaKey) return;
  event.preventDefault();
  at = Math.min(SLOTS - 1, Math.max(0, at + step));
  pointed = null;
  readOut();
  draw();
});

canvas.addEventListener("pointermove", (event) => {
  const box = canvas.getBoundingClientRect();
  const place = (from, size) => Math.min(ROW - 1, Math.max(0, Math.floor((from / size) * ROW)));
  pointed = place(event.clientY - box.top, box.height) * ROW + place(event.clientX - box.left, box.width);
  readOut();
  draw();
});

canvas.addEventListener("pointerleave", () => {
  pointed = null;
  draw();
});

canvas.addEventListener("click", () => {
  if (pointed !== null) at = pointed;
  readOut();
});

for (const name of ["focus", "blur"]) {
  canvas.addEventListener(name, () => {
    readOut();
    draw();
  });
}

function drawLegend() {
  for (const mark of document.querySelectorAll("canvas[data-mark]")) {
    const scale = Math.ceil(devicePixelRatio || 1);
    [mark.width, mark.height] = [16 * scale, 16 * scale];
    drawCell(mark.getContext("2d"), palette(2), { state: mark.dataset.mark, shard: 0, to: 1 }, 0, 0, 16 * scale);
  }
}

new ResizeObserver(draw).observe(frame);
onScheme(() => {
  draw();
  drawLegend();
});
drawLegend();

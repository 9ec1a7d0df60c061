// Three charts of the last ten minutes, each with its latest figure in words and a table for whoever sees no chart.

import { onScheme, property, shardColour } from "./colours.js";
import { byId, clock, count, make, milliseconds, rate, say } from "./words.js";

const POINTS_MAX = 600;
const HEIGHT = 150;
/// Longer than this without a point is a gap, in milliseconds.
const GAP = 5000;
/// Steps of the marks: there is no half charge, and no half millisecond to be seen.
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
/// How often the descriptions of the charts change: a screen reader is not to be told each second.
const DESCRIBED_EVERY = 10000;

let points = [];
let shards = [];
let charts = [];
let described = 0;

export function showPast(past) {
  points = past.slice(-POINTS_MAX);
  refresh();
}

export function showPoint(point) {
  // A point that came with the past is not taken twice.
  if (points.length > 0 && point.at_ms <= points.at(-1).at_ms) return;
  points.push(point);
  if (points.length > POINTS_MAX) points.shift();
  refresh();
}

export function showGateways(gateways) {
  const silent = gateways.filter((gateway) => gateway.problem);
  const texts = silent.map((gateway) => `The gateway ${gateway.url} does not answer: ${gateway.problem}.`);
  if (gateways.length > 0 && silent.length === gateways.length) texts.push("Name a gateway with --gateway-url.");
  say(byId("gateways"), texts.join(" "));
}

export function useShards(names) {
  if (names.join() === shards.join()) return;
  shards = names;
  build();
}

function build() {
  for (const chart of charts) chart.destroy();
  charts = [];
  const [blue, red, violet] = [property("--shard-0"), property("--bad"), property("--shard-4")];
  const line = (label, stroke, value, more = {}) => ({ label, stroke, width: 2, points: { show: false }, value, ...more });
  const perSecond = (_, number) => (number === null ? "–" : rate(number));
  const time = (_, number) => milliseconds(number);
  charts = [
    chart("charges-chart", [
      line("charges/s", blue, perSecond, { fill: `${blue}22` }),
      line("failed/s", red, perSecond, { dash: [4, 3] }),
    ]),
    chart("latency-chart", [
      line("p50 ms", blue, time),
      line("p99 ms", violet, time, { dash: [6, 3] }),
    ]),
    chart("queue-chart", shards.map((name, place) => line(name, shardColour(place), perSecond))),
  ];
  refresh();
}

function chart(id, series) {
  const place = byId(id);
  const [ink, grid] = [property("--quiet"), property("--line")];
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const options = {
    width: Math.max(200, place.clientWidth),
    height: HEIGHT,
    legend: { show: true },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    padding: [8, 6, 0, 0],
    scales: { x: { time: true }, y: { range: (_, _low, high) => [0, high > 0 ? high * 1.15 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 70, values: (_, times) => times.map(timeMark) },
      { ...axis, size: 46, space: 28, incrs: WHOLE, values: (_, marks) => marks.map((mark) => (mark < 10 ? String(mark) : count(mark))) },
    ],
    series: [{ label: "at", value: (_, at) => (at === null ? "–" : clock(at * 1000)) }, ...series],
  };
  return new window.uPlot(options, [[], ...series.map(() => [])], place);
}

function refresh() {
  if (charts.length === 0) return;
  const drawn = withGaps();
  const times = drawn.map((point) => point.at_ms / 1000);
  const column = (name) => drawn.map((point) => point[name]);
  charts[0].setData([times, column("charges"), column("failures")]);
  charts[1].setData([times, column("p50_ms"), column("p99_ms")]);
  charts[2].setData([times, ...shards.map((name) => drawn.map((point) => point.queue[name] ?? null))]);
  const last = points.at(-1);
  if (!last) return;
  const waiting = Object.values(last.queue).reduce((sum, number) => sum + number, 0);
  const failed = last.failures > 0 ? `, ${rate(last.failures)} failed` : "";
  say(byId("charges-now"), last.charges === null ? "no gateway answers" : `${rate(last.charges)}${failed}`);
  say(byId("latency-now"), last.p50_ms === null ? "no charges" : `p50 ${milliseconds(last.p50_ms)}, p99 ${milliseconds(last.p99_ms)}`);
  say(byId("queue-now"), waiting === 0 ? "nothing waits" : count(waiting));
  showNumbers();
  describe(last, waiting);
}

/// With seconds while the marks are closer than a minute.
function timeMark(at, place, all) {
  const step = all.length > 1 ? all[1] - all[0] : 60;
  return step < 60 ? clock(at * 1000) : clock(at * 1000).slice(0, 5);
}

/// Where nothing was seen for a while, the line ends and begins anew.
function withGaps() {
  const nothing = { charges: null, failures: null, p50_ms: null, p99_ms: null, queue: {} };
  return points.flatMap((point, at) =>
    at > 0 && point.at_ms - points[at - 1].at_ms > GAP ? [{ ...nothing, at_ms: point.at_ms - 1 }, point] : [point],
  );
}

function describe(last, waiting) {
  const now = Date.now();
  if (now - described < DESCRIBED_EVERY) return;
  described = now;
  const highest = (name) => Math.max(0, ...points.map((point) => point[name] ?? 0));
  const label = (id, text) => byId(id).setAttribute("aria-label", text);
  label("charges-chart", `Charges a second: ${rate(last.charges ?? 0)} at ${clock(last.at_ms)}, at most ${rate(highest("charges"))} in the last ten minutes`);
  label("latency-chart", `How long charges take: 99 of 100 within ${milliseconds(last.p99_ms)}, at most ${milliseconds(highest("p99_ms"))} in the last ten minutes`);
  label("queue-chart", `Commands that wait: ${count(waiting)}`);
}

function showNumbers() {
  if (!byId("numbers").open) return;
  const rows = points.slice(-10).reverse().map((point) => {
    const waiting = Object.values(point.queue).reduce((sum, number) => sum + number, 0);
    const cells = [
      point.charges === null ? "–" : rate(point.charges),
      point.failures === null ? "–" : rate(point.failures),
      milliseconds(point.p50_ms),
      milliseconds(point.p99_ms),
      count(waiting),
    ];
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, clock(point.at_ms)),
      ...cells.map((cell) => make("td", { className: "number" }, cell)),
    );
  });
  byId("number-rows").replaceChildren(...rows);
}

byId("numbers").addEventListener("toggle", showNumbers);
new ResizeObserver(() => {
  for (const one of charts) {
    const width = Math.max(200, one.root.parentElement.clientWidth);
    if (width !== one.width) one.setSize({ width, height: HEIGHT });
  }
}).observe(byId("charges-chart"));
onScheme(build);

// What is well and what is not: the parts of each shard with their state in words, as `picopay status` has it.

import { note } from "./changes.js";
import { shardColour } from "./colours.js";
import { byId, count, make, milliseconds, plural, say, state } from "./words.js";

let problemsBefore = null;
let saidOwned = new Map();

/// From the map, which knows of a move some seconds before the status does.
export function showOwned(map) {
  saidOwned = new Map(map.shards.map((shard) => [shard.name, shard]));
  for (const element of byId("shard-cards").querySelectorAll("article")) {
    say(element.querySelector(".card-head .quiet"), slots(element.getAttribute("aria-label")));
  }
}

export function showStatus({ report, refused_file: refusedFile }) {
  const problems = [...report.problems];
  if (refusedFile) problems.push(`The cluster's file on disk is refused, and the one before stays in force: ${refusedFile}`);
  byId("problems").hidden = problems.length === 0 && report.notes.length === 0;
  say(byId("problems-title"), problems.length === 0 ? "Worth knowing" : "What is not well");
  list("problem-list", problems);
  list("note-list", report.notes);
  noteChanges(problems);
  byId("shard-cards").replaceChildren(...report.shards.map(card));
  return problems.length;
}

function list(id, texts) {
  const element = byId(id);
  if ([...element.children].map((item) => item.textContent).join("\n") === texts.join("\n")) return;
  element.replaceChildren(...texts.map((text) => make("li", {}, text)));
}

function noteChanges(problems) {
  if (problemsBefore !== null) {
    // A problem that counts seconds is the same problem.
    const key = (text) => text.replace(/\d+/g, "#");
    const [before, now] = [new Set(problemsBefore.map(key)), new Set(problems.map(key))];
    for (const text of problems) if (!before.has(key(text))) note(`Not well: ${text}`);
    for (const text of problemsBefore) if (!now.has(key(text))) note(`Well again: ${text}`);
  }
  problemsBefore = problems;
}

function card(shard, place) {
  const parts = [["Primary", [primary(shard)]]];
  parts.push([shard.replicas.length === 1 ? "Replica" : "Replicas", shard.replicas.map(replica)]);
  parts.push([shard.nodes.length === 1 ? "Node" : "Nodes", shard.nodes.map(node)]);
  parts.push(["Redis", [redis(shard.redis)]]);
  const element = make(
    "article",
    { className: "card", "aria-label": shard.shard },
    make("div", { className: "card-head" }, make("h3", {}, shard.shard), make("span", { className: "quiet" }, slots(shard.shard))),
    make(
      "dl",
      { className: "parts" },
      ...parts.flatMap(([name, all]) => [
        make("dt", {}, name),
        ...(all.length === 0 ? [make("dd", {}, "none")] : all.map((inside) => make("dd", {}, ...inside))),
      ]),
    ),
  );
  element.style.setProperty("--shard", shardColour(place));
  return element;
}

function slots(name) {
  const said = saidOwned.get(name);
  if (!said || (said.silence && said.owned === 0)) return "its slots are not known";
  return said.silence ? `${plural(said.owned, "slot")}, as it said last` : plural(said.owned, "slot");
}

function primary({ primary: server, durability, degraded }) {
  if (!server.is_up) return [state("bad", "down"), ` ${server.error}`];
  const version = `PostgreSQL ${server.version.split(" ")[0]}`;
  if (degraded) {
    return [state("bad", "degraded"), ` since ${degraded.since} by ${degraded.by} (${degraded.reason}): on one machine only. ${version}`];
  }
  const sync = server.standbys.filter((one) => one.state === "streaming" && ["sync", "quorum"].includes(one.sync_state));
  const isHidden = server.standbys.length > 0 && server.standbys.every((one) => one.sync_state === null);
  if (durability === "replicated" && sync.length === 0 && !isHidden) {
    return [state("bad", "up, takes no writes"), ` no synchronous standby follows. ${version}`];
  }
  const standbys = durability === "local" ? "commits on its own" : isHidden ? "state of standbys hidden" : plural(sync.length, "synchronous standby", "synchronous standbys");
  return [state("good", "up"), ` ${version}, ${standbys}`];
}

function replica(server) {
  if (!server.is_up) return [state("bad", "down"), ` ${server.error}`];
  if (!server.is_in_recovery) return [state("bad", "takes writes"), " it follows no primary"];
  if (server.lag_ms === null) return [state("warn", "up"), " how far behind is not known"];
  if (server.lag_ms > 2000) return [state("bad", "behind"), ` more than ${milliseconds(server.lag_ms)}, ${bytes(server.lag_bytes)}`];
  return [state("good", "up"), server.lag_ms === 0 ? " lacks nothing" : ` ${milliseconds(server.lag_ms)} behind`];
}

function bytes(size) {
  if (size === null || size === undefined) return "";
  return size < 10240 ? `${count(size)} bytes` : size < 10485760 ? `${count(size / 1024)} KiB` : `${count(size / 1048576)} MiB`;
}

function node(one) {
  const place = one.url.replace(/^https?:\/\//, "");
  if (!one.is_up) return [state("bad", "down"), ` ${place}: ${one.reason}`];
  if (!one.is_ready) return [state("bad", "not ready"), ` ${place}: ${one.reason ?? "it does not say why"}`];
  const cache = { up: "", skipped: ", does without Redis just now", off: "" }[one.cache] ?? "";
  return [state(cache === "" ? "good" : "warn", "ready"), ` ${place}${cache}`];
}

function redis(one) {
  if (!one) return ["none: charges do without"];
  if (!one.is_up) return [state("warn", "down"), ` ${one.error}; charges go on without it`];
  return [state("good", "up"), ` ${one.address}, answers in ${milliseconds(one.latency_us / 1000)}`];
}

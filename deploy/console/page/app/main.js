// The stream of news from the console, and who shows what. Each kind of news has its own file.

import { note } from "./changes.js";
import { show } from "./lookup.js";
import { showOwned, showStatus } from "./shards.js";
import { showSlots } from "./slot-map.js";
import { showGateways, showPast, showPoint, useShards } from "./traffic.js";
import { showTransfers } from "./transfers.js";
import { showVerify } from "./verify.js";
import { byId, clock, plural, say } from "./words.js";

const health = byId("health");
let problems = null;
let isLost = false;

function showHealth() {
  const [state, text] = isLost
    ? ["lost", `No connection: this is of ${clock(heardAt)}`]
    : problems === null
      ? ["unknown", "Looking …"]
      : problems === 0
        ? ["good", "All is well"]
        : ["bad", `${plural(problems, "problem")}`];
  health.dataset.state = state;
  say(byId("health-text"), text);
  document.title = `${problems > 0 ? `(${problems}) ` : ""}PicoPay console`;
}

const KINDS = {
  cluster(cluster) {
    say(byId("cluster"), `${cluster.file}${cluster.cluster_id ? `, cluster ${cluster.cluster_id}` : ""}`);
    useShards(cluster.shards);
  },
  slots(map) {
    showSlots(map);
    showOwned(map);
  },
  status(status) {
    problems = showStatus(status);
    showHealth();
  },
  transfers: showTransfers,
  verify: showVerify,
  gateways: showGateways,
  "traffic-so-far": showPast,
  traffic: showPoint,
};

let heardAt = Date.now();
const news = new EventSource("/events");
for (const [kind, shown] of Object.entries(KINDS)) {
  news.addEventListener(kind, (event) => {
    heardAt = Date.now();
    shown(JSON.parse(event.data));
  });
}
news.addEventListener("open", () => {
  if (isLost) note("The console answers again");
  isLost = false;
  showHealth();
});
news.addEventListener("error", () => {
  if (!isLost) {
    isLost = true;
    note("The console does not answer; this page goes on when it does");
  }
  showHealth();
});

show();

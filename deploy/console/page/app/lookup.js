// One user or one transaction, looked up by id. The address of the page says which, so that a link leads here.

import { byId, make, moment, say, state, table, transactionLink, userLink } from "./words.js";

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const KINDS = {
  topup: "top-up",
  charge: "charge",
  refund: "refund",
  hold: "hold",
  void: "void of a hold",
  expiry: "hold ran out",
  transfer_out: "transfer out",
  transfer_in: "transfer in",
  transfer_back: "transfer came back",
};
/// What each kind does to a balance; the others leave it.
const SIGNS = { topup: "+", refund: "+", transfer_in: "+", transfer_back: "+", charge: "−", transfer_out: "−" };

const found = byId("found");

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = byId("search-text").value.trim();
  say(byId("search-problem"), "");
  if (/^\d+$/.test(id)) go(`#/users/${id}`);
  else if (UUID.test(id)) go(`#/transactions/${id}`);
  else say(byId("search-problem"), "Write a user's id, which is a number, or a transaction's, which is a UUID.");
});

function go(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

byId("found-close").addEventListener("click", close);
found.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
});

function close() {
  found.hidden = true;
  history.pushState(null, "", location.pathname);
  byId("search-text").focus();
}

addEventListener("hashchange", show);
addEventListener("popstate", () => {
  if (location.hash === "") found.hidden = true;
});

export async function show() {
  const [, kind, id] = location.hash.match(/^#\/(users|transactions)\/([\w-]+)$/) ?? [];
  if (!kind) return;
  const title = kind === "users" ? `User ${id}` : "Transaction";
  open(title, [make("p", { className: "quiet" }, "Looking …")]);
  const body = await ask(`/api/${kind}/${id}`);
  // Somebody has asked for another meanwhile.
  if (!location.hash.endsWith(id)) return;
  open(title, body.problem ? [make("p", {}, state("warn", "not found"), ` ${body.problem}.`)] : kind === "users" ? userView(body) : transactionView(body));
}

async function ask(path) {
  try {
    return await (await fetch(path)).json();
  } catch {
    return { problem: "the console does not answer" };
  }
}

function open(title, body) {
  const isNew = found.hidden || byId("found-title").textContent !== title;
  found.hidden = false;
  say(byId("found-title"), title);
  byId("found-body").replaceChildren(...body);
  if (isNew) {
    byId("found-title").focus();
    found.scrollIntoView({ block: "start" });
  }
}

function userView(user) {
  const balances = user.balances.map((one) =>
    make(
      "div",
      { className: "balance" },
      make("span", { className: "quiet" }, one.currency),
      make("strong", {}, one.balance),
      make("span", { className: "quiet" }, Number(one.held) === 0 ? "nothing is held" : `${one.available} available, ${one.held} held`),
    ),
  );
  const holds = user.holds.map((hold) => [
    transactionLink(hold.id, moment(hold.at_ms)),
    state(hold.status === "open" ? "warn" : "good", hold.status),
    `${hold.amount} ${hold.currency}`,
    hold.status === "captured" ? hold.captured : "–",
    moment(hold.expires_at_ms),
  ]);
  const parts = [
    make("p", { className: "quiet" }, `Slot ${user.slot}, at ${user.shard ?? "a shard that is not known"}. History from ${user.history_is_from}.`),
    make("div", { className: "balances" }, ...(balances.length === 0 ? [make("p", {}, "No balance yet.")] : balances)),
    make("h3", {}, "Holds"),
    holds.length === 0 ? make("p", { className: "quiet" }, "None.") : table("Holds", ["Taken", "State", "#Amount", "#Captured", "Runs out"], holds),
  ];
  if (user.has_more_holds) parts.push(make("p", { className: "quiet" }, "Older holds are not shown."));
  parts.push(make("h3", {}, "History"));
  const lines = historyTable(user.history);
  parts.push(user.history.length === 0 && !user.goes_on_before ? make("p", { className: "quiet" }, "No transaction yet.") : lines);
  const older = make("button", { type: "button", className: "plain more", hidden: !user.goes_on_before }, "Older transactions");
  let before = user.goes_on_before;
  older.addEventListener("click", async () => {
    older.disabled = true;
    const page = await ask(`/api/users/${user.user_id}?before=${before}`);
    older.disabled = false;
    if (page.problem) {
      say(older, `${page.problem}. Try again`);
      return;
    }
    say(older, "Older transactions");
    lines.querySelector("tbody").append(...historyTable(page.history).querySelectorAll("tbody tr"));
    before = page.goes_on_before;
    older.hidden = !before;
  });
  return [...parts, older];
}

function historyTable(history) {
  const rows = history.map((one) => [
    transactionLink(one.id, moment(one.at_ms)),
    KINDS[one.kind] ?? one.kind,
    make("span", { className: SIGNS[one.kind] === "+" ? "plus" : "" }, `${SIGNS[one.kind] ?? ""}${one.amount} ${one.currency}`),
    one.balance_after,
  ]);
  return table("History, the newest first", ["When", "What", "#Amount", "#Balance after"], rows);
}

function transactionView({ transaction, shard, hold, transfer, is_from: source }) {
  const names = [
    ["Id", make("span", { className: "mono" }, transaction.id)],
    ["What", KINDS[transaction.kind] ?? transaction.kind],
    ["Amount", `${SIGNS[transaction.kind] ?? ""}${transaction.amount} ${transaction.currency}`],
    ["User", userLink(transaction.user_id)],
    ["Balance after", `${transaction.balance_after} ${transaction.currency}`],
    ["When", moment(transaction.at_ms)],
    ["Charge", link(transaction.charge_id)],
    ["Hold", transaction.hold_id === transaction.id ? null : link(transaction.hold_id)],
    ["Transfer", transaction.transfer_id === transaction.id ? null : link(transaction.transfer_id)],
    ["From", transaction.from_user_id && userLink(transaction.from_user_id)],
    ["To", transaction.to_user_id && userLink(transaction.to_user_id)],
    ["Reference", transaction.reference],
    ["Metadata", transaction.metadata && make("code", {}, transaction.metadata)],
    ["Idempotency key", transaction.idempotency_key && make("span", { className: "mono" }, transaction.idempotency_key)],
    ["Made with the key", transaction.made_by],
    ["Where", `slot ${transaction.slot}, at ${shard ?? "a shard that is not known"}; read from ${source}`],
  ];
  const parts = [fields(names)];
  if (hold) {
    parts.push(
      make("h3", {}, "The hold that it began"),
      fields([
        ["State", state(hold.status === "open" ? "warn" : "good", hold.status)],
        ["Captured", `${hold.captured} of ${hold.amount} ${hold.currency}`],
        ["Runs out", moment(hold.expires_at_ms)],
      ]),
    );
  }
  if (transfer) {
    parts.push(
      make("h3", {}, "The transfer that it began"),
      fields([
        ["State", state(transfer.status === "completed" ? "good" : "warn", transfer.status)],
        ["Why it came back", transfer.reason],
        ["Ended", transfer.ended_at_ms && moment(transfer.ended_at_ms)],
      ]),
    );
  }
  return parts;
}

const link = (id) => (id ? transactionLink(id) : null);

function fields(pairs) {
  const known = pairs.filter(([, value]) => value);
  return make("dl", { className: "fields" }, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

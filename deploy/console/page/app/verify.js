// What the last `picopay verify --report` found.

import { note } from "./changes.js";
import { ago, byId, count, make, moment, plural, refill, state, table } from "./words.js";

/// How often "3 min ago" is written anew, in milliseconds.
const AGE_EVERY = 15000;

/// When the report that is shown was written; null without one.
let shownAt;

const whenText = () => (shownAt ? `${moment(shownAt)}, ${ago(shownAt)}` : "at an unknown time");

setInterval(() => byId("verified-at")?.replaceChildren(whenText()), AGE_EVERY);

export function showVerify({ file, report, problem }) {
  const body = byId("verify-body");
  if (problem) {
    refill(body, make("p", {}, state("warn", "not readable"), ` ${problem}`));
    return;
  }
  if (!report) {
    shownAt ??= null;
    refill(
      body,
      make("p", {}, state("warn", "no report yet"), " Whether the money is right, this proves, while charges go on:"),
      make("p", {}, make("code", {}, `picopay verify --report ${file}`)),
    );
    return;
  }
  if (shownAt !== undefined && shownAt !== report.at_ms) {
    note(report.is_proven ? "A verify has ended: nothing is wrong" : "A verify has ended: NOT proven");
  }
  shownAt = report.at_ms;
  const sum = (name) => report.shards.reduce((total, shard) => total + Number(shard[name]), 0);
  const when = make("time", { id: "verified-at" }, whenText());
  const wrong = report.checks.filter((check) => check.wrong > 0);
  refill(
    body,
    make(
      "p",
      { className: "verdict" },
      report.is_proven ? state("good", "proven: nothing is wrong") : state("bad", `not proven: ${plural(wrong.length, "check")} failed`),
    ),
    make("p", { className: "quiet" }, when, `; it took ${(report.took_ms / 1000).toFixed(1)} s and read ${count(sum("users"))} users, ${count(sum("balances"))} balances and ${count(sum("completed"))} transactions.`),
    table("The books, by currency", ["Currency", "#Top-ups", "#Charges", "#Refunds", "#Balances", "#Difference"], report.currencies.map((books) => [books.currency, books.topups, books.charges, books.refunds, books.balances, books.difference])),
    make(
      "details",
      { open: !report.is_proven },
      make("summary", {}, `${plural(report.checks.length, "promise")}, one by one`),
      table("Promises", ["Promise", "Wrong"], report.checks.map((check) => [check.promise, check.wrong === 0 ? state("good", "none") : state("bad", count(check.wrong))])),
      ...wrong.flatMap((check) => check.rows.map((row) => make("p", { className: "bad-text" }, `${row.shard} ${row.table} ${JSON.stringify(row.key)}: expected ${row.expected}, found ${row.found}`))),
    ),
  );
}

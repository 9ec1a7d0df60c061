// Transfers that are not ended, as `picopay transfers` lists them.

import { byId, count, make, refill, state, table, transactionLink, userLink } from "./words.js";

export function showTransfers({ report, problem }) {
  const body = byId("transfers-body");
  if (problem) {
    refill(body, make("p", {}, state("warn", "not known"), ` ${problem}`));
    return;
  }
  if (report.in_transit.length === 0) {
    refill(body, make("p", {}, state("good", "none"), " Every transfer has ended."));
    return;
  }
  const sums = report.in_transit.map((sum) => [sum.shard, count(sum.transfers), `${sum.amount} ${sum.currency}`]);
  const rows = report.pending.map((one) => [
    transactionLink(one.id, `${one.amount} ${one.currency}`),
    make("span", {}, userLink(one.from_user_id), " → ", userLink(one.to_user_id)),
    `${count(one.pending_s)} s`,
    `${count(one.tries)}, next ${one.next_try_in_s === 0 ? "now" : `in ${one.next_try_in_s} s`}`,
    one.last_error ?? "its gateway ends it, or the courier soon",
  ]);
  refill(
    body,
    table("In transit, by the shard of the sender", ["Sender's shard", "#Transfers", "#In transit"], sums),
    table("Pending transfers, the oldest first", ["Transfer", "From and to", "#Pending", "Tries", "Why"], rows),
  );
}

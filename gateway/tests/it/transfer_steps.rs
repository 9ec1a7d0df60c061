//! A transfer stops between two of its steps, and the ground changes there: a primary is replaced, or a slot moves. It ends
//! all the same, once, and no money is missing meanwhile.
//!
//! Interleavings: the money was taken, or it was taken and the recipient's shard has decided; then the gateway dies. Then the
//! sender's primary, the recipient's, or that of both is replaced; or the slot of one or of both moves. Only then the courier
//! comes, from wherever the sender's slot is. Each of these with a recipient who gets the money and with one who cannot.

use futures_util::future::join_all;
use http::Method;
use picopay_local::{ClusterSpec, LocalCluster, eventually, http_call, programs};
use picopay_shared::slot::UserId;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::api::Api;
use crate::gateway_process::GatewayProcess;
use crate::transfers::{transfer, verify};

/// Where a transfer stops: before it is given to the recipient, or after that was decided and before it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Credit,
    Settle,
}

impl Before {
    const ALL: [Self; 2] = [Self::Credit, Self::Settle];

    fn word(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Settle => "settle",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipient {
    /// With 100.00, so that there is room for more.
    Plain,
    /// Has as much as a balance can be, so that the money goes back.
    Full,
}

/// Users of full balances have another currency, so that sums of the first one can be read.
const CURRENCIES: [&str; 2] = ["USD", "EUR"];
const FULL: &str = "99999999999999999999.00";

/// A transfer of 10.00 between these shards.
#[derive(Debug, Clone, Copy)]
struct Case {
    before: Before,
    from: usize,
    to: usize,
    recipient: Recipient,
}

#[derive(Debug)]
struct Stopped {
    case: Case,
    key: Uuid,
    wish: Value,
    from: i64,
    to: i64,
    id: Uuid,
}

struct Stand {
    cluster: LocalCluster,
    api: Api,
    /// What was topped up in USD.
    all: Decimal,
}

fn shard_of(user: i64) -> usize {
    usize::from(slot_of(user) / 2_048)
}

fn slot_of(user: i64) -> u16 {
    UserId::try_from(user).unwrap().slot().get()
}

fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

impl Stand {
    async fn start() -> Self {
        let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
        cluster.hold_couriers().await.unwrap();
        let api = Api::new(cluster.gateway_url(), cluster.api_key());
        Self { cluster, api, all: Decimal::ZERO }
    }

    async fn user_of(&mut self, shard: usize, currency: &str) -> i64 {
        loop {
            let user = self.api.user_with("100", currency).await;
            if currency == CURRENCIES[0] {
                self.all += Decimal::ONE_HUNDRED;
            }
            if shard_of(user) == shard {
                return user;
            }
        }
    }

    /// As if he had been topped up a million times.
    async fn fill(&self, user: i64) {
        let database = self.cluster.connect_primary(shard_of(user)).await.unwrap();
        let fill = format!(
            "UPDATE transactions SET amount = {FULL}, balance_after = {FULL} WHERE user_id = {user};
             UPDATE balances SET balance = {FULL} WHERE user_id = {user}"
        );
        database.batch_execute(&fill).await.unwrap();
    }

    /// All at once, each by a gateway of its own, which dies.
    async fn stop_all(&mut self, cases: &[Case]) -> Vec<Stopped> {
        let mut users = Vec::new();
        for case in cases {
            let currency = CURRENCIES[usize::from(case.recipient == Recipient::Full)];
            let (from, to) = (self.user_of(case.from, currency).await, self.user_of(case.to, currency).await);
            if case.recipient == Recipient::Full {
                self.fill(to).await;
            }
            users.push((*case, from, to, currency));
        }
        let stand = &*self;
        join_all(users.into_iter().map(async |(case, from, to, currency)| {
            let (key, wish) = (Uuid::new_v4(), transfer(from, to, "10", currency));
            stand.stop(case.before, key, &wish).await;
            let id = stand.id_of(from).await;
            Stopped { case, key, wish, from, to, id }
        }))
        .await
    }

    async fn stop(&self, before: Before, key: Uuid, wish: &Value) {
        let config = format!("[testing]\ndies_before = \"{}\"", before.word());
        let mut dying = GatewayProcess::start(&self.cluster.cluster_toml(), &config).await;
        let text = key.to_string();
        let headers = [("x-api-key", "dev-key"), ("idempotency-key", text.as_str())];
        let url = format!("{}/transfers", dying.api.url);
        let lost = http_call::call(Method::POST, &url, &headers, &wish.to_string()).await;
        assert!(lost.is_err(), "{before:?} {wish}: {lost:?}");
        assert_eq!(dying.ended().await.code(), Some(9), "{before:?} {wish}");
    }

    async fn id_of(&self, from: i64) -> Uuid {
        let database = self.cluster.connect_primary(shard_of(from)).await.unwrap();
        let sql = "SELECT id FROM transfers WHERE user_id = $1";
        database.query_one(sql, &[&from]).await.unwrap().get(0)
    }

    /// Each is where it was stopped, and the money is all there.
    async fn are_between_their_steps(&self, stopped: &[Stopped]) {
        let (mut in_transit, mut counted_twice) = (Decimal::ZERO, Decimal::ZERO);
        for Stopped { case, from, to, id, .. } in stopped {
            assert_eq!(self.transfer(*id).await["status"], "pending", "{case:?}");
            let recipient = self.cluster.connect_primary(shard_of(*to)).await.unwrap();
            let sql = "SELECT EXISTS (SELECT FROM transfer_credits WHERE user_id = $1)";
            let is_decided: bool = recipient.query_one(sql, &[to]).await.unwrap().get(0);
            assert_eq!(is_decided, case.before == Before::Settle, "{case:?}");
            if case.recipient == Recipient::Plain {
                let is_given = case.before == Before::Settle;
                // The sender's shard cannot see what another one has given.
                let is_seen = is_given && shard_of(*from) == shard_of(*to);
                in_transit += Decimal::from(if is_seen { 0 } else { 10 });
                counted_twice += Decimal::from(if is_given && !is_seen { 10 } else { 0 });
            }
        }
        self.totals_are(in_transit, counted_twice).await;
        verify(&self.cluster).await;
    }

    async fn totals_are(&self, in_transit: Decimal, counted_twice: Decimal) {
        eventually("totals with all the money", async || {
            let answer = self.api.get("/totals").await.json();
            let of_usd =
                answer["totals"].as_array().and_then(|all| all.iter().find(|one| one["currency"] == "USD"));
            let Some(now) = of_usd else { return Err(answer.to_string()) };
            let found = (decimal(&now["in_transit"]), decimal(&now["balance"]) + decimal(&now["in_transit"]));
            if found == (in_transit, self.all + counted_twice) { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }

    async fn transfer(&self, id: Uuid) -> Value {
        let answer = self.api.get(&format!("/transfers/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["transfer"].clone()
    }

    /// Nobody asks: the couriers come by.
    async fn all_end_once(&self, stopped: &[Stopped]) {
        self.cluster.send_couriers().await.unwrap();
        for Stopped { case, key, wish, from, to, id } in stopped {
            let (status, reason, left, there) = match case.recipient {
                Recipient::Plain => ("completed", Value::Null, "90.00", "110.00"),
                Recipient::Full => ("reversed", json!("balance-too-large"), "100.00", FULL),
            };
            let ended = eventually("the end of a transfer", async || {
                let answer = self.api.get(&format!("/transfers/{id}")).await;
                let found = answer.json()["transfer"].clone();
                if found["status"] == status { Ok(found) } else { Err(format!("{case:?}: {answer:?}")) }
            })
            .await;
            assert_eq!(ended["reason"], reason, "{case:?}");
            let again = self.api.post_with("/transfers", *key, wish).await;
            assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{case:?}");
            assert_eq!(again.json(), json!({"transfer": ended, "new_balance": "90.00"}), "{case:?}");
            let currency = wish["currency"].as_str().unwrap();
            let balances = [self.api.balance(*from, currency).await, self.api.balance(*to, currency).await];
            assert_eq!(balances, [left, there], "{case:?}");
        }
        self.totals_are(Decimal::ZERO, Decimal::ZERO).await;
        verify(&self.cluster).await;
    }

    /// The operator's own command, with the real mover.
    async fn move_slots(&self, slots: &[u16], to: usize) {
        let mut command = Command::new(programs::find_picopay("picopay").unwrap());
        command.args(["slot", "move"]).args(slots.iter().map(u16::to_string));
        command.arg("--to").arg(self.cluster.shard(to).name());
        command.args(["--pause-budget", "20s"]).arg("--cluster").arg(self.cluster.cluster_file());
        let said = command.output().await.unwrap();
        assert!(said.status.success(), "{said:?}");
    }
}

#[tokio::test]
async fn a_transfer_between_two_steps_ends_once_whatever_primary_is_replaced_and_whichever_slot_moves() {
    let mut stand = Stand::start().await;
    let of = |routes: &[(usize, usize)], recipient| {
        let each = routes.iter().flat_map(|&(from, to)| Before::ALL.map(|before| (before, from, to)));
        each.map(|(before, from, to)| Case { before, from, to, recipient }).collect::<Vec<_>>()
    };

    // Of the first shard: the primary of the sender, of the recipient, and of both.
    let cases =
        [of(&[(0, 1), (1, 0), (0, 0)], Recipient::Plain), of(&[(0, 1), (1, 0)], Recipient::Full)].concat();
    let stopped = stand.stop_all(&cases).await;
    stand.are_between_their_steps(&stopped).await;
    stand.cluster.failover(0).await.unwrap();
    stand.cluster.wait_until_ready().await.unwrap();
    stand.all_end_once(&stopped).await;

    // The slot of the sender, of the recipient, and of both.
    let cases =
        [of(&[(0, 1), (1, 0), (1, 1)], Recipient::Plain), of(&[(0, 1), (1, 0)], Recipient::Full)].concat();
    let stopped = stand.stop_all(&cases).await;
    stand.are_between_their_steps(&stopped).await;
    let slots = |who: &dyn Fn(&Stopped) -> Vec<i64>| -> Vec<u16> {
        stopped.iter().flat_map(who).map(slot_of).collect()
    };
    let to_second = slots(&|one| match (one.case.from, one.case.to) {
        (0, _) => vec![one.from],
        (_, 0) => vec![one.to],
        _ => vec![],
    });
    let to_first = slots(&|one| match (one.case.from, one.case.to) {
        (1, 1) => vec![one.from, one.to],
        _ => vec![],
    });
    stand.move_slots(&to_second, 1).await;
    stand.move_slots(&to_first, 0).await;
    stand.all_end_once(&stopped).await;
    stand.cluster.stop().await;
}

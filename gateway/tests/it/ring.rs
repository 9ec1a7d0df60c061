//! Money goes round among users of all shards, each to the next one, while parts of the cluster die. The total stays what it
//! was, and `picopay verify` finds nothing wrong at any moment at which it looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http::Method;
use picopay_local::http_call::{self, Answer};
use picopay_local::{ClusterSpec, LocalCluster, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::api::Api;
use crate::transfers::{transfer, verify};

const USERS: usize = 100;

/// Each waits for its answer, so that so many are on their way.
const AT_ONCE: usize = 50;

/// Three times the amount of a transfer, and a rest: some transfers are refused.
const EACH_HAS: i64 = 10;
const AMOUNT: &str = "3";

/// Before whoever got an error tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a shard is gone: longer than an answer waits for the end of its transfer.
const GONE: Duration = Duration::from_millis(2_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    NodeKilled(usize),
    GatewayKilled,
    /// Primary and node, in order, and they come back.
    ShardStopped(usize),
}

const FAULTS: [Fault; 5] = [
    Fault::NodeKilled(0),
    Fault::GatewayKilled,
    Fault::ShardStopped(1),
    Fault::NodeKilled(1),
    Fault::ShardStopped(0),
];

impl Fault {
    async fn strike(self, cluster: &LocalCluster) {
        match self {
            Self::NodeKilled(shard) => {
                let node = cluster.shard(shard).node(0);
                node.kill().await.unwrap();
                node.start().await.unwrap();
            }
            Self::GatewayKilled => {
                cluster.gateway().kill().await.unwrap();
                cluster.gateway().start().await.unwrap();
            }
            Self::ShardStopped(shard) => {
                let (primary, node) = (cluster.shard(shard).primary(), cluster.shard(shard).node(0));
                let (one, other) = tokio::join!(primary.stop(), node.stop());
                one.and(other).unwrap();
                // Its users are without it for so long.
                sleep(GONE).await;
                primary.start().await.unwrap();
                node.start().await.unwrap();
            }
        }
    }
}

struct Sent {
    key: Uuid,
    wish: Value,
    /// Of the first that was an answer.
    told: Option<Answer>,
}

/// One client after another: an answer that was lost is no answer.
async fn ask(api: &Api, key: Uuid, wish: &Value) -> Option<Answer> {
    let text = key.to_string();
    let headers = [("x-api-key", api.key.as_str()), ("idempotency-key", text.as_str())];
    let url = format!("{}/transfers", api.url);
    http_call::call(Method::POST, &url, &headers, &wish.to_string()).await.ok()
}

async fn send_on(api: &Api, users: &[i64], number: usize, is_over: &AtomicBool) -> Vec<Sent> {
    let mut all = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let from = (number * 2 + all.len()) % USERS;
        let (key, wish) = (Uuid::new_v4(), transfer(users[from], users[(from + 1) % USERS], AMOUNT, "USD"));
        let told = ask(api, key, &wish).await.filter(|answer| matches!(answer.status, 200 | 202 | 402));
        if told.is_none() {
            // As a client that was told to come back later.
            sleep(PAUSE).await;
        }
        all.push(Sent { key, wish, told });
    }
    all
}

/// Every key is asked again until it is decided, and says what it said before.
async fn resolve(api: &Api, sent: &Sent) -> u16 {
    let Sent { key, wish, told } = sent;
    let last = eventually("a decision", async || match ask(api, *key, wish).await {
        Some(answer) if matches!(answer.status, 200 | 402) => Ok(answer),
        other => Err(format!("{other:?}")),
    })
    .await;
    if let Some(told) = told {
        let parts = |answer: &Answer| {
            let body = answer.json();
            (answer.status == 402, body["transfer"]["id"].clone(), body["new_balance"].clone())
        };
        assert_eq!(parts(told), parts(&last), "{told:?} {last:?}");
    }
    if last.status == 200 {
        assert_eq!(last.json()["transfer"]["status"], "completed", "{last:?}");
    }
    last.status
}

async fn goes_round(for_at_least: Duration) {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let each_has = EACH_HAS.to_string();
    let users = join_all((0..USERS).map(|_| api.user_with(&each_has, "USD"))).await;
    let is_over = AtomicBool::new(false);
    let faults = async {
        let until = Instant::now() + for_at_least;
        let mut struck = 0;
        while struck < FAULTS.len() || Instant::now() < until {
            let fault = FAULTS[struck % FAULTS.len()];
            fault.strike(&cluster).await;
            // Many are half done at this moment, and some wait for a courier.
            verify(&cluster).await;
            eprintln!("{fault:?}, and nothing is wrong");
            struck += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let transfers = join_all((0..AT_ONCE).map(|number| send_on(&api, &users, number, &is_over)));
    let ((), sent) = tokio::join!(faults, transfers);
    let sent: Vec<Sent> = sent.into_iter().flatten().collect();
    let decided: Vec<u16> =
        stream::iter(&sent).map(|one| resolve(&api, one)).buffer_unordered(AT_ONCE).collect().await;
    let (completed, unanswered) = (
        decided.iter().filter(|status| **status == 200).count(),
        sent.iter().filter(|one| one.told.is_none()).count(),
    );
    let pending = sent.iter().filter(|one| one.told.as_ref().is_some_and(|told| told.status == 202)).count();
    eprintln!(
        "{} transfers: {completed} completed, {pending} were pending, {unanswered} failed first",
        sent.len()
    );
    assert!(completed > USERS && pending > 0 && unanswered > 0, "faults that were felt");

    let balances = join_all(users.iter().map(|user| api.balance(*user, "USD"))).await;
    let total: i64 = balances.iter().map(|text| text.trim_end_matches(".00").parse::<i64>().unwrap()).sum();
    let as_before = EACH_HAS * i64::try_from(USERS).unwrap();
    assert_eq!(total, as_before, "{balances:?}");
    eventually("totals that say the same", async || {
        let now = api.get("/totals").await.json();
        let (balance, in_transit) = (&now["totals"][0]["balance"], &now["totals"][0]["in_transit"]);
        let is_equal = (balance, in_transit) == (&json!(format!("{as_before}.00")), &json!("0.00"));
        if is_equal { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    verify(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn money_that_goes_round_while_everything_dies_once_stays_as_much() {
    goes_round(Duration::ZERO).await;
}

#[tokio::test]
#[ignore = "a minute and more: make ring"]
async fn money_that_goes_round_for_a_minute_under_faults_stays_as_much() {
    goes_round(Duration::from_mins(1)).await;
}

//! Clients of every kind, slots that move, and transfers whose recipient's shard is frozen: whatever a metric counts.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use picopay_local::http_call::Answer;
use picopay_local::programs::find_picopay;
use picopay_local::{LocalCluster, eventually};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;
use uuid::Uuid;

/// Enough for both shards to have some.
const USERS: i64 = 24;

/// Who charges and holds at the same time.
const CLIENTS: i64 = 3;

/// The two cores of a test machine have other clusters to run as well.
const PAUSE: Duration = Duration::from_millis(50);

/// The courier counts what is in transit every five seconds, and Prometheus asks every ten.
const FROZEN: Duration = Duration::from_secs(25);

/// Runs until it is dropped.
pub async fn everything(cluster: &LocalCluster) {
    join_all((1..=USERS).map(|user| make_user(cluster, user))).await;
    let clients = join_all((0..CLIENTS).map(|client| charge_on(cluster, client)));
    tokio::join!(clients, move_slots(cluster), freeze_recipients(cluster));
}

async fn make_user(cluster: &LocalCluster, user: i64) {
    eventually("a user with money", async || {
        let made = cluster
            .post("/users", None, &json!({"user_id": user}))
            .await
            .map_err(|error| error.to_string())?;
        let paid = send(cluster, "/topup", &payment(user, "100000.00")).await;
        if made.status < 300 && paid.is_some_and(|paid| paid.status == 200) { Ok(()) } else { Err(made.body) }
    })
    .await;
}

/// What goes wrong is none of this test's business: it only wants to be counted.
async fn charge_on(cluster: &LocalCluster, client: i64) {
    for round in 0_i64.. {
        let user = 1 + (client + round * CLIENTS) % USERS;
        let key = Uuid::new_v4().to_string();
        for _ in 0..2 {
            let _ = cluster.post("/charge", Some(&key), &payment(user, "1.00")).await;
        }
        send(cluster, "/charge", &payment(user, "9000000.00")).await;
        send(cluster, "/charge", &payment(-1, "1.00")).await;
        // One stays open, one is captured, one is given back.
        let hold = payment(user, "1.00");
        let holds = join_all((0..3).map(|_| send(cluster, "/holds", &hold))).await;
        let ids: Vec<String> = holds.into_iter().flatten().filter_map(|hold| id_of(&hold, "hold")).collect();
        if let [_, captured, voided] = &ids[..] {
            send(cluster, &format!("/holds/{captured}/capture"), &json!({})).await;
            send(cluster, &format!("/holds/{voided}/void"), &json!({})).await;
        }
        let transfer = transfer(user, 1 + (user + round) % USERS);
        send(cluster, "/transfers", &transfer).await;
        for path in [format!("/transactions?user_id={user}"), format!("/users/{user}/balance")] {
            let _ = cluster.get(&path).await;
        }
        // A load of some tens of requests a second, not as many as there can be.
        sleep(PAUSE).await;
    }
}

async fn send(cluster: &LocalCluster, path: &str, body: &Value) -> Option<Answer> {
    cluster.post(path, None, body).await.ok()
}

fn payment(user: i64, amount: &str) -> Value {
    json!({"user_id": user, "amount": amount, "currency": "USD"})
}

fn transfer(from: i64, to: i64) -> Value {
    json!({"from_user_id": from, "to_user_id": to, "amount": "1.00", "currency": "USD"})
}

fn id_of(answer: &Answer, what: &str) -> Option<String> {
    answer.json()[what]["id"].as_str().map(str::to_owned)
}

/// To and fro, by the operator's own command.
async fn move_slots(cluster: &LocalCluster) {
    let picopay: PathBuf = find_picopay("picopay").unwrap();
    loop {
        for target in ["shard-2", "shard-1"] {
            let mut command = Command::new(&picopay);
            command.args(["slot", "move", "0-255", "--to", target, "--cluster"]).arg(cluster.cluster_file());
            let _ = command.kill_on_drop(true).output().await;
        }
    }
}

/// The sender's shard has the money in transit meanwhile.
async fn freeze_recipients(cluster: &LocalCluster) {
    loop {
        let node = cluster.shard(1).node(0);
        node.freeze();
        // Some have their sender on the shard that answers, and their recipient on the other.
        let sent = async {
            join_all(
                (1..=USERS)
                    .map(async |from| send(cluster, "/transfers", &transfer(from, 1 + from % USERS)).await),
            )
            .await;
        };
        // The shard is silent for as long as it takes its senders to count what waits.
        tokio::join!(sent, sleep(FROZEN));
        node.thaw();
        // Long enough for the shard to be well again, and for its metrics to be read.
        sleep(2 * FROZEN).await;
    }
}

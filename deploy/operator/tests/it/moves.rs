//! Slots change hands by an operator's word, while users charge, and whatever interrupts it is made good by the next run.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within};
use serde_json::{Value, json};
use tokio::process::Child;
use uuid::Uuid;

use crate::command::{Said, picopay, run};
use crate::users::{charge, make_user};

/// Enough that batches have rows, few enough to be made in a second or two.
const USERS: i64 = 200;

/// Requests on their way, so that each does not wait alone for a commit.
const AT_ONCE: usize = 16;

/// For what a busy machine takes some seconds for.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Two shards with everything around them, and users with 100.00 USD each.
struct TwoShards {
    cluster: LocalCluster,
    file: PathBuf,
}

impl TwoShards {
    async fn start() -> Self {
        let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
        let stand = Self { file: cluster.cluster_file(), cluster };
        let users = stream::iter(1..=USERS);
        users.for_each_concurrent(AT_ONCE, |user_id| make_user(&stand.cluster, user_id)).await;
        stand
    }

    async fn say<const WORDS: usize>(&self, words: [&str; WORDS]) -> Said {
        let mut command = picopay(&self.file, words);
        command.args(["--output", "json"]);
        run(command).await
    }

    fn begin<const WORDS: usize>(&self, words: [&str; WORDS]) -> Child {
        let mut command = picopay(&self.file, words);
        command.args(["--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    async fn owned(&self) -> [i64; 2] {
        let mut owned = [0; 2];
        for (position, count) in owned.iter_mut().enumerate() {
            let client = self.cluster.connect_primary(position).await.unwrap();
            let sql = "SELECT count(*) FROM slot_owner WHERE state = 'owned'";
            *count = client.query_one(sql, &[]).await.unwrap().get(0);
        }
        owned
    }

    async fn charge(&self, user_id: i64, key: &str) -> (u16, String, bool) {
        let answer = charge(&self.cluster, user_id, key).await;
        let is_replayed = answer.headers.contains_key("idempotent-replayed");
        (answer.status, answer.body, is_replayed)
    }

    async fn proven(&self) -> Vec<(String, String, u64)> {
        let report = self.say(["verify"]).await.success().json();
        let line = |left: &Value| {
            let text = |name: &str| left[name].as_str().unwrap().to_owned();
            (text("shard"), text("state"), left["rows"].as_u64().unwrap())
        };
        report["leftovers"].as_array().unwrap().iter().map(line).collect()
    }

    /// Returns its notes. What gateways and nodes were just told takes a moment.
    async fn well(&self) -> String {
        eventually_within(WAIT_MAX, "a cluster that is well", async || {
            let said = self.say(["status"]).await;
            if said.code == Some(0) { Ok(said.json()["notes"].to_string()) } else { Err(format!("{said:?}")) }
        })
        .await
    }

    async fn execute(&self, shard: usize, sql: &str) {
        self.cluster.connect_as_superuser(shard).await.unwrap().batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_change_hands_by_an_operators_word() {
    let stand = TwoShards::start().await;
    let keys: Vec<String> = (0..=USERS).map(|_| Uuid::new_v4().to_string()).collect();
    let charge_all = async |first: i64| {
        let users = stream::iter((first..=USERS).step_by(2));
        let answers = users.map(|user_id| stand.charge(user_id, &keys[usize::try_from(user_id).unwrap()]));
        answers.buffered(AT_ONCE).collect::<Vec<_>>().await
    };
    let before = charge_all(1).await;

    a_drained_shard_owns_nothing_and_is_well(&stand).await;
    a_plan_changes_nothing(&stand).await;

    let report = stand.say(["rebalance"]).await.success().json();
    assert_eq!(report["slots"], 2048, "{report}");
    assert_eq!(stand.owned().await, [2048, 2048]);
    let again = stand.say(["rebalance"]).await.success().json();
    assert_eq!((&again["slots"], &again["is_done"]), (&json!(0), &json!(true)));

    let after = charge_all(1).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.0, &before.1, true), (after.0, &after.1, after.2), "the first answer again");
    }
    assert!(charge_all(2).await.iter().all(|(status, ..)| *status == 200));

    what_moved_is_purged_only_when_it_may(&stand).await;
    single_slots_move(&stand).await;
    no_slot_moves_from_or_to_a_degraded_shard(&stand).await;
    stand.cluster.stop().await;
}

async fn a_drained_shard_owns_nothing_and_is_well(stand: &TwoShards) {
    let said = run(picopay(&stand.file, ["shard", "drain", "shard-2"])).await.success();
    assert!(said.out.contains("shard-2 owns no slot"), "{}", said.out);
    assert_eq!(stand.owned().await, [4096, 0]);
    let notes = stand.well().await;
    assert!(notes.contains("shard-2 has rows of") && notes.contains("slots purge"), "{notes}");
    let ready = stand.cluster.get("/readyz").await.unwrap().json();
    assert_eq!(ready["shards"][1]["is_ready"], true, "{ready}");
    let left = stand.proven().await;
    assert!(
        !left.is_empty()
            && left.iter().all(|(shard, state, rows)| {
                (shard.as_str(), state.as_str()) == ("shard-2", "released") && *rows > 0
            }),
        "{left:?}"
    );
    stand.say(["shard", "drain", "shard-9"]).await.failure("there is no shard \"shard-9\"");
}

async fn a_plan_changes_nothing(stand: &TwoShards) {
    let plan = stand.say(["rebalance", "--plan"]).await.success().json();
    assert_eq!((&plan["slots"], &plan["shards"][1]["slots_after"]), (&json!(2048), &json!(2048)));
    assert_eq!(plan["estimate"]["source"], "assumed");
    let by_rows = stand.say(["rebalance", "--plan", "--by", "rows"]).await.success().json();
    let rows = |position: usize| by_rows["shards"][position]["rows_after"].as_u64().unwrap();
    assert!(rows(0).abs_diff(rows(1)) < 20, "{by_rows}");
    let table = run(picopay(&stand.file, ["rebalance", "--plan", "--throttle", "100"])).await.success();
    assert!(table.out.contains("at the 100 rows/s of --throttle"), "{}", table.out);
    assert_eq!(stand.owned().await, [4096, 0]);
}

async fn what_moved_is_purged_only_when_it_may(stand: &TwoShards) {
    let fresh = stand.say(["slots", "purge"]).await.success().json();
    assert_eq!(fresh["purged"], json!([]), "it is too soon");
    assert!(fresh["kept"].to_string().contains("--older-than"), "{fresh}");

    // Whoever is said to own them says no such thing: these may be the only rows there are.
    let [source, target] = ["shard-1", "shard-2"];
    let lost = "UPDATE slot_owner SET state = 'aborted' WHERE state = 'owned' AND epoch > 1";
    stand.execute(1, lost).await;
    let said = stand.say(["slots", "purge", "--older-than", "0s", "--shard", source]).await;
    assert_eq!((said.code, &said.json()["purged"]), (Some(1), &json!([])), "{said:?}");
    assert!(said.json()["kept"].to_string().contains("only rows there are"), "{said:?}");
    stand.execute(1, &format!("UPDATE slot_owner SET state = 'owned' WHERE owner = '{target}'")).await;

    let said = stand.say(["slots", "purge", "--older-than", "0s", "--throttle", "1000000"]).await.success();
    assert!(said.json()["purged"].as_array().unwrap().iter().all(|one| one["rows"].as_u64() > Some(0)));
    assert_eq!(stand.proven().await, []);
    let slots = stand.say(["slots"]).await.success().json();
    let left =
        slots["shards"].as_array().unwrap().iter().flat_map(|shard| shard["groups"].as_array().unwrap());
    assert!(left.filter(|group| group["state"] != "owned").all(|group| group["rows_left"] == 0), "{slots}");
    let table = run(picopay(&stand.file, ["slots"])).await.success();
    assert!(table.out.contains("moved to shard-2"), "{}", table.out);
}

async fn single_slots_move(stand: &TwoShards) {
    let report = stand.say(["slot", "move", "0-9", "4095", "--to", "shard-2"]).await.success().json();
    let runs = |one: &Value| (one["from"].clone(), one["to"].clone(), one["runs"].clone());
    let planned: Vec<_> = report["plan"]["moves"].as_array().unwrap().iter().map(runs).collect();
    assert_eq!(planned[0], (json!("shard-1"), json!("shard-2"), json!([{"first": 0, "last": 9}])));
    let again = stand.say(["slot", "move", "0–9", "--to", "shard-2"]).await.success().json();
    assert_eq!(again["slots"], 0);
    let client = stand.cluster.connect_primary(1).await.unwrap();
    let sql = "SELECT count(*) FROM slot_owner WHERE state = 'owned' AND (slot < 10 OR slot = 4095)";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 11);
    assert_eq!(stand.say(["slot", "move", "4096", "--to", "shard-2"]).await.code, Some(2));
}

async fn no_slot_moves_from_or_to_a_degraded_shard(stand: &TwoShards) {
    stand.execute(1, "INSERT INTO degradation (degraded_by, reason) VALUES ('ann', 'a disk')").await;
    let before = stand.owned().await;
    stand.say(["slot", "move", "100", "--to", "shard-2"]).await.failure("degraded");
    stand.say(["shard", "drain", "shard-2"]).await.failure("degraded");
    assert_eq!(stand.owned().await, before);
    stand.execute(1, "DELETE FROM degradation").await;
}

/// Interleavings: the signal comes while a batch is copied, while it is handed over, or while the command waits because of
/// its throttle; the kill likewise.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_that_ends_early_is_gone_on_with_by_the_next() {
    let stand = TwoShards::start().await;
    stand.say(["shard", "drain", "shard-2", "--max-parallel", "4"]).await.success();

    // Some slots of a batch have users, and this rate makes one batch wait for seconds.
    let slow = stand.begin(["rebalance", "--throttle", "3"]);
    let more_moved = async |than: i64| {
        eventually("slots that move", async || stand.owned().await[1] > than).await;
    };
    more_moved(0).await;
    signal(&slow, Signal::SIGINT);
    let output = slow.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["was_stopped"], &report["is_done"], &report["error"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    assert!(String::from_utf8(output.stderr).unwrap().contains("Stopping after the batch"));
    let moved = stand.owned().await;
    assert_eq!(report["slots"], moved[1]);
    assert_eq!(moved.iter().sum::<i64>(), 4096, "every slot has its owner");
    stand.well().await;

    let mut killed = stand.begin(["rebalance", "--throttle", "3"]);
    more_moved(moved[1]).await;
    assert_eq!(killed.try_wait().unwrap(), None, "it is at its next batch");
    killed.kill().await.unwrap();
    assert!(stand.owned().await[1] < 2048, "it was not done");

    stand.say(["rebalance"]).await.success();
    assert_eq!(stand.owned().await, [2048, 2048]);
    stand.proven().await;
    stand.well().await;
    stand.cluster.stop().await;
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id().expect("it runs")).unwrap());
    kill(pid, signal).unwrap();
}

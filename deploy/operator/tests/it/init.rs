//! Slots are dealt out once, whatever interrupts or repeats it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use picopay_local::eventually;
use picopay_shared::slot::FENCE_LOCK;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::bare_databases::BareDatabases;
use crate::command::{Said, picopay, run};

struct Bare(BareDatabases);

impl Deref for Bare {
    type Target = BareDatabases;

    fn deref(&self) -> &BareDatabases {
        &self.0
    }
}

impl Bare {
    async fn start() -> Self {
        let bare = Self(BareDatabases::start(2).await);
        bare.describe([0, 1]);
        bare
    }

    fn describe(&self, [first, second]: [usize; 2]) {
        self.0.describe(&[("shard-1", first), ("shard-2", second)]);
    }

    fn name(&self, id: &str) {
        self.describe([0, 1]);
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, format!("cluster_id = {id:?}\n{text}")).unwrap();
    }

    async fn init_if_needed(&self) -> Said {
        run(picopay(&self.file, ["init", "--if-needed", "--output", "json"])).await
    }

    async fn wipe(&self) {
        for database in [0, 1] {
            self.0.wipe(database).await;
        }
    }

    async fn init(&self) -> Said {
        run(picopay(&self.file, ["init", "--output", "json"])).await
    }

    async fn deals(&self) -> Vec<String> {
        let mut deals = Vec::new();
        for client in &self.clients {
            let sql = "SELECT coalesce((SELECT shard_name || ' of ' || cluster_id FROM shard_identity), 'nobody')
                       || concat(' ', min(slot), '-', max(slot), ' ', count(*), ' ', min(owner), max(owner), max(epoch))
                       FROM slot_owner WHERE state = 'owned'";
            deals.push(client.query_one(sql, &[]).await.unwrap().get(0));
        }
        deals
    }

    async fn assert_dealt(&self, said: &Said) {
        let json = said.json();
        let id = json["cluster_id"].as_str().unwrap();
        let expected = [
            format!("shard-1 of {id} 0-2047 2048 shard-1shard-11"),
            format!("shard-2 of {id} 2048-4095 2048 shard-2shard-21"),
        ];
        assert_eq!(self.deals().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_dealt_out_once_and_an_interrupted_deal_is_finished() {
    let bare = Bare::start().await;
    slots_are_dealt_out_once(&bare).await;
    what_is_no_interrupted_deal_is_refused(&bare).await;
    a_killed_deal_is_finished_with_the_same_id(&bare).await;
    of_two_at_once_one_deals_and_the_other_refuses(&bare).await;
    two_shards_in_one_database_are_refused(&bare).await;
    the_cluster_is_the_one_that_its_file_names(&bare).await;
    what_runs_at_every_start_succeeds_and_migrates(&bare).await;
    a_deal_that_the_standby_may_not_have_is_no_success(&bare).await;
}

async fn slots_are_dealt_out_once(bare: &Bare) {
    let said = bare.init().await.success();
    bare.assert_dealt(&said).await;
    let before: Vec<Value> = said.json()["shards"].as_array().unwrap().clone();
    assert!(before.iter().all(|shard| shard["was_dealt_before"] == false));
    bare.init().await.failure("initialised already");
    bare.assert_dealt(&said).await;
}

async fn what_is_no_interrupted_deal_is_refused(bare: &Bare) {
    let empty = "DELETE FROM slot_owner; DELETE FROM shard_identity";
    for (shard, change, needle) in [
        (0, empty, "lost or swapped"),
        (1, "UPDATE slot_owner SET epoch = 2 WHERE slot = 3000", "no new cluster"),
        (
            1,
            "UPDATE slot_owner SET state = 'released', owner = 'shard-1' WHERE slot = 3000",
            "no new cluster",
        ),
        (1, "DELETE FROM slot_owner WHERE slot = 3000", "no new cluster"),
        (1, "UPDATE shard_identity SET shard_name = 'shard-9'", "\"shard-9\""),
        (1, "UPDATE shard_identity SET cluster_id = gen_random_uuid()", "different clusters"),
        (1, "DELETE FROM shard_identity", "no identity"),
    ] {
        bare.wipe().await;
        bare.init().await.success();
        bare.clients[shard].batch_execute(change).await.unwrap();
        let before = bare.deals().await;
        bare.init().await.failure(needle);
        assert_eq!(bare.deals().await, before, "{change}");
    }

    bare.wipe().await;
    let said = bare.init().await.success();
    let user = "INSERT INTO users (slot, user_id, tag) VALUES (579, 2, 633937646)";
    bare.clients[0].batch_execute(user).await.unwrap();
    bare.clients[1].batch_execute(empty).await.unwrap();
    bare.init().await.failure("--even-with-users");
    let finished =
        run(picopay(&bare.file, ["init", "--even-with-users", "--output", "json"])).await.success();
    assert_eq!(finished.json()["cluster_id"], said.json()["cluster_id"]);
}

async fn a_killed_deal_is_finished_with_the_same_id(bare: &Bare) {
    bare.wipe().await;
    run(picopay(&bare.file, ["migrate"])).await.success();
    // Whoever holds the fence of the second shard keeps the deal from going beyond the first.
    bare.clients[1].execute("SELECT pg_advisory_lock($1)", &[&FENCE_LOCK]).await.unwrap();
    let mut killed = picopay(&bare.file, ["init"]).spawn().unwrap();
    let first = "SELECT cluster_id::text FROM shard_identity";
    let id: String = eventually("the identity of the first shard", async || {
        bare.clients[0].query_opt(first, &[]).await.unwrap().map(|row| row.get(0))
    })
    .await;
    killed.kill().await.unwrap();
    bare.clients[1].execute("SELECT pg_advisory_unlock($1)", &[&FENCE_LOCK]).await.unwrap();

    let finished = eventually("the end of the killed one", async || {
        // Its connection may outlive it by a moment.
        Some(bare.init().await).filter(|said| !said.err.contains("another `picopay init`"))
    })
    .await
    .success();
    assert_eq!(finished.json()["cluster_id"], id.as_str());
    assert_eq!(finished.json()["shards"][0]["was_dealt_before"], true);
    assert_eq!(finished.json()["shards"][1]["was_dealt_before"], false);
    bare.assert_dealt(&finished).await;
}

/// Interleavings: both find nothing and each deals one shard under an id of its own; or the second finds the first
/// half done and takes it for interrupted.
async fn of_two_at_once_one_deals_and_the_other_refuses(bare: &Bare) {
    for _ in 0..5 {
        bare.wipe().await;
        let (one, other) = tokio::join!(bare.init(), bare.init());
        let (dealt, refused) = if one.code == Some(0) { (one, other) } else { (other, one) };
        let dealt = dealt.success();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let is_told = ["another `picopay init`", "initialised already"];
        assert!(is_told.iter().any(|reason| refused.err.contains(reason)), "{refused:?}");
        bare.assert_dealt(&dealt).await;
    }
}

/// Leaves the tables of the first four migrations, as the release before did.
const OLDER: &str = "DROP TABLE schema_version; DELETE FROM refinery_schema_history WHERE version = 5";

async fn the_cluster_is_the_one_that_its_file_names(bare: &Bare) {
    bare.wipe().await;
    let told = run(picopay(&bare.file, ["init"])).await.success();
    let line = told.out.lines().find(|line| line.starts_with("cluster_id = ")).unwrap().to_owned();
    let id = line.trim_start_matches("cluster_id = ").trim_matches('"');
    bare.name(id);
    let (own, other) = (id.to_owned(), "0192f7a0-5c3e-7c11-9a55-0d2f6f1f2a3b");
    let said = bare.init_if_needed().await.success();
    assert_eq!(said.json()["cluster_id"], own.as_str());

    bare.name(other);
    for words in [
        ["init", "--if-needed"].as_slice(),
        &["init"],
        &["migrate"],
        &["rebalance", "--plan"],
        &["rebalance"],
        &["slots"],
        &["slots", "purge"],
        &["slot", "move", "3", "--to", "shard-2"],
        &["shard", "add", "shard-2"],
        &["shard", "degrade", "shard-1", "--reason", "test"],
        &["shard", "restore", "shard-1"],
        &["shard", "drain", "shard-1"],
    ] {
        let said = run(picopay(&bare.file, words)).await;
        assert_eq!(said.code, Some(1), "{words:?}: {said:?}");
        assert!(said.err.contains(&own) || said.out.contains("it is of"), "{words:?}: {said:?}");
    }
    for words in ["status", "verify"] {
        let said = run(picopay(&bare.file, [words])).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.out.contains(&own) && said.out.contains(other), "{words}: {}", said.out);
    }

    bare.wipe().await;
    let said = bare.init().await.success();
    assert_eq!(said.json()["cluster_id"], other);
    bare.assert_dealt(&said).await;
    bare.describe([0, 1]);
}

async fn what_runs_at_every_start_succeeds_and_migrates(bare: &Bare) {
    bare.wipe().await;
    let new = bare.init_if_needed().await.success();
    bare.assert_dealt(&new).await;
    assert_eq!(new.json()["was_initialised"], false);
    for change in [
        "INSERT INTO users (slot, user_id, tag) VALUES (579, 2, 633937646)",
        "UPDATE slot_owner SET state = 'released', owner = 'shard-2', epoch = 2 WHERE slot = 3",
    ] {
        bare.clients[0].batch_execute(change).await.unwrap();
    }
    bare.clients[1].batch_execute("INSERT INTO slot_owner VALUES (3, 'owned', 'shard-2', 2)").await.unwrap();
    let before = bare.deals().await;
    let (one, other) = tokio::join!(bare.init_if_needed(), bare.init_if_needed());
    for said in [one.success(), other.success()] {
        assert_eq!(said.json()["was_initialised"], true);
        assert_eq!(said.json()["cluster_id"], new.json()["cluster_id"]);
        assert_eq!(said.json()["migrated"][0]["applied"], serde_json::json!([]));
    }
    for client in &bare.clients {
        client.batch_execute(OLDER).await.unwrap();
    }
    run(picopay(&bare.file, ["rebalance", "--plan"])).await.failure("run `picopay migrate`");
    let status = run(picopay(&bare.file, ["status"])).await;
    assert!(status.out.contains("lacks V5") && status.out.contains("picopay migrate"), "{}", status.out);
    let migrated = bare.init_if_needed().await.success();
    assert_eq!(migrated.json()["migrated"][1]["applied"], serde_json::json!(["V5__schema_versions"]));
    assert_eq!(bare.deals().await, before, "and nothing else was changed");
    let raise = "UPDATE schema_version SET oldest_known = 900";
    bare.clients[0].batch_execute(raise).await.unwrap();
    run(picopay(&bare.file, ["rebalance", "--plan"])).await.failure("programs that know V900");
    // Half done, in a way that no interrupted init leaves behind.
    bare.wipe().await;
    bare.init_if_needed().await.success();
    bare.clients[0].batch_execute("DELETE FROM slot_owner; DELETE FROM shard_identity").await.unwrap();
    bare.init_if_needed().await.failure("lost or swapped");
}

async fn two_shards_in_one_database_are_refused(bare: &Bare) {
    bare.wipe().await;
    bare.describe([1, 1]);
    bare.init().await.failure("one and the same database");
    bare.describe([0, 1]);
}

/// Postgres answers a COMMIT whose wait for the standby was cancelled with success and a warning.
async fn a_deal_that_the_standby_may_not_have_is_no_success(bare: &Bare) {
    bare.wipe().await;
    run(picopay(&bare.file, ["migrate"])).await.success();
    bare.cluster.shard(0).replica().freeze();
    let cancel = async {
        let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'picopay' AND wait_event = 'SyncRep'";
        eventually("a commit that waits for the standby", async || {
            !bare.clients[0].query(sql, &[]).await.unwrap().is_empty()
        })
        .await;
    };
    let (said, ()) = tokio::join!(bare.init(), cancel);
    bare.cluster.shard(0).replica().thaw();
    said.failure("may be done or not");
    bare.init().await.success();
}

/// A server that starts: it hangs up `refusals` times, then it is the one at `port`.
async fn late_server(port: u16, refusals: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own_port, asked) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if counter.fetch_add(1, Ordering::SeqCst) >= refusals {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        }
    });
    (own_port, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_that_start_late_are_waited_for_when_asked() {
    let bare = Bare::start().await;
    let real_port = bare.cluster.shard(1).primary_port();
    let (late_port, asked) = late_server(real_port, 3).await;
    let text = std::fs::read_to_string(&bare.file).unwrap();
    std::fs::write(&bare.file, text.replace(&format!("port={real_port}"), &format!("port={late_port}")))
        .unwrap();

    bare.init().await.failure("primary of shard-2");
    let asked_without_wait = asked.load(Ordering::SeqCst);
    assert!((1..=2).contains(&asked_without_wait), "it does not wait unless asked: {asked_without_wait}");
    let waits = ["init", "--if-needed", "--wait", "60", "--output", "json"];
    let said = run(picopay(&bare.file, waits)).await.success();
    bare.assert_dealt(&said).await;
    assert!(asked.load(Ordering::SeqCst) > 3);
}

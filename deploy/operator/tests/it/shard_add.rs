//! A new shard joins a cluster that is in use, and nothing else is taken for one.

use std::ops::Deref;

use crate::bare_databases::BareDatabases;
use crate::command::{Said, picopay, run};

struct ThirdShard(BareDatabases);

impl Deref for ThirdShard {
    type Target = BareDatabases;

    fn deref(&self) -> &BareDatabases {
        &self.0
    }
}

impl ThirdShard {
    async fn start() -> Self {
        let stand = Self(BareDatabases::start(3).await);
        stand.describe(&[("shard-1", 0), ("shard-2", 1)]);
        run(picopay(&stand.file, ["init"])).await.success();
        stand.describe(&[("shard-1", 0), ("shard-2", 1), ("shard-3", 2)]);
        stand
    }

    async fn add(&self, name: &str) -> Said {
        run(picopay(&self.file, ["shard", "add", name, "--output", "json"])).await
    }

    async fn wipe(&self) {
        self.0.wipe(2).await;
    }

    async fn has_joined(&self) -> bool {
        let sql = "SELECT to_regclass('shard_identity') IS NOT NULL";
        if !self.clients[2].query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            return false;
        }
        self.clients[2].query_one("SELECT EXISTS (SELECT FROM shard_identity)", &[]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_shard_joins_and_only_a_whole_cluster() {
    let stand = ThirdShard::start().await;
    the_commands_that_need_it_say_so(&stand).await;
    somebody_elses_database_is_refused(&stand).await;
    a_cluster_that_lacks_slots_is_refused(&stand).await;

    let said = stand.add("shard-3").await.success().json();
    assert_eq!(said["was_there_before"], false);
    let sql = "SELECT shard_name || ' ' || cluster_id || ' ' || (SELECT count(*) FROM slot_owner) FROM shard_identity";
    let found: String = stand.clients[2].query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(found, format!("shard-3 {} 0", said["cluster_id"].as_str().unwrap()));
    assert_eq!(stand.add("shard-3").await.success().json()["was_there_before"], true);
    assert_eq!(stand.add("shard-1").await.success().json()["was_there_before"], true);

    a_member_under_another_name_is_refused(&stand).await;
    stand.0.cluster.stop().await;
}

async fn the_commands_that_need_it_say_so(stand: &ThirdShard) {
    for command in [["rebalance", "--plan"], ["slots", "purge"]] {
        run(picopay(&stand.file, command)).await.failure("picopay shard add shard-3");
    }
    run(picopay(&stand.file, ["init"])).await.failure("`picopay shard add`");
    stand.add("shard-4").await.failure("there is no shard \"shard-4\"");
    assert!(!stand.has_joined().await);
}

async fn somebody_elses_database_is_refused(stand: &ThirdShard) {
    stand.wipe().await;
    stand.clients[2].batch_execute("CREATE TABLE orders ()").await.unwrap();
    stand.add("shard-3").await.failure("tables of somebody else (public.orders)");
    stand.wipe().await;
    // The database of shard-2, by a mistake in the file.
    stand.describe(&[("shard-1", 0), ("shard-2", 1), ("shard-3", 1)]);
    stand.add("shard-3").await.failure("one and the same database");
    stand.describe(&[("shard-1", 0), ("shard-2", 1), ("shard-3", 2)]);
    // Users without an identity: somebody has deleted that, or restored half a database.
    run(picopay(&stand.file, ["migrate"])).await.success();
    stand.clients[2].batch_execute("INSERT INTO users VALUES (1, 1, 1)").await.unwrap();
    stand.add("shard-3").await.failure("is not empty");
    stand.wipe().await;
}

async fn a_cluster_that_lacks_slots_is_refused(stand: &ThirdShard) {
    // The lost database of a shard that had slots: the others do not own them.
    stand.describe(&[("shard-1", 0), ("shard-2", 2)]);
    stand.add("shard-2").await.failure("slots 2048–4095 are owned by no shard");
    stand.describe(&[("shard-1", 0), ("shard-2", 1), ("shard-3", 2)]);
    let twice = "INSERT INTO slot_owner VALUES (4000, 'owned', 'shard-1', 3)";
    stand.clients[0].batch_execute(twice).await.unwrap();
    stand.add("shard-3").await.failure("owned by more than one");
    stand.clients[0].batch_execute("DELETE FROM slot_owner WHERE slot = 4000").await.unwrap();
    assert!(!stand.has_joined().await);
}

async fn a_member_under_another_name_is_refused(stand: &ThirdShard) {
    stand.describe(&[("shard-1", 0), ("shard-2", 1), ("shard-9", 2)]);
    stand.add("shard-9").await.failure("is shard-3 of cluster");
}

//! Whether each user is where their id hashes to.
//!
//! Computed with the code that the services route by. Rows of other tables have the slot of their row in `users`, as their
//! own check proves.

use picopay_shared::slot::UserId;
use serde_json::json;

use super::findings::{Finding, Findings, key};
use super::snapshot::Snapshot;

pub async fn check_hashes(snapshot: &Snapshot, findings: &mut Findings) -> anyhow::Result<u64> {
    let mut users = 0;
    let sql = include_str!("../sql/verify/read_users.sql");
    let database = &snapshot.database;
    let check = |row: &tokio_postgres::Row| {
        users += 1;
        let (slot, user_id, tag): (i16, i64, i32) = (row.get(0), row.get(1), row.get(2));
        let found = || format!("slot {slot}, tag {tag}");
        let expected = match UserId::try_from(user_id) {
            Ok(user) if (user.slot().as_i16(), user.tag().as_i32()) == (slot, tag) => return,
            Ok(user) => format!("slot {}, tag {}", user.slot(), user.tag().as_i32()),
            Err(error) => error.to_string(),
        };
        findings.add("slot", || Finding {
            shard: snapshot.shard.clone(),
            table: "users".to_owned(),
            key: key([("slot", json!(slot)), ("user_id", json!(user_id))]),
            expected,
            found: found(),
        });
    };
    database.for_each_row(sql, &[], check).await?;
    Ok(users)
}

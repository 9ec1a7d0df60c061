//! Whether each slot is owned by exactly one shard.
//!
//! Snapshots are not of the same instant, so what looks wrong is read again. Epochs grow with each change of hands: two
//! owners at the same epochs in a second reading did own the slot at once. A slot has no owner for a moment of every move;
//! only what lasts longer is wrong.

use std::time::Duration;

use futures_util::future::try_join_all;
use picopay_postgres::{Patience, ShardDb};
use picopay_shared::cluster::Cluster;
use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::OwnerRow;
use serde_json::json;
use tokio::time::sleep;

use super::findings::{Finding, Findings, key};
use super::snapshot::Snapshot;

/// For one reading of the owners.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(10), statement: Duration::from_secs(10) };
const PAUSE: Duration = Duration::from_millis(500);
/// With their pauses they take several times as long as a slot may have no owner.
const READINGS_MAX: usize = 6;

/// A slot that looks wrong: who says that they own it, and at which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    slot: u16,
    owners: Vec<(String, u64)>,
}

/// Also for each owned one that names another owner.
pub async fn check(cluster: &Cluster, snapshots: &[Snapshot], findings: &mut Findings) -> anyhow::Result<()> {
    let names: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.shard.as_str()).collect();
    let mut suspects =
        suspects_in(&names, &snapshots.iter().map(|one| one.owners.as_slice()).collect::<Vec<_>>());
    for _ in 0..READINGS_MAX {
        if suspects.is_empty() {
            break;
        }
        let again = read_again(cluster).await?;
        let now = suspects_in(&names, &again.iter().map(Vec::as_slice).collect::<Vec<_>>());
        // Slots that look wrong in this reading only are the business of a verify that starts now.
        suspects.retain(|suspect| now.contains(suspect));
        if suspects.iter().all(|suspect| !suspect.owners.is_empty()) {
            break;
        }
        sleep(PAUSE).await;
    }
    for suspect in suspects {
        let found: Vec<String> =
            suspect.owners.iter().map(|(name, epoch)| format!("{name} at epoch {epoch}")).collect();
        findings.add("slot_owner", || Finding {
            shard: "cluster".to_owned(),
            table: "slot_owner".to_owned(),
            key: key([("slot", json!(suspect.slot))]),
            expected: "1 owner".to_owned(),
            found: if found.is_empty() { "none".to_owned() } else { found.join(" and ") },
        });
    }
    for snapshot in snapshots {
        for row in snapshot.owners.iter().filter(|row| row.is_owned() && row.owner != snapshot.shard) {
            findings.add("slot_owner", || Finding {
                shard: snapshot.shard.clone(),
                table: "slot_owner".to_owned(),
                key: key([("slot", json!(row.slot.get()))]),
                expected: format!("owner {}, since its state is 'owned'", snapshot.shard),
                found: row.owner.clone(),
            });
        }
    }
    Ok(())
}

fn suspects_in(names: &[&str], shards: &[&[OwnerRow]]) -> Vec<Suspect> {
    let mut owners: Vec<Vec<(String, u64)>> = vec![Vec::new(); usize::from(SLOT_COUNT)];
    for (name, rows) in names.iter().zip(shards) {
        for row in rows.iter().filter(|row| row.is_owned()) {
            owners[row.slot.index()].push(((*name).to_owned(), row.epoch));
        }
    }
    let suspects = (0..SLOT_COUNT).zip(owners).filter(|(_, owners)| owners.len() != 1);
    suspects.map(|(slot, owners)| Suspect { slot, owners }).collect()
}

async fn read_again(cluster: &Cluster) -> anyhow::Result<Vec<Vec<OwnerRow>>> {
    let read = cluster.shards.iter().map(async |shard| {
        let database = ShardDb::primary_of_anybody(shard, PATIENCE).await?;
        let owners = database.read_owners().await?;
        database.close().await;
        Ok(owners)
    });
    try_join_all(read).await
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::Slot;
    use picopay_shared::slot_owner::SlotState;

    use super::*;

    fn row(slot: u16, epoch: u64) -> OwnerRow {
        let slot = Slot::new(slot).unwrap();
        OwnerRow { slot, state: SlotState::Owned, owner: String::new(), epoch }
    }

    #[test]
    fn a_slot_with_no_owner_or_two_is_suspect() {
        let all: Vec<OwnerRow> = (0..SLOT_COUNT).map(|slot| row(slot, 1)).collect();
        assert_eq!(suspects_in(&["a", "b"], &[&all, &[]]), []);
        let twice = suspects_in(&["a", "b"], &[&all, &[row(7, 3)]]);
        assert_eq!(twice, [Suspect { slot: 7, owners: vec![("a".to_owned(), 1), ("b".to_owned(), 3)] }]);
        let released = OwnerRow { state: SlotState::Released, ..row(4095, 2) };
        let none = suspects_in(&["a", "b"], &[&all[..4095], &[released]]);
        assert_eq!(none, [Suspect { slot: 4095, owners: vec![] }]);
    }
}

//! Who owns which slot in these tests, as the shards' databases say.

use std::collections::BTreeMap;

use picopay_local::LocalCluster;
use picopay_shared::slot::{SLOT_COUNT, UserId};

pub fn slot_of(user_id: i64) -> u16 {
    UserId::try_from(user_id).unwrap().slot().get()
}

pub async fn owner_of(cluster: &LocalCluster, user_id: i64) -> usize {
    owners(cluster).await[&slot_of(user_id)]
}

/// The owner of each slot, of which each has one and none has two.
pub async fn owners(cluster: &LocalCluster) -> BTreeMap<u16, usize> {
    let mut owners = BTreeMap::new();
    for position in 0..cluster.shards().len() {
        let database = cluster.connect_primary(position).await.unwrap();
        let sql = "SELECT slot FROM slot_owner WHERE state = 'owned'";
        for row in database.query(sql, &[]).await.unwrap() {
            let slot = row.get::<_, i16>(0).cast_unsigned();
            let other = owners.insert(slot, position);
            assert_eq!(other, None, "slot {slot} has two owners");
        }
    }
    assert_eq!(owners.len(), usize::from(SLOT_COUNT), "some slots have no owner");
    owners
}

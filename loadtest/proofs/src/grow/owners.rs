//! Who owns which slot, as the shards' databases say, and how far that is from a fair share.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use picopay_local::LocalCluster;
use picopay_shared::slot::SLOT_COUNT;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners(Vec<String>);

impl Owners {
    pub async fn read(cluster: &LocalCluster) -> anyhow::Result<Self> {
        let mut owners: BTreeMap<i16, Vec<String>> = BTreeMap::new();
        for shard in cluster.shards() {
            let database = shard.connect_primary().await?;
            let sql = "SELECT slot FROM slot_owner WHERE state = 'owned'";
            for row in database.query(sql, &[]).await.context("the owners cannot be read")? {
                owners.entry(row.try_get(0)?).or_default().push(shard.name().to_owned());
            }
        }
        if let Some((slot, several)) = owners.iter().find(|(_, owners)| owners.len() > 1) {
            anyhow::bail!("slot {slot} is owned by {}", several.join(" and "));
        }
        ensure!(
            owners.len() == usize::from(SLOT_COUNT),
            "{} slots have an owner, of {SLOT_COUNT}",
            owners.len()
        );
        Ok(Self(owners.into_values().flatten().collect()))
    }

    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for owner in &self.0 {
            *counts.entry(owner.clone()).or_default() += 1;
        }
        counts
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 4096 slots")]
    pub fn off_fair_share(&self, shards: usize) -> f64 {
        let fair = f64::from(SLOT_COUNT) / shards as f64;
        let counts = self.counts();
        let empty = if counts.len() < shards { fair } else { 0.0 };
        counts.values().map(|count| (*count as f64 - fair).abs()).fold(empty, f64::max)
    }

    pub fn moved_needlessly(&self, before: &Self, bounds: &BTreeMap<String, (usize, usize)>) -> usize {
        let moved = self.0.iter().zip(&before.0).filter(|(now, before)| now != before).count();
        let counts = before.counts();
        let count = |shard: &String| counts.get(shard).copied().unwrap_or(0);
        // Whoever has too many must give, and whoever has too few must get.
        let given: usize = bounds.iter().map(|(shard, (_, most))| count(shard).saturating_sub(*most)).sum();
        let got: usize = bounds.iter().map(|(shard, (least, _))| least.saturating_sub(count(shard))).sum();
        moved.saturating_sub(given.max(got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(ranges: &[(&str, usize)]) -> Owners {
        Owners(ranges.iter().flat_map(|(shard, count)| vec![(*shard).to_owned(); *count]).collect())
    }

    #[test]
    fn a_share_is_fair_within_a_slot_and_what_moved_for_nothing_is_counted() {
        let before = owners(&[("a", 2048), ("b", 2048)]);
        let fair = ["a", "b", "c"].map(|shard| (shard.to_owned(), (1365, 1366))).into();
        for (after, is_fair, needless) in [
            (owners(&[("a", 1366), ("c", 682), ("b", 1365), ("c", 683)]), true, 0),
            (owners(&[("a", 1365), ("c", 683), ("b", 1365), ("c", 683)]), true, 1),
            (owners(&[("a", 1367), ("c", 681), ("b", 1365), ("c", 683)]), false, 0),
            // All of a's and b's change places too.
            (owners(&[("b", 1366), ("c", 682), ("a", 1365), ("c", 683)]), true, 2731),
            (before.clone(), false, 0),
        ] {
            assert_eq!(after.off_fair_share(3) <= 1.0, is_fair, "{:?}", after.counts());
            assert_eq!(after.moved_needlessly(&before, &fair), needless, "{:?}", after.counts());
        }
        let empty =
            [("a".to_owned(), (0, 0)), ("b".to_owned(), (0, 4096)), ("c".to_owned(), (0, 4096))].into();
        let drained = owners(&[("c", 1024), ("b", 3072)]);
        assert_eq!(drained.moved_needlessly(&before, &empty), 0);
        assert_eq!(owners(&[("b", 2048), ("c", 2048)]).moved_needlessly(&before, &empty), 2048);
    }
}

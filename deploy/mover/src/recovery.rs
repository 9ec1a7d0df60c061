//! What becomes of a move that was broken off: by an error, a pause that was too long, or the end of its mover.
//!
//! Everything is read from the rows of the two databases. The target gives up first, durably; only then does the source own
//! again, at a higher epoch. If the target has taken the slots after all, it stays so.

use crate::error::MoveError;
use crate::owner::{OwnerRows, Progress, describe, progress};
use crate::side::Side;
use crate::step::{Step, Watcher};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settled {
    pub moved: Vec<i16>,
    /// The source owns them, unless another mover has moved them on.
    pub aborted: Vec<i16>,
}

pub async fn settle(
    source: &Side,
    target: &Side,
    slots: &[i16],
    watcher: &dyn Watcher,
) -> Result<Settled, MoveError> {
    let begun = begun(&source.owners().await?, target, &target.owners().await?, slots)?;
    let (begun_slots, epochs): (Vec<i16>, Vec<i64>) = begun.iter().copied().unzip();
    if !begun.is_empty() {
        watcher.reached(Step::Abort).await;
        let given_up = abort(target, &begun_slots, &epochs).await?;
        let (slots, epochs): (Vec<i16>, Vec<i64>) =
            begun.iter().copied().filter(|(slot, _)| given_up.contains(slot)).unzip();
        watcher.reached(Step::TakeBack).await;
        take_back(source, target, &slots, &epochs).await?;
    }
    source.confirm().await?;
    target.confirm().await?;
    let (sources, targets) = (source.owners().await?, target.owners().await?);
    let mut settled = Settled::default();
    for slot in slots.iter().copied() {
        match progress(sources.of(slot), &target.name, targets.of(slot)) {
            Progress::Done => settled.moved.push(slot),
            Progress::None => settled.aborted.push(slot),
            // A commit of somebody who has lost the mover's lock became visible after it was looked for.
            Progress::Begun(_) | Progress::Lost => return Err(MoveError::Busy(target.name.clone())),
        }
    }
    Ok(settled)
}

fn begun(
    sources: &OwnerRows,
    target: &Side,
    targets: &OwnerRows,
    slots: &[i16],
) -> Result<Vec<(i16, i64)>, MoveError> {
    let mut begun = Vec::new();
    for slot in slots {
        let (source_row, target_row) = (sources.of(*slot), targets.of(*slot));
        match progress(source_row, &target.name, target_row) {
            Progress::Begun(epoch) => begun.push((*slot, epoch.cast_signed())),
            Progress::None | Progress::Done => {}
            Progress::Lost => {
                let found = format!(
                    "{} to {}, which says {}",
                    describe(source_row),
                    target.name,
                    describe(target_row)
                );
                return Err(MoveError::StateLost { slot: *slot, found });
            }
        }
    }
    Ok(begun)
}

/// Durably. Gives those that are given up now; others were taken meanwhile.
async fn abort(target: &Side, slots: &[i16], epochs: &[i64]) -> Result<Vec<i16>, MoveError> {
    let database = &target.database;
    target.begin_settling().await?;
    let rows = database.query(include_str!("sql/abort.sql"), &[&slots, &epochs]).await?;
    database.commit().await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The source owns again what it gave up for this import, at a higher epoch.
async fn take_back(source: &Side, target: &Side, slots: &[i16], epochs: &[i64]) -> Result<(), MoveError> {
    let database = &source.database;
    source.begin_settling().await?;
    let sql = include_str!("sql/take_back.sql");
    database.execute(sql, &[&slots, &epochs, &source.name, &target.name]).await?;
    Ok(database.commit().await?)
}

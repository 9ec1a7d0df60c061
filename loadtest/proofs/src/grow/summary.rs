//! What a run found, and its bars. `summary.json` and the last line have these names, which stay.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pauses::StageFigures;

/// The longest that one user may wait for one request.
pub const PAUSE_MAX_MS: f64 = 500.0;
/// At the 99th percentile, on two cores that all servers share.
pub const P99_MOVING_MAX_MS: f64 = 250.0;
/// Rows that are moved in a second, at least.
pub const ROWS_PER_SECOND_MIN: f64 = 50_000.0;
/// How many slots a share may be off.
pub const OFF_SHARE_MAX: f64 = 1.0;

#[derive(Debug, Clone, Serialize)]
pub struct GrowSummary {
    /// The same seed gives the same clients.
    pub seed: u64,
    pub holds: bool,
    pub missed: Vec<&'static str>,
    /// The promise that was broken on purpose; null in an honest run.
    pub broken: Option<&'static str>,
    pub lost: u64,
    pub doubled: u64,
    pub unequal_replays: u64,
    /// Requests that never succeeded, and those that were answered as no rule says.
    pub failed_for_good: u64,
    pub incomplete_reads: u64,
    /// From the intended start to the final success, since the new shard was started.
    pub longest_pause_ms: f64,
    /// 99 of 100 requests took no longer, before anything moved.
    pub p99_before_ms: f64,
    pub p99_moving_ms: f64,
    pub rows_moved: u64,
    pub moving_s: f64,
    pub rows_moved_per_second: f64,
    pub longest_handover_ms: u64,
    pub aborts: u64,
    pub did_grow: bool,
    pub slots: BTreeMap<String, usize>,
    /// How many slots the share that is furthest off is from a third.
    pub slots_off_share: f64,
    pub needless_moves: usize,
    pub rows_out_of_place: u64,
    pub is_verified: bool,
    pub verify_found: Vec<String>,
    pub users: u64,
    pub transactions: u64,
    /// Requests a second that saturate it, of the same kinds, on the spot.
    pub saturation_per_second: f64,
    pub rate_per_second: f64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub asked_again: usize,
    pub stages: Vec<StageFigures>,
    pub took_s: u64,
}

impl GrowSummary {
    pub fn judge(&mut self) {
        let bars = [
            ("lost", self.lost == 0),
            ("doubled", self.doubled == 0),
            ("unequal_replays", self.unequal_replays == 0),
            ("failed_for_good", self.failed_for_good == 0),
            ("incomplete_reads", self.incomplete_reads == 0),
            ("longest_pause_ms", self.longest_pause_ms <= PAUSE_MAX_MS),
            ("p99_moving_ms", self.p99_moving_ms <= P99_MOVING_MAX_MS),
            ("rows_moved_per_second", self.rows_moved_per_second >= ROWS_PER_SECOND_MIN),
            ("did_grow", self.did_grow),
            ("slots_off_share", self.slots_off_share <= OFF_SHARE_MAX),
            ("needless_moves", self.needless_moves == 0),
            ("rows_out_of_place", self.rows_out_of_place == 0),
            ("is_verified", self.is_verified),
        ];
        self.missed = bars.into_iter().filter(|(_, is_kept)| !is_kept).map(|(name, _)| name).collect();
        self.holds = self.missed.is_empty();
    }
}

//! How far the moves are: a bar on a terminal, a line now and then elsewhere, both on standard error.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use indicatif::{ProgressBar, ProgressStyle};
use picopay_mover::{Step, Watcher};

use picopay_mover::queue::PlannedBatch;

/// A log of an hour's move stays readable.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// So that the bar's clock goes on while nothing is reported.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Board {
    bar: ProgressBar,
    slots: usize,
    slots_moved: AtomicUsize,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl Board {
    pub fn new(slots: usize, rows: u64) -> Self {
        let style = "{bar:32} {human_pos} of {human_len} rows, {per_sec}, {eta} left  {wide_msg}";
        let bar = ProgressBar::new(rows);
        bar.set_style(ProgressStyle::with_template(style).expect("a template that indicatif reads"));
        bar.enable_steady_tick(TICK);
        let now = Instant::now();
        Self { bar, slots, slots_moved: AtomicUsize::new(0), started: now, last_line: Mutex::new(now) }
    }

    pub fn follow<'a>(&'a self, batch: &PlannedBatch, names: &[String]) -> BatchBoard<'a> {
        let label = format!(
            "slot {} and {} more, {} → {}",
            batch.slots[0],
            batch.slots.len() - 1,
            names[batch.from],
            names[batch.to]
        );
        BatchBoard {
            board: self,
            label,
            rows: batch.rows,
            slots: batch.slots.len(),
            copied: AtomicU64::new(0),
        }
    }

    pub fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            anstream::eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say_how_far(&self) {
        let moved = self.slots_moved.load(Ordering::Relaxed);
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.bar.is_hidden() || (last.elapsed() < LINE_PAUSE && moved < self.slots) {
            return;
        }
        *last = Instant::now();
        let (rows, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let elapsed = self.started.elapsed();
        let left = elapsed.as_secs() * all.saturating_sub(rows) / rows.max(1);
        let rate = u128::from(rows) * 1000 / elapsed.as_millis().max(1);
        anstream::eprintln!(
            "moved {moved} of {} slots, {rows} of {all} rows, {rate} rows/s, about {left} s left",
            self.slots
        );
    }
}

#[derive(Debug)]
pub struct BatchBoard<'a> {
    board: &'a Board,
    label: String,
    /// As planned; charges go on, so that it may have a few more.
    rows: u64,
    slots: usize,
    copied: AtomicU64,
}

impl BatchBoard<'_> {
    pub fn moved(&self) {
        self.set(self.rows);
        self.board.slots_moved.fetch_add(self.slots, Ordering::Relaxed);
        self.board.say_how_far();
    }

    /// None of it is.
    pub fn aborted(&self) {
        self.set(0);
    }

    fn set(&self, copied: u64) {
        let copied = copied.min(self.rows);
        let before = self.copied.swap(copied, Ordering::Relaxed);
        if copied >= before {
            self.board.bar.inc(copied - before);
        } else {
            self.board.bar.dec(before - copied);
        }
    }
}

impl Watcher for BatchBoard<'_> {
    fn reached(&self, step: Step) -> BoxFuture<'_, ()> {
        self.board.bar.set_message(format!("{}: {}", self.label, doing(step)));
        Box::pin(ready(()))
    }

    fn rows(&self, rows: u64) {
        self.set(self.copied.load(Ordering::Relaxed) + rows);
    }
}

fn doing(step: Step) -> &'static str {
    match step {
        Step::Import => "announce",
        Step::Clean => "clean",
        Step::Copy => "copy",
        Step::Compare => "compare",
        Step::Lock | Step::Release => "release",
        Step::Tail => "copy the rest",
        Step::Verify => "verify",
        Step::Take => "take",
        Step::Done => "done",
        Step::Abort | Step::TakeBack => "take back",
    }
}

//! Clients that go on while releases come and go. Each asks the other gateway when one does not answer, by the same key.
//!
//! What only the newer release knows is asked for when no older program is left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use picopay_loadtest::random::Random;
use picopay_loadtest::write::{KeySource, Wish, Write, describe};
use picopay_shared::slot::UserId;
use tokio::task::JoinHandle;

use super::gateways::Gateways;
use crate::account::Asking;
use crate::chaos::client::Attempt;

const CLIENTS: u32 = 16;

/// Enough for both shards, and so few that clients meet at one user.
pub const USERS: i64 = 80;

/// With [`CLIENTS`] some 200 requests a second.
const THINK_MAX: Duration = Duration::from_millis(160);

/// In minor units, about as much as is charged.
const TOP_UP_MAX: u64 = 3_000;
const CHARGE_MAX: u64 = 1_500;

/// Shares of all requests. Charges are what remains.
const READS: f64 = 0.15;
const REPEATS: f64 = 0.08;
const TOP_UPS: f64 = 0.18;
const REFUNDS: f64 = 0.08;
const HOLDS: f64 = 0.14;
const TRANSFERS: f64 = 0.10;

/// Of the requests about holds: a new one.
const NEW_HOLDS: f64 = 0.55;

/// Of the ends of holds: a capture.
const CAPTURES: f64 = 0.7;

/// How often a request is sent until it counts as failed: for about ten seconds. A number, and no time, since a machine that
/// stands still is no gateway's fault.
const TRIES_MAX: usize = 40;

const PAUSE: Duration = Duration::from_millis(250);

/// What all programs that run know.
#[derive(Debug, Default)]
pub struct Known {
    pub holds: AtomicBool,
    pub transfers: AtomicBool,
}

/// Requests that nobody answered, whatever was tried.
#[derive(Debug, Default)]
pub struct Failed {
    count: AtomicU64,
    first: OnceLock<String>,
}

pub struct Clients {
    has_ended: Arc<AtomicBool>,
    failed: Arc<Failed>,
    running: Vec<JoinHandle<()>>,
}

impl Failed {
    fn add(&self, what: impl FnOnce() -> String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.first.get_or_init(what);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn first(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
}

impl Clients {
    pub fn start(gateways: &Arc<Gateways>, known: &Arc<Known>, seed: u64) -> Self {
        let (has_ended, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(Failed::default()));
        let running = (1..=CLIENTS).map(|number| {
            let person = Person {
                gateways: Arc::clone(gateways),
                known: Arc::clone(known),
                failed: Arc::clone(&failed),
                random: Random::new(seed, u64::from(number)),
                keys: KeySource::new(seed, number),
            };
            tokio::spawn(person.live(Arc::clone(&has_ended)))
        });
        let running = running.collect();
        Self { has_ended, failed, running }
    }

    pub fn failed(&self) -> Arc<Failed> {
        Arc::clone(&self.failed)
    }

    /// Lets each end what it is at.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.has_ended.store(true, Ordering::Relaxed);
        for client in self.running {
            client.await?;
        }
        Ok(())
    }
}

struct Person {
    gateways: Arc<Gateways>,
    known: Arc<Known>,
    failed: Arc<Failed>,
    random: Random,
    keys: KeySource,
}

impl Person {
    async fn live(mut self, has_ended: Arc<AtomicBool>) {
        while !has_ended.load(Ordering::Relaxed) {
            tokio::time::sleep(THINK_MAX.mul_f64(self.random.unit())).await;
            self.act().await;
        }
    }

    async fn act(&mut self) {
        let mut point = self.random.unit();
        let mut is_within = |share: f64| {
            let is_within = (0.0..share).contains(&point);
            point -= share;
            is_within
        };
        if is_within(READS) {
            return self.read().await;
        }
        let write = if is_within(REPEATS) {
            self.gateways.either().ledger.any_answered(&mut self.random)
        } else if is_within(TOP_UPS) {
            Some(self.of_any_user(Wish::TopUp, TOP_UP_MAX))
        } else if is_within(REFUNDS) {
            self.choose_refund()
        } else if is_within(HOLDS) && self.known.holds.load(Ordering::Relaxed) {
            Some(self.choose_about_holds())
        } else if is_within(TRANSFERS) && self.known.transfers.load(Ordering::Relaxed) {
            let to = self.any_user();
            Some(self.of_any_user(Wish::Transfer { to }, CHARGE_MAX)).filter(|write| write.user != to)
        } else {
            Some(self.of_any_user(Wish::Charge, CHARGE_MAX))
        };
        if let Some(write) = write {
            self.insist(&write).await;
        }
    }

    fn of_any_user(&mut self, wish: Wish, max: u64) -> Write {
        let (key, user) = (self.keys.next_key(), self.any_user());
        Write { wish, user, minor_units: 1 + self.random.below(max), key }
    }

    fn choose_refund(&mut self) -> Option<Write> {
        let charge = self.gateways.either().ledger.any_refundable(&mut self.random)?;
        Some(Write { wish: Wish::Refund { charge: charge.id }, key: self.keys.next_key(), ..charge.write })
    }

    fn choose_about_holds(&mut self) -> Write {
        let ledger = &self.gateways.either().ledger;
        if !self.random.chance(NEW_HOLDS)
            && let Some(hold) = ledger.any_hold(&mut self.random)
        {
            let (key, Write { user, minor_units, .. }) = (self.keys.next_key(), hold.write);
            if !self.random.chance(CAPTURES) {
                return Write { wish: Wish::Void { hold: hold.id }, user, minor_units, key };
            }
            let minor_units = 1 + self.random.below(minor_units);
            return Write { wish: Wish::Capture { hold: hold.id }, user, minor_units, key };
        }
        self.of_any_user(Wish::Hold { expires_in_s: None }, CHARGE_MAX)
    }

    async fn insist(&self, write: &Write) {
        let first = self.gateways.next();
        for attempt in 0..TRIES_MAX {
            let client = self.gateways.client(first, attempt);
            if client.write(write, Asking::InTrouble).await == Attempt::Decided {
                return;
            }
            pause_after(attempt).await;
        }
        self.failed.add(|| format!("no gateway answered {}", describe(write)));
    }

    async fn read(&mut self) {
        let (user, kind, first) = (self.any_user(), self.random.below(3), self.gateways.next());
        let acknowledged = self.gateways.either().ledger.any_acknowledged(&mut self.random);
        let with_session = self.random.chance(0.5);
        for attempt in 0..TRIES_MAX {
            let client = self.gateways.client(first, attempt);
            let is_answered = match (kind, &acknowledged) {
                (0, _) => client.read_balance(user).await,
                (1, Some(acknowledged)) => client.look_up(acknowledged, with_session).await,
                _ => client.read_history(user).await,
            };
            if is_answered {
                return;
            }
            pause_after(attempt).await;
        }
        self.failed.add(|| format!("no gateway answered a read of user {user}"));
    }

    fn any_user(&mut self) -> UserId {
        let id =
            1 + i64::try_from(self.random.below(USERS.unsigned_abs())).expect("below the number of users");
        UserId::try_from(id).expect("above zero")
    }
}

/// None before the first repeat, which the other gateway gets.
async fn pause_after(attempt: usize) {
    if attempt > 0 {
        tokio::time::sleep(PAUSE).await;
    }
}

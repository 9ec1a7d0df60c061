//! Clients that charge, refund, top up, read, repeat and lose patience. A seed repeats them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picopay_shared::slot::UserId;
use tokio::task::JoinHandle;

use super::client::{Attempt, Client};
use crate::account::Asking;
use picopay_loadtest::random::Random;
use picopay_loadtest::write::{KeySource, Wish, Write};

/// Each waits for its answer, so no more requests are on their way.
const CLIENTS: u32 = 24;

/// Few enough that clients meet at one user, and enough for both shards.
pub const USERS: i64 = 120;

/// With [`CLIENTS`] some 150 requests a second: the point is faults, not speed.
const THINK_MAX: Duration = Duration::from_millis(280);

/// In minor units. More is charged than topped up, so that many charges are refused.
const CHARGE_MAX: u64 = 2_000;

const TOP_UP_MAX: u64 = 3_000;

/// Shares of all requests. Charges are what remains.
const READS: f64 = 0.12;
const REPEATS: f64 = 0.08;
const TOP_UPS: f64 = 0.12;
const REFUNDS: f64 = 0.10;

/// Of the writes: sent twice at the same moment.
const TWINS: f64 = 0.05;

/// Of the writes: the client hangs up about when the answer arrives.
const HANG_UPS: f64 = 0.03;

const HANG_UP_MAX: Duration = Duration::from_millis(20);

/// Of the failed attempts: the client comes back only when everything is over.
const COMES_BACK_LATE: f64 = 0.3;

const TRIES_MAX: u32 = 12;

/// `Retry-After` says 1 s; some clients are less patient.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MORE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Crowd {
    has_ended: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn start(client: &Client, seed: u64) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let clients = (1..=CLIENTS).map(|number| {
            let person = Person {
                client: client.clone(),
                random: Random::new(seed, u64::from(number)),
                // The cluster is new, so keys may be the same ones for the same seed.
                keys: KeySource::new(seed, number),
            };
            tokio::spawn(person.live(Arc::clone(&has_ended)))
        });
        Self { has_ended: Arc::clone(&has_ended), clients: clients.collect() }
    }

    /// Lets each end what it is at, and gives up on nobody.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.has_ended.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await?;
        }
        Ok(())
    }
}

struct Person {
    client: Client,
    random: Random,
    keys: KeySource,
}

impl Person {
    async fn live(mut self, has_ended: Arc<AtomicBool>) {
        while !has_ended.load(Ordering::Relaxed) {
            tokio::time::sleep(THINK_MAX.mul_f64(self.random.unit())).await;
            self.act(&has_ended).await;
        }
    }

    async fn act(&mut self, has_ended: &AtomicBool) {
        let mut point = self.random.unit();
        let mut is_within = |share: f64| {
            let is_within = point < share;
            point -= share;
            is_within
        };
        if is_within(READS) {
            self.read().await;
        } else if is_within(REPEATS) {
            if let Some(write) = self.client.ledger.any_answered(&mut self.random) {
                self.client.write(&write, Asking::InTrouble).await;
            }
        } else {
            let (is_top_up, is_refund) = (is_within(TOP_UPS), is_within(REFUNDS));
            let write = self.choose(is_top_up, is_refund);
            self.insist(&write, has_ended).await;
        }
    }

    fn choose(&mut self, is_top_up: bool, is_refund: bool) -> Write {
        let key = self.keys.next_key();
        if is_refund && let Some(charge) = self.client.ledger.any_refundable(&mut self.random) {
            return Write { wish: Wish::Refund { charge: charge.id }, key, ..charge.write };
        }
        let user = self.any_user();
        let (wish, max) = if is_top_up { (Wish::TopUp, TOP_UP_MAX) } else { (Wish::Charge, CHARGE_MAX) };
        Write { wish, user, minor_units: 1 + self.random.below(max), key }
    }

    async fn insist(&mut self, write: &Write, has_ended: &AtomicBool) {
        let first = if self.random.chance(TWINS) {
            let (one, other) = tokio::join!(
                self.client.write(write, Asking::InTrouble),
                self.client.write(write, Asking::InTrouble)
            );
            if one == Attempt::Decided { one } else { other }
        } else if self.random.chance(HANG_UPS) {
            let patience = HANG_UP_MAX.mul_f64(self.random.unit());
            self.client.write_for(write, Asking::InTrouble, Some(patience)).await
        } else {
            self.client.write(write, Asking::InTrouble).await
        };
        let mut attempt = first;
        for _ in 1..TRIES_MAX {
            if attempt == Attempt::Decided
                || self.random.chance(COMES_BACK_LATE)
                || has_ended.load(Ordering::Relaxed)
            {
                return;
            }
            tokio::time::sleep(PAUSE_MIN + PAUSE_MORE.mul_f64(self.random.unit())).await;
            attempt = self.client.write(write, Asking::InTrouble).await;
        }
    }

    async fn read(&mut self) {
        let user = self.any_user();
        match self.random.below(3) {
            0 => drop(self.client.read_balance(user).await),
            1 => self.client.read_history(user).await,
            _ => {
                if let Some(acknowledged) = self.client.ledger.any_acknowledged(&mut self.random) {
                    let with_session = self.random.chance(0.5);
                    self.client.look_up(&acknowledged, with_session).await;
                }
            }
        }
    }

    fn any_user(&mut self) -> UserId {
        let users = USERS.unsigned_abs();
        let id = 1 + i64::try_from(self.random.below(users)).expect("below the number of users");
        UserId::try_from(id).expect("above zero")
    }
}

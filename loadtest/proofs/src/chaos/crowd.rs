//! Clients that charge, refund, top up, hold, transfer, read, repeat and lose patience. A seed repeats them.

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
const HOLDS: f64 = 0.14;
const TRANSFERS: f64 = 0.12;

/// Of the requests about holds: a new one. The others capture or void one, so that most end.
const NEW_HOLDS: f64 = 0.55;

/// Of the new holds: so short that their time runs out during the run, if it is a long one.
const SHORT_HOLDS: f64 = 0.3;
const SHORT_HOLD_S: u32 = 60;

/// Twice as long before the end, and more than the quarter of a long run in which it is checked.
const SHORT_HOLDS_END_BEFORE: Duration = Duration::from_mins(4);

/// Of the ends of holds: a capture.
const CAPTURES: f64 = 0.7;

/// Of the captures: of more than the hold, which is refused.
const TOO_LARGE: f64 = 0.1;

/// Of the writes: sent with others in one request.
const BATCHES: f64 = 0.06;

/// Operations of such a request: so few that the others do not starve, so many that both shards have some.
const BATCH_MAX: u64 = 12;

/// Of the writes: sent twice at the same moment, or in the same batch.
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
    /// `time` is how long the run takes, with its final checks.
    pub fn start(client: &Client, seed: u64, time: Duration) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let clients = (1..=CLIENTS).map(|number| {
            let person = Person {
                client: client.clone(),
                random: Random::new(seed, u64::from(number)),
                // The cluster is new, so keys may be the same ones for the same seed.
                keys: KeySource::new(seed, number),
                short_holds_until: time.saturating_sub(SHORT_HOLDS_END_BEFORE),
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
    /// So early that none runs out while the end of the run is compared.
    short_holds_until: Duration,
}

/// Which kind of write was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Charge,
    TopUp,
    Refund,
    Hold,
    Transfer,
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
            let is_within = (0.0..share).contains(&point);
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
            let kinds = [
                (TOP_UPS, Drawn::TopUp),
                (REFUNDS, Drawn::Refund),
                (HOLDS, Drawn::Hold),
                (TRANSFERS, Drawn::Transfer),
            ];
            let kind = kinds.into_iter().find(|(share, _)| is_within(*share));
            let kind = kind.map_or(Drawn::Charge, |(_, kind)| kind);
            let write = self.choose(kind);
            // A batch takes no transfers.
            if kind != Drawn::Transfer && self.random.chance(BATCHES) {
                let batch = self.choose_more(write);
                self.insist_on_all(batch, has_ended).await;
            } else {
                self.insist(&write, has_ended).await;
            }
        }
    }

    fn choose_more(&mut self, first: Write) -> Vec<Write> {
        let mut batch = vec![first];
        for _ in 0..self.random.below(BATCH_MAX) {
            let kinds = [(HOLDS, Drawn::Hold), (REFUNDS, Drawn::Refund), (TOP_UPS, Drawn::TopUp)];
            let kind = kinds.into_iter().find(|(share, _)| self.random.chance(*share));
            let kind = kind.map_or(Drawn::Charge, |(_, kind)| kind);
            let write = self.choose(kind);
            batch.push(write);
            if self.random.chance(TWINS) {
                batch.push(write);
            }
        }
        batch
    }

    fn choose(&mut self, kind: Drawn) -> Write {
        match kind {
            Drawn::Hold => return self.choose_about_holds(),
            Drawn::Transfer => return self.choose_transfer(),
            Drawn::Charge | Drawn::TopUp | Drawn::Refund => {}
        }
        let key = self.keys.next_key();
        if kind == Drawn::Refund
            && let Some(charge) = self.client.ledger.any_refundable(&mut self.random)
        {
            return Write { wish: Wish::Refund { charge: charge.id }, key, ..charge.write };
        }
        let user = self.any_user();
        let (wish, max) =
            if kind == Drawn::TopUp { (Wish::TopUp, TOP_UP_MAX) } else { (Wish::Charge, CHARGE_MAX) };
        Write { wish, user, minor_units: 1 + self.random.below(max), key }
    }

    /// Of two different users, mostly of two shards.
    fn choose_transfer(&mut self) -> Write {
        let (key, user) = (self.keys.next_key(), self.any_user());
        let others = USERS.unsigned_abs() - 1;
        let steps = 1 + i64::try_from(self.random.below(others)).expect("below the number of users");
        let to = UserId::try_from(1 + (user.get() - 1 + steps) % USERS).expect("above zero");
        Write { wish: Wish::Transfer { to }, user, minor_units: 1 + self.random.below(CHARGE_MAX), key }
    }

    fn choose_about_holds(&mut self) -> Write {
        let key = self.keys.next_key();
        if !self.random.chance(NEW_HOLDS)
            && let Some(hold) = self.client.ledger.any_hold(&mut self.random)
        {
            let Write { user, minor_units, .. } = hold.write;
            if !self.random.chance(CAPTURES) {
                return Write { wish: Wish::Void { hold: hold.id }, user, minor_units, key };
            }
            let captured = 1 + self.random.below(minor_units);
            let minor_units = if self.random.chance(TOO_LARGE) { minor_units + 1 } else { captured };
            return Write { wish: Wish::Capture { hold: hold.id }, user, minor_units, key };
        }
        let is_short = self.client.clock.now() < self.short_holds_until && self.random.chance(SHORT_HOLDS);
        let wish = Wish::Hold { expires_in_s: is_short.then_some(SHORT_HOLD_S) };
        Write { wish, user: self.any_user(), minor_units: 1 + self.random.below(CHARGE_MAX), key }
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

    async fn insist_on_all(&mut self, mut batch: Vec<Write>, has_ended: &AtomicBool) {
        for _ in 0..TRIES_MAX {
            let attempts = self.client.write_batch(&batch, Asking::InTrouble).await;
            let mut attempts = attempts.into_iter();
            batch.retain(|_| attempts.next() == Some(Attempt::TryAgain));
            if batch.is_empty() || self.random.chance(COMES_BACK_LATE) || has_ended.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(PAUSE_MIN + PAUSE_MORE.mul_f64(self.random.unit())).await;
        }
    }

    async fn read(&mut self) {
        let user = self.any_user();
        match self.random.below(3) {
            0 => drop(self.client.read_balance(user).await),
            1 => drop(self.client.read_history(user).await),
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

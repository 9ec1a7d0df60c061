//! A user of each shard who asks again and again, to see whether the shard is served.

use std::time::Duration;

use anyhow::{Context, ensure};
use picopay_shared::slot::UserId;

use super::client::{Attempt, Client};
use super::crowd::USERS;
use crate::account::Asking;
use picopay_loadtest::write::{KeySource, Wish, Write, text};

const POLL: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub struct Probe {
    client: Client,
    users: Vec<UserId>,
    keys: KeySource,
}

impl Probe {
    pub async fn make(client: Client, shards: usize, seed: u64) -> anyhow::Result<Self> {
        let mut users = vec![None; shards];
        for id in 1..=USERS {
            let user = UserId::try_from(id)?;
            ensure!(client.make_user(user).await, "user {user} cannot be made");
            users[client.shards.index_of(user.slot())].get_or_insert(user);
        }
        let users = users.into_iter().collect::<Option<Vec<_>>>().context("a shard has no user")?;
        // Clients are numbered from 1.
        Ok(Self { client, users, keys: KeySource::new(seed, 0) })
    }

    /// Since the run began; `None` when it takes longer than `patience`.
    pub async fn wait_until_served(&mut self, shard: usize, patience: Duration) -> Option<Duration> {
        let (write, began) = (self.top_up(shard), self.client.clock.now());
        loop {
            let is_served = self.client.write(&write, Asking::InTrouble).await == Attempt::Decided
                && self.client.read_balance(write.user).await;
            let now = self.client.clock.now();
            if is_served {
                return Some(now);
            }
            if now.saturating_sub(began) > patience {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn wait_until_all_are_served(&mut self, patience: Duration) -> Option<Duration> {
        let mut last = None;
        for shard in 0..self.users.len() {
            last = Some(self.wait_until_served(shard, patience).await?);
        }
        last
    }

    /// Returns the key of an acknowledged write, or `None` after `patience`.
    pub async fn book(&mut self, shard: usize, patience: Duration) -> Option<String> {
        let (write, began) = (self.top_up(shard), self.client.clock.now());
        while self.client.write(&write, Asking::InTrouble).await != Attempt::Decided {
            if self.client.clock.now().saturating_sub(began) > patience {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
        Some(text(&write.key))
    }

    /// Whether a read without a session shows what was booked under `key`; `None` without an answer.
    pub async fn lists(&self, shard: usize, key: &str) -> Option<bool> {
        // What others book for this user meanwhile fits on a page of the largest size.
        let path = format!("/transactions?user_id={}&limit=100", self.users[shard]);
        let page = self.client.read(self.users[shard], &path).await?;
        Some(page["data"].as_array().is_some_and(|rows| rows.iter().any(|row| row["idempotency_key"] == key)))
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    fn top_up(&mut self, shard: usize) -> Write {
        Write { wish: Wish::TopUp, user: self.users[shard], minor_units: 1, key: self.keys.next_key() }
    }
}

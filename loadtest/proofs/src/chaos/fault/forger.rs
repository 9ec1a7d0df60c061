//! Somebody who writes to Redis and wants to be believed.
//!
//! They read the entries and write back a false balance, an answer in another's place, or noise. They only know that an
//! amount ends with its currency's code, so a new format does not stop them.

use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};

use picopay_loadtest::random::Random;

const SCAN_COUNT: u32 = 1_000;

/// More than clients make during a fault, and few enough for one command.
const ENTRIES_MAX: usize = 5_000;

/// Faults, clients and conditions draw from other streams.
const STREAM: u64 = u64::MAX - 1;

const AMOUNT_END: &[u8] = b"\x03USD";

pub struct Forger {
    redis: MultiplexedConnection,
    random: Random,
}

impl Forger {
    pub async fn connect(url: &str, seed: u64) -> Result<Self, RedisError> {
        let redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self { redis, random: Random::new(seed, STREAM) })
    }

    pub async fn forge(&mut self) -> Result<usize, RedisError> {
        let names = self.names().await?;
        if names.is_empty() {
            return Ok(0);
        }
        let mut read = cmd("MGET");
        read.arg(&names);
        let values: Vec<Option<Vec<u8>>> = read.query_async(&mut self.redis).await?;
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect();
        let mut write = cmd("MSET");
        for (place, (name, value)) in entries.iter().enumerate() {
            let other = &entries[(place + 1) % entries.len()].1;
            write.arg(name).arg(self.forged(value, other));
        }
        if !entries.is_empty() {
            write.query_async::<()>(&mut self.redis).await?;
        }
        Ok(entries.len())
    }

    async fn names(&mut self) -> Result<Vec<Vec<u8>>, RedisError> {
        let (mut names, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("*picopay*").arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.redis).await?;
            names.extend(found);
            if next == 0 || names.len() >= ENTRIES_MAX {
                return Ok(names);
            }
            cursor = next;
        }
    }

    fn forged(&mut self, value: &[u8], other: &[u8]) -> Vec<u8> {
        match self.random.below(8) {
            0 => other.to_vec(),
            1 => (0..value.len()).map(|_| self.any_byte()).collect(),
            2 => {
                let mut noisy = value.to_vec();
                if let Some(place) = self.random.place(noisy.len()) {
                    noisy[place] = self.any_byte();
                }
                noisy
            }
            // What pays best, and is the hardest to see.
            _ => richer(value),
        }
    }

    fn any_byte(&mut self) -> u8 {
        u8::try_from(self.random.below(256)).expect("below 256")
    }
}

/// The same entry with another last amount. Amounts have variable length, and the highest byte stands before the currency.
fn richer(value: &[u8]) -> Vec<u8> {
    let mut forged = value.to_vec();
    let end = value.windows(AMOUNT_END.len()).rposition(|window| window == AMOUNT_END);
    if let Some(last) = end.and_then(|end| end.checked_sub(1)) {
        // Twice a power of two: the sign stays, and so does the length.
        forged[last] ^= 0x02;
    }
    forged
}

#[cfg(test)]
mod tests {
    use picopay_shared::money::{Currency, Money};

    use super::*;

    #[test]
    fn a_forged_entry_is_read_as_the_same_one_with_another_balance() {
        let money = |text: &str| {
            let amount = text.parse().unwrap();
            Money::from_ledger(amount, Currency::parse("USD").unwrap()).unwrap()
        };
        for balance in ["0.00", "0.01", "1.00", "73.21", "123456.78"] {
            let entry = (money("5.00"), money(balance), "what follows");
            let forged = richer(&postcard::to_stdvec(&entry).unwrap());
            let (amount, other, rest): (Money, Money, String) = postcard::from_bytes(&forged).unwrap();
            assert_eq!((amount, rest.as_str()), (entry.0, entry.2));
            assert_ne!(other, entry.1, "{balance}");
        }
    }
}

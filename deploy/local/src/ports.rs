//! Free ports for clusters that start side by side.
//!
//! An outgoing connection can take an ephemeral port before the process starts or restarts. So ports come from below
//! that range, in blocks. A cluster reserves a block by listening on its first port, and the kernel gives it back when
//! the owner dies.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use rand::Rng as _;

use crate::LocalError;

/// Above the well-known services that start to crowd below it.
const FIRST: u16 = 10_000;

/// Below the ephemeral ranges of Linux (32768) and of macOS (49152).
const LAST: u16 = 32_000;

/// A cluster of four shards takes one block; a bigger one takes a second.
const BLOCK_SIZE: u16 = 20;

/// Half of all blocks would have to be taken for one in a hundred starts to fail in ten tries.
const TRIES: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Ports(Mutex<Reserved>);

#[derive(Debug, Default)]
struct Reserved {
    /// Held open, never accepted from: whoever has it has the block.
    gates: Vec<TcpListener>,
    left: Vec<u16>,
}

impl Ports {
    /// A port that nobody listens on, and that no other local cluster will take.
    pub(crate) fn take(&self) -> Result<u16, LocalError> {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            match reserved.left.pop() {
                Some(port) if is_free(port) => return Ok(port),
                Some(_) => {}
                None => reserved.take_block(),
            }
        }
        Err(LocalError::Unfit(format!("no free port found between {FIRST} and {LAST}")))
    }
}

impl Reserved {
    fn take_block(&mut self) {
        let block = rand::rng().random_range(0..(LAST - FIRST) / BLOCK_SIZE);
        let gate = FIRST + block * BLOCK_SIZE;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, gate)) {
            self.gates.push(listener);
            self.left.extend((gate + 1..gate + BLOCK_SIZE).rev());
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn two_clusters_never_share_a_port() {
        let (one, other) = (Ports::default(), Ports::default());
        let mut taken = HashSet::new();
        for _ in 0..60 {
            assert!(taken.insert(one.take().unwrap()));
            assert!(taken.insert(other.take().unwrap()));
        }
        assert!(taken.iter().all(|port| (FIRST..LAST).contains(port)));
    }
}

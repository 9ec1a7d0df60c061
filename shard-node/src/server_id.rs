//! Which server: what tells one that the keeper of the gate has found from another that is there later.

/// The server that the keeper has found to be the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId {
    /// Its place in the connection string.
    pub position: usize,
    /// The timeline that it writes.
    pub timeline: u32,
    /// When it was started: a name may lead to another server later.
    pub started_us: i64,
}

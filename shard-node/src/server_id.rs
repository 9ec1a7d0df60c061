//! Which server of a connection string, at which time of its life.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId {
    pub position: usize,
    pub timeline: u32,
    /// When it was started, in microseconds of Unix time: a name may lead to another server later.
    pub started_us: i64,
}

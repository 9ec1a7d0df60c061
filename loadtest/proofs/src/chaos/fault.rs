//! What strikes a cluster: which fault when, and how it is brought about and healed.

mod forger;

mod heartbeat;

mod node_of_two;

mod scene;
pub use scene::Scene;

mod schedule;
pub use schedule::{Fault, Schedule};

mod standby_wait;

mod strike;

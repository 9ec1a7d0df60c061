//! What the proofs promise, in short runs.

// It counts CPU time in /proc.
#[cfg(target_os = "linux")]
mod bench;
mod chaos;
#[cfg(target_os = "linux")]
mod grow;
mod over_tls;
#[cfg(target_os = "linux")]
mod protect;
mod real_cluster;
mod run_of;
mod upgrade;

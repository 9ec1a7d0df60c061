//! What the proofs promise, each in short: that PicoPay passes them, and that they would not let a broken promise pass.

// It counts CPU time in /proc.
#[cfg(target_os = "linux")]
mod bench;
mod chaos;
// It counts CPU time in /proc.
#[cfg(target_os = "linux")]
mod grow;
// It counts CPU time in /proc.
#[cfg(target_os = "linux")]
mod protect;
mod real_cluster;
mod run_of;

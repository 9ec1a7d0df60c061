//! The cluster of `deploy/compose`, started as a person does it, and broken container by container under load.

pub mod drill;
pub mod tls;

mod begin;
mod failover;
mod finish;
mod hardening;
mod health;
mod project;
mod strike;

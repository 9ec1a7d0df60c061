//! The cluster of `deploy/compose`, started as a person does it, and broken container by container under load.

pub mod drill;

mod begin;
mod failover;
mod finish;
mod project;
mod strike;

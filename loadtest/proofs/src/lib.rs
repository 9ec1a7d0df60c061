//! The proofs that PicoPay keeps its promises, on clusters of real processes.
//!
//! [`smoke`] asks a running cluster. [`mod@bench`] measures one, [`chaos`] breaks it under load, [`grow`] moves slots under its
//! users, [`protect`] freezes and overloads it, [`upgrade`] replaces its programs by those of another release and back,
//! [`patroni`] kills a primary that Patroni elected, and [`compose`] breaks the containers of `deploy/compose`. They share
//! the clients' account ([`account`]), [`findings`], promises that are broken on purpose ([`broken`]), and `picopay verify`
//! ([`verify`]).

// Figures of a report: a count past 2^53 would be the longest run ever.
#![allow(clippy::cast_precision_loss)]

pub mod smoke;

pub mod bench;

pub mod chaos;

pub mod grow;

pub mod protect;

pub mod upgrade;

pub mod patroni;

pub mod compose;

pub mod account;

pub mod broken;

mod charges;

pub mod findings;

pub mod verify;

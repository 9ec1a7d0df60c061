//! The load test: an instrument that says what a PicoPay gateway does under load, and what it does itself.
//!
//! It knows a gateway's URL and an API key, and nothing else of the cluster, so it measures what a client would see. How
//! requests are spaced ([`arrivals`]), what they ask for ([`scenario`]) and how they are sent ([`worker`], [`http_client`])
//! are apart from each other; a [`run`] puts them together and a [`report`] tells what came out. What proves promises with it is
//! the crate `picopay-proofs`.

// Figures of a report: a count past 2^53 would be the longest load test ever.
#![allow(clippy::cast_precision_loss)]

pub mod run;

pub mod scenario;

pub mod population;

pub mod arrivals;

pub mod write;

pub mod traffic;

pub mod worker;

pub mod http_client;

pub mod alarm;

pub mod timing;

pub mod tally;

pub mod histogram;

pub mod acks;

pub mod live;

pub mod page;

pub mod report;

pub mod machine;

pub mod shard_map;

pub mod cluster_view;

pub mod random;

pub mod selftest;

pub mod responder;

pub mod command_line;

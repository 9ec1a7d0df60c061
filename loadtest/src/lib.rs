//! The load test: it measures what a PicoPay gateway does under load, and its own share of it.
//!
//! It knows a gateway's URL and an API key, so it measures what a client sees. [`arrivals`] says when requests start,
//! [`scenario`] what they ask for, [`worker`] and [`http_client`] send them. A [`run`] puts these together, and a
//! [`report`] shows the result.

// Figures of a report: a count past 2^53 would be the longest load test ever.
#![allow(clippy::cast_precision_loss)]

pub mod run;

pub mod scenario;

pub mod population;

pub mod arrivals;

pub mod write;

pub mod write_answer;

pub mod batch_answer;

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

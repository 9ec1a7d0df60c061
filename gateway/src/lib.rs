//! The stateless HTTP gateway of PicoPay: parse, authenticate, find the shard, translate.
//!
//! It decides nothing about money and keeps nothing that a restart could lose. Follow a charge: [`routes`] → [`charge`]
//! → [`write_request`] → [`payment`] → [`picopay_shard_client`] → [`transaction_body`] or
//! [`problem`] → [`front_door`].

pub mod server;

pub mod state;

pub mod routes;

pub mod route_name;

pub mod admin;

pub mod front_door;

pub mod access_log;

pub mod head;

pub mod request_path;

pub mod unread_body;

pub mod request_id;

pub mod request_origin;

pub mod auth;

pub mod guarded;

pub mod header_names;

pub mod users;

pub mod topup;

pub mod charge;

pub mod refund;

pub mod hold;

pub mod transfer;

pub mod batch;

pub mod wish;

pub mod write_request;

pub mod idempotency_key;

pub mod request_body;

pub mod user_body;

pub mod write_answer;

pub mod content_headers;

pub mod payment;

pub mod fields;

pub mod metadata;

pub mod balance;

pub mod balance_at;

pub mod sums;

pub mod totals;

pub mod totals_metrics;

pub mod shard_sources;

pub mod transactions;

pub mod holds;

pub mod transfers;

pub mod page_limit;

pub mod cursor;

pub mod parameters;

pub mod session;

pub mod read_request;

pub mod read_answer;

pub mod source_headers;

pub mod json_answer;

pub mod write_body;

pub mod hold_body;

pub mod transfer_body;

pub mod transaction_body;

pub mod problem;

pub mod problem_pages;

pub mod health;

pub mod running_config;

pub mod metrics;

pub mod currency_schema;

pub mod openapi;

pub mod docs;

pub use routes::router;

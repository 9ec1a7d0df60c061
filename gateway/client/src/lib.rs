//! The typed client of PicoPay's public API.
//!
//! ```no_run
//! use picopay_client::{Client, Error, Payment};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8080", "my-api-key")?;
//! client.create_user(1).await?;
//! client.top_up(&Payment::new(1, "100.00", "USD")?).await?;
//! match client.charge(&Payment::new(1, "30.00", "USD")?.with_reference("order 17")).await {
//!     Ok(booked) => println!("charged; {} is left", booked.new_balance),
//!     // The gateway's final answer. The same key gets it again.
//!     Err(Error::Refused(problem)) => println!("refused: {problem}"),
//!     // Nothing was charged.
//!     Err(error @ Error::NotDone { .. }) => println!("not now: {error}"),
//!     // Perhaps charged. Only the same key tells: `payment.with_key(key)`.
//!     Err(Error::Unknown { key, .. }) => println!("unknown; ask again with {key:?}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every write has an idempotency key: its own ([`Payment::with_key`]) or a new one. A failed attempt is repeated under
//! that key, within the client's [`Patience`], where the contract allows it. Either nothing happened (429 and 503, not
//! before their `Retry-After`), or the key resolves an unknown outcome (504, a lost connection).
//!
//! [`Client::batch`] sends many operations in one request.
//!
//! Reads may come from a replica. [`Client::user`] returns a handle that shows the session token of its last write with
//! every read, and so reads its own writes.
//!
//! [`Client::sums`] adds up transactions of many users, [`Client::totals`] all balances, over all shards.
//!
//! Over `https` a client believes the authorities that the system trusts. [`Tls`] names others, and a certificate to show:
//! `Client::with_tls("https://pay.example", "my-api-key", &Tls::trusting("ca.pem"))`.
//!
//! Money is [`Amount`], a text, and never a float. [`Exchange`] returns the bytes of an answer, one request at a time.

#![warn(missing_docs)]

mod aggregates;
pub use aggregates::{BalanceAt, ShardSource, Sum, Sums, SumsQuery, Total, Totals};

mod amount;
pub use amount::{Amount, NoAmount};

mod answer;
pub use answer::{
    Balance, Booked, Done, Held, Hold, HoldStatus, Kind, Page, Transaction, Transfer, TransferStatus,
    Transferred,
};

mod asking;

mod batch;
pub use batch::Operation;

mod client;
pub use client::{Client, UserClient};

mod error;
pub use error::Error;

mod exchange;
pub use exchange::{Answer, BadTarget, Exchange, Lost};

mod history;
pub use history::HistoryQuery;

mod pages;
pub use pages::Pages;

mod patience;
pub use patience::Patience;

mod problem;
pub use problem::{Code, FieldError, Problem};

mod tls;
pub use tls::Tls;

mod wish;
pub use wish::{Capture, NewHold, NewTransfer, Payment, Refund, Void};

//! What the mover promises, tried on real clusters while users charge.

mod faults;
mod field;
mod handover;
mod holds;
mod owners;
mod refusals;
mod rivals;
mod traffic;
mod transfers;
mod user_tables;

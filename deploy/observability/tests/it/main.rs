//! The files against each other, and against a cluster with a real Prometheus and a real Alertmanager.

mod tools;

mod alerts;
mod boards;

mod monitor;
mod receiver;
mod traffic;

mod called;
mod live;

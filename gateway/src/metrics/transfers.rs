//! The counters of transfers: what their clients were told.

use prometheus::{IntCounterVec, Registry};

use super::counters;

#[derive(Debug, Clone)]
pub struct TransferMetrics(IntCounterVec);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    Completed,
    /// On its way when the answer could wait no longer. What becomes of it, the nodes count.
    Pending,
    Reversed,
    /// Answered before, whatever the answer.
    Replayed,
    InsufficientBalance,
    Failed,
}

impl TransferEnd {
    const ALL: [Self; 6] = [
        Self::Completed,
        Self::Pending,
        Self::Reversed,
        Self::Replayed,
        Self::InsufficientBalance,
        Self::Failed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Pending => "pending",
            Self::Reversed => "reversed",
            Self::Replayed => "idempotent_hit",
            Self::InsufficientBalance => "insufficient_balance",
            Self::Failed => "failed",
        }
    }
}

impl TransferMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let help = "Requests for transfers, by what their clients were told.";
        let requests = counters(registry, "transfer_requests_total", help, &["status"]);
        for end in TransferEnd::ALL {
            requests.with_label_values(&[end.as_str()]);
        }
        Self(requests)
    }

    pub fn count(&self, end: TransferEnd) {
        self.0.with_label_values(&[end.as_str()]).inc();
    }
}

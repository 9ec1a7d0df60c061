//! What the loads of the bench consist of.

use serde::Serialize;

use picopay_loadtest::scenario::ScenarioArgs;

/// Users whose history is read alone, from the first on: each has a full page. To give all users one would take a minute.
pub const READERS: u64 = 10_000;

/// Charges in one request of the load of batches.
pub const BATCH: u16 = 128;

/// Charges a second of TigerBeetle with as many in a request, on a machine like those of `docs/measurements.md`: the aim.
pub const TIGERBEETLE_PER_SECOND: f64 = 73_000.0;

/// Transactions on a page, which is the API's default.
pub const PAGE: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    Uniform,
    /// A fifth of the charges is about one user, such as a merchant.
    HotUser,
    /// Half of the requests repeat earlier ones with their keys.
    RetryStorm,
    /// Four of five requests read a page of history.
    Reads,
    /// Nothing but pages of history.
    Pages,
    /// Nothing but reads of balances.
    Balances,
    /// Charges only, many in each request.
    Batches,
}

impl Mix {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::HotUser => "hot_user",
            Self::RetryStorm => "retry_storm",
            Self::Reads => "reads",
            Self::Pages => "pages",
            Self::Balances => "balances",
            Self::Batches => "batches",
        }
    }

    pub fn scenario(self, users: u64) -> ScenarioArgs {
        let charges = ScenarioArgs::charges(users);
        let readers = ScenarioArgs::charges(users.min(READERS));
        match self {
            Self::Uniform => charges,
            Self::HotUser => ScenarioArgs { hot_share: 0.2, ..charges },
            Self::RetryStorm => ScenarioArgs { duplicates: 0.5, ..charges },
            Self::Reads => ScenarioArgs { history: 0.8, ..charges },
            Self::Pages => ScenarioArgs { history: 1.0, ..readers },
            Self::Balances => ScenarioArgs { balance_reads: 1.0, ..readers },
            Self::Batches => ScenarioArgs { batch: Some(BATCH), ..charges },
        }
    }
}

//! What the loads of the bench consist of.

use serde::Serialize;

use picopay_loadtest::scenario::ScenarioArgs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    Uniform,
    /// A fifth of the charges is about one user, such as a merchant.
    HotUser,
    /// Half of the requests repeat earlier ones with their keys.
    RetryStorm,
    Reads,
}

impl Mix {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::HotUser => "hot_user",
            Self::RetryStorm => "retry_storm",
            Self::Reads => "reads",
        }
    }

    pub fn scenario(self, users: u64) -> ScenarioArgs {
        let share = |of: Self, share: f64| if self == of { share } else { 0.0 };
        ScenarioArgs {
            hot_share: share(Self::HotUser, 0.2),
            duplicates: share(Self::RetryStorm, 0.5),
            history: share(Self::Reads, 0.8),
            ..ScenarioArgs::charges(users)
        }
    }
}

//! The gateway behind its keys: who has no scope for a route gets no further.
//!
//! The table of routes gives each handler this and not the gateway, so that none can forget to ask for the key.

use std::sync::Arc;

use axum::http::HeaderMap;
use picopay_gateway_config::Scope;

use crate::metrics::ChargeMetrics;
use crate::problem::Problem;
use crate::state::GatewayState;

/// The gateway, as a route has it that needs a scope.
#[derive(Debug, Clone)]
pub struct Guarded {
    gateway: Arc<GatewayState>,
    needed: &'static [Scope],
}

/// What whoever was let in works with.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// The gateway.
    pub gateway: &'a GatewayState,
    /// The name of the key that was shown.
    pub made_by: Arc<str>,
}

impl Guarded {
    /// Open to whoever has one of the scopes `needed`.
    pub fn new(gateway: Arc<GatewayState>, needed: &'static [Scope]) -> Self {
        Self { gateway, needed }
    }

    /// Lets in whoever shows a key that may.
    ///
    /// # Errors
    /// Those of [`crate::auth::KeyRing::admit`].
    pub fn admit(&self, headers: &HeaderMap) -> Result<Admitted<'_>, Problem> {
        let made_by = self.gateway.keys.admit(headers, self.needed)?;
        Ok(Admitted { gateway: &self.gateway, made_by })
    }

    /// What counts charges, also those of whom is not let in.
    pub fn charges(&self) -> &ChargeMetrics {
        &self.gateway.metrics.charges
    }
}

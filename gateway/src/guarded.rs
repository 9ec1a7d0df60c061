//! The gateway behind its keys: a handler gets it only for a key with the route's scope.
//!
//! The table of routes gives handlers this type and not the gateway, so that none can forget the key. Of a batch
//! each operation needs its own scope.

use std::sync::Arc;

use axum::http::HeaderMap;
use picopay_gateway_config::Scope;

use crate::auth::Caller;
use crate::metrics::{ChargeMetrics, TransferMetrics};
use crate::problem::Problem;
use crate::state::GatewayState;

#[derive(Debug, Clone)]
pub struct Guarded {
    gateway: Arc<GatewayState>,
    needed: &'static [Scope],
}

#[derive(Debug)]
pub struct Admitted<'a> {
    pub gateway: &'a Arc<GatewayState>,
    pub made_by: Arc<str>,
}

impl Guarded {
    pub fn new(gateway: Arc<GatewayState>, needed: &'static [Scope]) -> Self {
        Self { gateway, needed }
    }

    /// # Errors
    /// Those of [`crate::auth::KeyRing::admit`].
    pub fn admit(&self, headers: &HeaderMap) -> Result<Admitted<'_>, Problem> {
        let made_by = self.gateway.keys.admit(headers, self.needed)?;
        Ok(Admitted { gateway: &self.gateway, made_by })
    }

    /// The gateway and who calls, for a handler that admits each operation by itself.
    ///
    /// # Errors
    /// Those of [`crate::auth::KeyRing::identify`].
    pub fn identify(&self, headers: &HeaderMap) -> Result<(Arc<GatewayState>, Caller), Problem> {
        let caller = self.gateway.keys.identify(headers)?;
        Ok((Arc::clone(&self.gateway), caller))
    }

    pub fn charges(&self) -> &ChargeMetrics {
        &self.gateway.metrics.charges
    }

    pub fn transfers(&self) -> &TransferMetrics {
        &self.gateway.metrics.transfers
    }
}

//! A cluster's gateways, of which any number may run: each is as good as the others.

use std::net::{Ipv4Addr, SocketAddr};

use super::LocalCluster;
use crate::LocalError;
use crate::process::{Process, start_on_free_port};
use crate::services::{self, reachable};

impl LocalCluster {
    /// Starts one more, and returns it with its URL once it serves.
    pub async fn add_gateway(&self) -> Result<(Process, String), LocalError> {
        // The first has no number.
        let name = format!("gateway-{}", self.more_gateways.count() + 2);
        let (process, listen) = self.start_gateway_anywhere(&name).await?;
        self.more_gateways.push((process.clone(), listen));
        let url = format!("{}://{}", self.scheme(), reachable(listen));
        self.wait_for_gateway_at(&process, &url).await?;
        Ok((process, url))
    }

    pub(super) fn prepare_gateway(&self, name: &str, listen: SocketAddr) -> Result<Process, LocalError> {
        services::prepare_gateway(&self.folder, &self.ground, &self.spec, name, listen)
    }

    pub(super) async fn start_gateway_anywhere(
        &self,
        name: &str,
    ) -> Result<(Process, SocketAddr), LocalError> {
        let on_loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let prepare = |port| self.prepare_gateway(name, on_loopback(port));
        let (gateway, port) = start_on_free_port(&self.ground.ports, prepare).await?;
        Ok((gateway, on_loopback(port)))
    }
}

//! What the page needs from the program that serves it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use picopay_shared::cluster::Cluster;
use serde_json::Value;

/// What the operator's commands say of a cluster, with the field names of their `--output json`.
pub trait Reports: Send + Sync + 'static {
    /// The report of `picopay status`. What is down is in it as down; it takes some seconds then.
    fn status(&self, cluster: &Arc<Cluster>) -> impl Future<Output = Value> + Send;

    /// The report of `picopay transfers`.
    ///
    /// # Errors
    /// Why it is not known, in one line.
    fn transfers(&self, cluster: &Arc<Cluster>) -> impl Future<Output = Result<Value, String>> + Send;

    /// The page of metrics of a node or a gateway with this URL, which answers within a second.
    ///
    /// # Errors
    /// Why there is none, in one line.
    fn metrics(
        &self,
        cluster: &Arc<Cluster>,
        url: &str,
    ) -> impl Future<Output = Result<String, String>> + Send;
}

/// Where the page is, and where it looks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loopback only, since the page asks nobody who they are. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file of the cluster; changes of it are taken over.
    pub cluster_file: PathBuf,
    /// Base URLs of the gateways whose charges are shown.
    pub gateways: Vec<String>,
    /// What `picopay verify --report` writes. It need not be there yet.
    pub verify_report: PathBuf,
}

//! Programs that watch a cluster from beside it, and end with it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::LocalCluster;
use crate::LocalError;
use crate::process::{Kind, Process, Recipe, plain_environment, start_on_free_port};

impl LocalCluster {
    /// Starts a program on a free port of the loopback, and waits until `GET` of the path `health` there answers 200. It
    /// ends with the cluster, and its log is in the cluster's folder.
    ///
    /// # Errors
    /// When it ends or does not answer: with the end of its log.
    pub async fn start_beside(
        &self,
        name: &str,
        program: &Path,
        health: &str,
        arguments: impl Fn(u16) -> Vec<OsString>,
    ) -> Result<(Process, u16), LocalError> {
        let prepare = |port| {
            let recipe = Recipe {
                name: name.to_owned(),
                program: program.to_owned(),
                arguments: arguments(port),
                environment: plain_environment(),
                user: None,
                log: self.folder.log(name),
                kind: Kind::Service { health: format!("http://127.0.0.1:{port}{health}") },
            };
            Ok(Process::new(recipe, Arc::clone(&self.ground.guardian)))
        };
        start_on_free_port(&self.ground.ports, prepare).await
    }
}

//! Whether every process that runs has taken this `cluster.toml`, and if not, which entry differs.
//!
//! Nodes are those that the file names and those that a running gateway knows. The comparison is in
//! `shared/src/running_config.rs`.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use picopay_gateway_config::of_gateway;
use picopay_shard_node_config::of_node;
use picopay_shared::cluster::Cluster;
use picopay_shared::running_config::{RefusedReload, RunningConfig};
use picopay_tls::Caller;
use serde::Serialize;

use crate::output;
use crate::probe::{self, NotTold};

/// One process. The fields' names in JSON stay.
#[derive(Debug, Serialize)]
pub struct RunningLine {
    process: &'static str,
    url: String,
    shard: Option<String>,
    is_told: bool,
    /// The entries of the file that it does not go by: `internal_secret`, `shard-3`, `shard-1.redis`.
    differs: Vec<String>,
    refused: Option<RefusedReload>,
    problem: Option<String>,
}

impl RunningLine {
    pub fn problem(&self) -> Option<String> {
        let place = format!("{} {}", self.process, self.url);
        match (&self.problem, &self.refused) {
            (Some(problem), _) => Some(format!("{place}: {problem}")),
            (None, Some(refused)) => {
                let RefusedReload { reason, for_s } = refused;
                Some(format!("{place}: for {for_s} s it has refused the file that it finds: {reason}"))
            }
            (None, None) => None,
        }
    }

    pub fn would_change(&self) -> bool {
        !self.differs.is_empty()
    }

    fn told(process: &'static str, url: &str, now: RunningConfig, file: &RunningConfig) -> Self {
        let differs = now.differences(file);
        let refused = now.refused;
        Self { process, url: url.to_owned(), shard: None, is_told: true, differs, refused, problem: None }
    }

    fn not_told(process: &'static str, url: &str, why: NotTold) -> Self {
        let (differs, problem) = match why {
            NotTold::SecretRefused => (vec!["internal_secret".to_owned()], None),
            NotTold::NoAnswer(reason) => (Vec::new(), Some(reason)),
        };
        Self { process, url: url.to_owned(), shard: None, is_told: false, differs, refused: None, problem }
    }
}

/// `caller`: whom to believe where a gateway's URL says `https`.
pub async fn compare(cluster: &Cluster, gateways: &[String], caller: Option<&Caller>) -> Vec<RunningLine> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for shard in &cluster.shards {
        for url in &shard.nodes {
            nodes.insert(url.clone(), Node { shard: shard.name.clone(), is_in_use: false });
        }
    }
    let asked = gateways.iter().map(|url| probe::gateway_config(cluster, url, caller));
    let mut lines = Vec::new();
    for (url, told) in gateways.iter().zip(join_all(asked).await) {
        lines.push(match told {
            Ok(now) => {
                note_nodes(&now, &mut nodes);
                let file = of_gateway(cluster, now.salt.clone());
                RunningLine::told("gateway", url, now, &file)
            }
            Err(why) => RunningLine::not_told("gateway", url, why),
        });
    }
    let asked = nodes.iter().map(|(url, node)| ask_node(cluster, url, node));
    lines.extend(join_all(asked).await);
    lines
}

struct Node {
    shard: String,
    is_in_use: bool,
}

fn note_nodes(gateway: &RunningConfig, nodes: &mut BTreeMap<String, Node>) {
    for shard in &gateway.shards {
        let urls = shard.settings.iter().filter(|setting| setting.key == "nodes");
        for url in urls.flat_map(|setting| setting.shown.split(", ")) {
            let node = nodes
                .entry(url.to_owned())
                .or_insert_with(|| Node { shard: shard.name.clone(), is_in_use: false });
            node.is_in_use = true;
        }
    }
}

async fn ask_node(cluster: &Cluster, url: &str, node: &Node) -> RunningLine {
    let mut line = match probe::node_config(cluster, url).await {
        Ok(now) => {
            let shard =
                now.shards.first().map_or(node.shard.as_str(), |shard| shard.name.as_str()).to_owned();
            let file = of_node(cluster, &shard, now.salt.clone());
            let mut line = RunningLine::told("node", url, now, &file);
            if file.shards.is_empty() {
                line.problem = Some(format!(
                    "it serves {shard}, which is not in the file: it would refuse the file, and serve on until it is stopped"
                ));
            } else if shard != node.shard {
                line.problem = Some(format!("it serves {shard}, and the file says {}", node.shard));
            }
            line
        }
        Err(why) => RunningLine::not_told("node", url, why),
    };
    // A node that no gateway uses yet may well not be there yet.
    if !line.is_told && !node.is_in_use {
        line.problem = None;
    }
    line.shard = Some(node.shard.clone());
    line
}

pub fn screen(lines: &[RunningLine]) -> String {
    let mut table = output::table(["running", "at", "differs from the file in"]);
    for line in lines {
        let name = match &line.shard {
            Some(shard) => format!("{} of {shard}", line.process),
            None => line.process.to_owned(),
        };
        let told = match (line.is_told, line.differs.is_empty(), &line.problem) {
            (_, false, _) => line.differs.join(", "),
            (true, true, _) => "nothing".to_owned(),
            (false, true, Some(problem)) => problem.clone(),
            (false, true, None) => "not there, and no gateway uses it yet".to_owned(),
        };
        table.add_row([name, line.url.clone(), told]);
    }
    table.to_string()
}

//! A Prometheus beside a cluster, with the shipped files: addresses and paths are replaced, and what a test says.

use std::path::{Path, PathBuf};

use picopay_local::LocalCluster;
use picopay_local::http_call::{self, Answer};
use picopay_observability::{folder, text_of};
use serde_json::Value;

pub struct Prometheus {
    url: String,
}

impl Prometheus {
    pub async fn start(cluster: &LocalCluster, program: &Path, config: &str) -> Self {
        let (file, data) = (cluster.folder().join("prometheus.yml"), cluster.folder().join("prometheus"));
        let rules = folder().join("rules").display().to_string();
        std::fs::write(&file, replaced(config, "rules/*.yml", &format!("{rules}/*.yml"))).unwrap();
        let arguments = |port| {
            vec![
                format!("--config.file={}", file.display()).into(),
                format!("--storage.tsdb.path={}", data.display()).into(),
                format!("--web.listen-address=127.0.0.1:{port}").into(),
                "--log.level=warn".into(),
            ]
        };
        let started = cluster.start_beside("prometheus", program, "/-/ready", arguments).await;
        let (_, port) = started.unwrap();
        Self { url: format!("http://127.0.0.1:{port}") }
    }

    pub async fn ask(&self, path: &str) -> Value {
        let answer: Answer = http_call::get(&format!("{}/api/v1/{path}", self.url)).await.unwrap();
        let said = answer.json();
        assert_eq!(said["status"], "success", "{path}: {}", answer.body);
        said["data"].clone()
    }

    /// Whether a query has a number anywhere in the last minutes: what a panel would show.
    pub async fn shows(&self, query: &str) -> bool {
        let end = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let query = encode(query);
        let path = format!("query_range?query={query}&start={}&end={end}&step=10", end - 600);
        let found = self.ask(&path).await;
        let series = found["result"].as_array().cloned().unwrap_or_default();
        let values = series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
        let mut numbers = values.map(|pair| pair[1].as_str().and_then(|text| text.parse::<f64>().ok()));
        numbers.any(|number| number.is_some_and(|number| !number.is_nan()))
    }

    /// The targets that it does not reach, with why.
    pub async fn unreached(&self) -> Vec<String> {
        let targets = self.ask("targets?state=active").await;
        let all = targets["activeTargets"].as_array().cloned().unwrap_or_default();
        let silent = all.iter().filter(|target| target["health"] != "up");
        silent.map(|target| format!("{} {}", target["scrapeUrl"], target["lastError"])).collect()
    }
}

pub async fn start_alertmanager(cluster: &LocalCluster, program: &Path, config: &str) -> u16 {
    let (file, data) = (cluster.folder().join("alertmanager.yml"), cluster.folder().join("alertmanager"));
    std::fs::write(&file, config).unwrap();
    let arguments = |port| {
        vec![
            format!("--config.file={}", file.display()).into(),
            format!("--storage.path={}", data.display()).into(),
            format!("--web.listen-address=127.0.0.1:{port}").into(),
            // Alone: no other Alertmanager to talk to.
            "--cluster.listen-address=".into(),
            "--log.level=warn".into(),
        ]
    };
    let (_, port) = cluster.start_beside("alertmanager", program, "/-/ready", arguments).await.unwrap();
    port
}

pub fn shipped(name: &str) -> String {
    text_of(&folder().join(name))
}

/// # Panics
/// When there is nothing to replace: the file says something else now.
#[track_caller]
pub fn replaced(text: &str, before: &str, after: &str) -> String {
    assert!(text.contains(before), "{before} is not in {text}");
    text.replace(before, after)
}

/// Of a URL without a path: its address.
pub fn last_part(url: &str) -> &str {
    url.rsplit('/').next().expect("it has a last part")
}

pub fn node_addresses(cluster: &LocalCluster) -> Vec<String> {
    let shards = 0..cluster.shards().len();
    shards.map(|shard| last_part(&cluster.node_url(shard, 0)).to_owned()).collect()
}

/// A file beside the authority of a cluster over TLS.
pub fn certificate(cluster: &LocalCluster, name: &str) -> PathBuf {
    cluster.authority_file().expect("a cluster over TLS").with_file_name(name)
}

fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

//! The dashboards, and what their panels ask.

use std::path::PathBuf;

use serde_json::Value;

use crate::{files_in, folder, text_of};

/// What Grafana puts in the place of its own words: everything, at the pace of the shipped `scrape_interval`.
const WORDS: [(&str, &str); 3] = [("$__rate_interval", "40s"), ("$shard", ".+"), ("$instance", ".+")];

#[derive(Debug, Clone)]
pub struct Dashboard {
    /// The name of its file, without the end.
    pub file: String,
    pub json: Value,
}

/// One query of a panel.
#[derive(Debug, Clone)]
pub struct Query {
    /// Dashboard and panel, for people.
    pub of: String,
    /// As Prometheus takes it.
    pub query: String,
}

impl Dashboard {
    /// # Panics
    /// When a file is no JSON.
    pub fn all() -> Vec<Self> {
        let files = files_in(&folder().join("grafana/dashboards"), "json");
        let read = |path: PathBuf| {
            let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let json = serde_json::from_str(&text_of(&path));
            Self { json: json.unwrap_or_else(|error| panic!("{file}: {error}")), file }
        };
        files.into_iter().map(read).collect()
    }

    /// All but the headings of rows.
    pub fn panels(&self) -> Vec<&Value> {
        let panels = self.json["panels"].as_array().into_iter().flatten();
        panels.filter(|panel| panel["type"] != "row").collect()
    }

    pub fn queries(&self) -> Vec<Query> {
        let mut found = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let asked = target["expr"].as_str().unwrap_or_default().to_owned();
                let query = WORDS.iter().fold(asked, |query, (word, value)| query.replace(word, value));
                let of = format!("{}: {} ({})", self.file, text(&panel["title"]), text(&target["refId"]));
                found.push(Query { of, query });
            }
        }
        found
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

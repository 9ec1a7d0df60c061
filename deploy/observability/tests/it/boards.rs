//! The dashboards, as Grafana reads them.

use std::collections::BTreeSet;

use picopay_observability::dashboards::Dashboard;
use picopay_observability::metric_names::metric_names;
use picopay_observability::{folder, text_of};

#[test]
fn a_dashboard_keeps_its_address_and_asks_whatever_data_source_is_chosen() {
    let all = Dashboard::all();
    let uids: Vec<&str> = all.iter().filter_map(|board| board.json["uid"].as_str()).collect();
    assert_eq!(uids, ["picopay-move", "picopay-overview", "picopay-process", "picopay-shard"]);
    for Dashboard { file, json } in &all {
        let first = &json["templating"]["list"][0];
        let choice = (first["name"].as_str(), first["type"].as_str(), first["query"].as_str());
        assert_eq!(choice, (Some("datasource"), Some("datasource"), Some("prometheus")), "{file}");
        // Grafana replaces an id in a file that was exported for one installation.
        assert!(json.get("id").is_none() && json.get("__inputs").is_none(), "{file}");
        let text = json.to_string();
        let sources = text.matches("\"type\":\"prometheus\"").count();
        let chosen = text.matches("\"uid\":\"${datasource}\"").count();
        assert!(sources > 10 && sources == chosen, "{file}: {chosen} of {sources} are the chosen one");
    }
}

#[test]
fn every_panel_has_a_name_a_place_and_a_question() {
    for board in Dashboard::all() {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        for panel in board.panels() {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(!title.is_empty() && titles.insert(title), "{}: {title:?}", board.file);
            assert!(ids.insert(panel["id"].as_i64()), "{}: {title} has the id of another", board.file);
            assert!(
                panel["targets"].as_array().is_some_and(|all| !all.is_empty()),
                "{}: {title}",
                board.file
            );
            let place = &panel["gridPos"];
            let (x, w) = (place["x"].as_i64().unwrap(), place["w"].as_i64().unwrap());
            assert!(x >= 0 && x + w <= 24, "{}: {title} does not fit", board.file);
        }
        for query in board.queries() {
            assert!(!query.query.contains('$'), "{}: {}", query.of, query.query);
            let is_about_us = !metric_names(&query.query).is_empty() || query.query.contains("up{");
            assert!(is_about_us, "{}: {}", query.of, query.query);
        }
    }
}

#[test]
fn the_overview_shows_what_was_promised() {
    let overview = Dashboard::all().into_iter().find(|board| board.file == "overview").unwrap();
    for (title, limit) in [("p95 of charges", 0.5), ("p99 of charges", 1.0)] {
        let panel = overview.panels().into_iter().find(|panel| panel["title"] == title).unwrap();
        let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap();
        let red = steps.iter().find(|step| step["color"] == "red").unwrap();
        assert_eq!(red["value"].as_f64(), Some(limit), "{title}");
    }
}

#[test]
fn grafana_finds_prometheus_and_the_dashboards() {
    let source = text_of(&folder().join("grafana/provisioning/datasources/prometheus.yml"));
    let scraped = text_of(&folder().join("prometheus.yml"));
    let pace = scraped.lines().find_map(|line| line.trim().strip_prefix("scrape_interval: ")).unwrap();
    assert!(source.contains(&format!("timeInterval: {pace}")), "Grafana takes another pace than {pace}");
    let boards = text_of(&folder().join("grafana/provisioning/dashboards/picopay.yml"));
    assert!(boards.contains("type: file") && boards.contains("path: /etc/grafana/dashboards"), "{boards}");
}

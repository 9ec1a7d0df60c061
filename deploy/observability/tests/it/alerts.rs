//! The rules, their cases and their runbooks.

use std::collections::BTreeSet;

use picopay_observability::rules::{alerts, case_files, cases, rule_files};
use picopay_observability::{files_in, folder, runbooks, text_of};

use crate::tools::{judge, tools};

#[test]
fn promtool_and_amtool_accept_every_file() {
    let Some([promtool, amtool]) = tools(["promtool", "amtool"]) else { return };
    judge(&promtool, &["check", "rules", "--lint-fatal"], &rule_files());
    judge(&promtool, &["check", "config"], &[folder().join("prometheus.yml")]);
    // The certificates that the other example names are an operator's.
    judge(&promtool, &["check", "config", "--syntax-only"], &[folder().join("prometheus.hosts.yml")]);
    judge(&amtool, &["check-config"], &[folder().join("alertmanager.yml")]);
}

#[test]
fn each_alert_fires_when_it_has_to_and_stays_silent_when_it_may_not() {
    let (alerts, cases) = (alerts(), cases());
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        for fires in [true, false] {
            let is_tried = (cases.iter())
                .any(|case| (&case.file, &case.alert, case.fires) == (&alert.file, &alert.name, fires));
            assert!(
                is_tried,
                "rules/tests/{}.yml: no case in which {} fires: {fires}",
                alert.file, alert.name
            );
        }
    }
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    let unknown: Vec<_> = cases.iter().filter(|case| !names.contains(case.alert.as_str())).collect();
    assert!(unknown.is_empty(), "cases of no alert: {unknown:?}");
    assert_eq!(names.len(), alerts.len(), "two alerts have one name");
    let Some([promtool]) = tools(["promtool"]) else { return };
    judge(&promtool, &["test", "rules"], &case_files());
}

#[test]
fn each_alert_has_a_severity_and_a_runbook_and_each_runbook_an_alert() {
    let alerts = alerts();
    for alert in &alerts {
        assert!(["critical", "warning"].contains(&alert.severity.as_str()), "{alert:?}");
        let page = text_of(&runbooks().join(&alert.runbook));
        assert!(page.contains(&alert.name), "{} does not name {}", alert.runbook, alert.name);
    }
    let named: BTreeSet<&str> = alerts.iter().map(|alert| alert.runbook.as_str()).collect();
    let pages = files_in(&runbooks(), "md");
    let pages: BTreeSet<String> =
        pages.iter().filter_map(|page| Some(page.file_name()?.to_str()?.to_owned())).collect();
    let without: Vec<&String> =
        pages.iter().filter(|page| *page != "README.md" && !named.contains(page.as_str())).collect();
    assert!(without.is_empty(), "runbooks without an alert: {without:?}");
    let index = text_of(&runbooks().join("README.md"));
    for alert in &alerts {
        let line = index.lines().find(|line| line.contains(&format!("`{}`", alert.name)));
        let line = line.unwrap_or_else(|| panic!("docs/runbooks/README.md does not list {}", alert.name));
        assert!(line.contains(&alert.runbook) && line.contains(&alert.severity), "{line}");
    }
}

#[test]
fn each_runbook_says_what_it_means_what_clients_see_and_what_to_do() {
    for path in files_in(&runbooks(), "md") {
        let page = text_of(&path);
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if !path.ends_with("README.md") {
            assert_eq!(headings, ["What it means", "What clients see", "What to do"], "{}", path.display());
        }
    }
}

#[test]
fn every_command_of_a_runbook_is_one_of_picopays() {
    let known = text_of(&runbooks().join("../operating.md"));
    let known: BTreeSet<&str> =
        known.lines().filter_map(|line| line.strip_prefix("| `picopay ")?.split('`').next()).collect();
    assert!(known.len() > 20, "{known:?}");
    let mut seen = 0;
    for path in files_in(&runbooks(), "md") {
        let page = text_of(&path);
        let quoted = page.split('`').skip(1).step_by(2);
        let shown = page.lines().filter(|line| line.starts_with("picopay "));
        for command in quoted.chain(shown).filter_map(|words| words.strip_prefix("picopay ")) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let is_known = (1..=words.len()).any(|count| known.contains(words[..count].join(" ").as_str()));
            assert!(is_known, "{}: picopay {command}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

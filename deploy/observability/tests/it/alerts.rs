//! The rules, their cases and their runbooks.

use std::collections::BTreeSet;

use picopay_observability::metric_names::metric_names;
use picopay_observability::rules::{Alert, alerts, case_files, cases, rule_files};
use picopay_observability::{files_in, folder, runbooks, text_of};

use crate::tools::{complaint, judge, tools};

#[test]
fn promtool_and_amtool_accept_every_file() {
    let Some([promtool, amtool]) = tools(["promtool", "amtool"]) else { return };
    judge(&promtool, &["check", "rules", "--lint-fatal"], &rule_files());
    judge(&promtool, &["check", "config"], &[folder().join("prometheus.yml")]);
    // The certificates that these name are elsewhere.
    for file in ["prometheus.hosts.yml", "../compose/config.tls/prometheus.yml"] {
        judge(&promtool, &["check", "config", "--syntax-only"], &[folder().join(file)]);
    }
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

/// Whoever shortens or lengthens a `for` has a case that says so.
#[test]
fn no_alert_fires_before_its_time_nor_long_after() {
    let Some([promtool]) = tools(["promtool"]) else { return };
    let waiting: Vec<Alert> = alerts().into_iter().filter(|alert| alert.has_for).collect();
    assert!(waiting.len() > 15, "{waiting:?}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    for (rules, cases) in rule_files().iter().zip(case_files()) {
        let name = rules.file_name().unwrap();
        assert_eq!(cases.file_name(), Some(name));
        let copied = folder.path().join("tests").join(name);
        std::fs::copy(&cases, &copied).unwrap();
        let text = text_of(rules);
        let without: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with("for: ")).collect();
        // 30s becomes 130s, and 1m 11m.
        let longer = text.replace("for: ", "for: 1");
        for (change, changed) in [("no", without.join("\n")), ("a longer", longer)] {
            std::fs::write(folder.path().join(name), changed).unwrap();
            let said = complaint(&promtool, &["test", "rules"], &copied);
            for alert in waiting.iter().filter(|alert| *name == *format!("{}.yml", alert.file)) {
                let is_noticed = said.contains(&format!("alertname: {},", alert.name));
                assert!(is_noticed, "no case fails with {change} `for` of {}: {said}", alert.name);
            }
        }
    }
}

#[test]
fn what_the_manual_gives_an_alarm_for_has_a_rule() {
    let manual = text_of(&runbooks().join("../operating.md"));
    let table = manual.split("\n## ").find(|part| part.starts_with("Alarms\n")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let first_cells: String = rows.filter_map(|row| row.split('|').nth(1)).collect();
    let told = metric_names(&first_cells);
    assert!(told.len() > 20, "{told:?}");
    let asked: BTreeSet<String> = rule_files().iter().flat_map(|file| metric_names(&text_of(file))).collect();
    let without: Vec<&String> = told.difference(&asked).collect();
    assert!(
        without.is_empty(),
        "docs/operating.md says when these are an alarm, and no rule does: {without:?}"
    );
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

//! What the cluster's processes logged about a transaction, and around a moment.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::findings::Finding;

const AROUND_MS: i64 = 400;

const LINES_MAX: usize = 6;

pub fn around(finding: &Finding, at_unix_ms: Option<i64>, logs: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(logs) else { return found };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files {
        let Ok(bytes) = fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let is_named =
            |line: &str| finding.words.iter().any(|word| !word.is_empty() && line.contains(word.as_str()));
        let is_near = |line: &str| {
            let distance = at_unix_ms.zip(time_of(line)).map(|(at, time)| (at - time).abs());
            distance.is_some_and(|distance| distance <= AROUND_MS)
        };
        let lines = text.lines().filter(|line| is_named(line) || is_near(line)).take(LINES_MAX);
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(lines.map(|line| format!("{name}: {line}")));
    }
    found
}

/// In Unix milliseconds. Services log JSON that begins with the time; PostgreSQL logs in UTC.
fn time_of(line: &str) -> Option<i64> {
    let text = match line.strip_prefix("{\"timestamp\":\"") {
        Some(rest) => rest.split('"').next()?.to_owned(),
        // `2026-11-24 13:37:46.123 UTC [1234] …`
        None => format!("{}Z", line.get(..23)?.replacen(' ', "T", 1)),
    };
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Promise;

    #[test]
    fn the_lines_that_name_a_key_or_are_of_its_moment_are_found_in_every_log() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "node.log",
            "{\"timestamp\":\"2026-11-24T12:00:00.100000Z\",\"level\":\"WARN\",\"message\":\"near\"}\n\
             {\"timestamp\":\"2026-11-24T12:00:09.100000Z\",\"level\":\"WARN\",\"message\":\"far\"}\n\
             {\"timestamp\":\"2026-11-24T12:00:09.100000Z\",\"level\":\"WARN\",\"message\":\"far, of k-1\"}\n",
        );
        write("primary.log", "2026-11-24 12:00:00.300 UTC [1] LOG:  near too\nno time at all\n");
        let finding = Finding {
            promise: Promise::NothingLost,
            text: String::new(),
            at: None,
            words: vec!["k-1".to_owned(), String::new()],
        };
        let moment: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let lines = around(&finding, Some(moment.as_millisecond()), folder.path());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("near") && lines[1].contains("k-1") && lines[2].contains("near too"));
        assert_eq!(around(&finding, None, folder.path()).len(), 1);
    }
}

//! What the last `picopay verify --report` wrote.

use std::path::Path;

use serde_json::{Value, json};

/// Larger than any: 14 checks with 20 rows each, and a few lines for each shard and currency.
const BYTES_MAX: u64 = 4 << 20;

/// The report, or in words why there is none.
pub async fn read(file: &Path) -> Value {
    let shown = file.display().to_string();
    let report = match tokio::fs::metadata(file).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return json!({ "file": shown, "report": null, "problem": null });
        }
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
        Ok(about) if about.len() > BYTES_MAX => Err(format!("{shown} is too large for a report")),
        Ok(_) => tokio::fs::read_to_string(file)
            .await
            .map_err(|error| format!("{shown} cannot be read: {error}"))
            .and_then(|text| {
                serde_json::from_str::<Value>(&text)
                    .map_err(|error| format!("{shown} is no report of `picopay verify`: {error}"))
            }),
    };
    match report {
        Ok(report) if report["is_proven"].is_boolean() => json!({ "file": shown, "report": report }),
        Ok(_) => json!({ "file": shown, "problem": format!("{shown} is no report of `picopay verify`") }),
        Err(problem) => json!({ "file": shown, "problem": problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_is_shown_and_anything_else_is_said_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("verify.json");
        assert_eq!(read(&file).await["report"], Value::Null);
        for (text, problem) in [("{", "is no report"), ("{\"a\": 1}", "is no report")] {
            std::fs::write(&file, text).unwrap();
            let said = read(&file).await;
            assert!(said["problem"].as_str().unwrap().contains(problem), "{said}");
        }
        std::fs::write(&file, "{\"is_proven\": true, \"at_ms\": 5}").unwrap();
        let said = read(&file).await;
        assert_eq!((&said["report"]["at_ms"], &said["problem"]), (&json!(5), &Value::Null));
    }
}

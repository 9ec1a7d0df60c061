//! Reads CloudNativePG's objects into its types and back, and says what did not come back.
//!
//! The API server would drop a field that it does not know, without a word, and the shard would run without it. So a
//! misspelled or misplaced field is a failure here. Standard input: a JSON list of objects.

use std::process::ExitCode;

use k8s_crds_cloud_native_pg::Cluster;
use serde_json::Value;

fn main() -> ExitCode {
    let objects: Vec<Value> = match serde_json::from_reader(std::io::stdin()) {
        Ok(objects) => objects,
        Err(error) => {
            eprintln!("this is no JSON list of objects: {error}");
            return ExitCode::FAILURE;
        }
    };
    let faults: Vec<String> = objects.iter().flat_map(faults_of).collect();
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    // None at all would be a check of nothing.
    if faults.is_empty() && !objects.is_empty() {
        println!("{} objects came back as they were", objects.len());
        ExitCode::SUCCESS
    } else {
        eprintln!("{} objects, {} faults", objects.len(), faults.len());
        ExitCode::FAILURE
    }
}

fn faults_of(object: &Value) -> Vec<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or("?");
    if object["apiVersion"] != "postgresql.cnpg.io/v1" || object["kind"] != "Cluster" {
        return vec![format!("{name}: {} {} is not known here", object["apiVersion"], object["kind"])];
    }
    let back = match serde_json::from_value::<Cluster>(object.clone()) {
        Ok(cluster) => serde_json::to_value(cluster).expect("a Cluster is JSON"),
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let mut lost = Vec::new();
    compare(name, object, &back, &mut lost);
    lost
}

/// Whatever `sent` has must be in `back`, equal. The types may add what has a default.
fn compare(place: &str, sent: &Value, back: &Value, lost: &mut Vec<String>) {
    match (sent, back) {
        (Value::Object(sent), Value::Object(back)) => {
            for (key, value) in sent {
                let place = format!("{place}.{key}");
                match back.get(key) {
                    Some(back) => compare(&place, value, back, lost),
                    None => lost.push(format!("{place} is no field of it")),
                }
            }
        }
        (Value::Array(sent), Value::Array(back)) if sent.len() == back.len() => {
            for (position, (sent, back)) in sent.iter().zip(back).enumerate() {
                compare(&format!("{place}[{position}]"), sent, back, lost);
            }
        }
        _ if sent == back => {}
        _ => lost.push(format!("{place}: {sent} came back as {back}")),
    }
}

//! The bench, done for a moment only: that it measures everything, not how much.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_bench_measures_everything_and_proves_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_picopay-proofs"));
    bench.args(["bench", "--quick", "--note", "commit=abc1234", "--out"]).arg(folder.path());
    let output = bench.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    let last = said.lines().last().unwrap_or_else(|| panic!("it said nothing: {told}"));
    let printed: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said}{told}"));
    let written = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), printed);

    let at = |pointer: &str| printed.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {printed}"));
    for measured in [
        "/ratio",
        "/baseline_per_second",
        "/saturation_per_second",
        "/cpu_us_per_charge/gateway",
        "/cpu_us_per_charge/node",
        "/cpu_us_per_charge/primary",
        "/cpu_us_per_charge/replica",
        "/cpu_us_per_charge/total",
        "/latency/p50_ms",
        "/latency/p99_ms",
        "/latency/p999_ms",
        "/hot_user",
        "/retry_storm",
        "/memory_mib/gateway",
        "/memory_mib/node",
        "/proof/acknowledged",
    ] {
        assert!(at(measured).as_f64().is_some_and(|value| value > 0.0), "{measured} is {}", at(measured));
    }
    assert!(at("/reads").is_f64() && at("/cpu_us_per_charge/redis").is_f64());
    assert_eq!((at("/lost"), at("/doubled")), (&0.into(), &0.into()));
    assert_eq!(at("/proof/is_proven"), true);
    assert_eq!(at("/versions/commit"), "abc1234");
    assert_eq!(at("/durability/shard-1/fsync"), "on");

    // A machine that runs a dozen other tests may be too slow for the last of 256 connections: that is said, and fails.
    let has_errors = at("/errors").as_u64().unwrap() > 0;
    assert_eq!(output.status.code(), Some(i32::from(has_errors)), "{told}");
    assert_eq!(
        said.matches("errors, lost, doubled").count(),
        2,
        "once in the table, once in the JSON: {said}"
    );

    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("\"seconds\":["), "the page has what happened in each second");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "summary.json and report.html, but no acknowledgements when all is well");
}

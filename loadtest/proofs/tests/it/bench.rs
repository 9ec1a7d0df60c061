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
        "/cpu_us_per_page/total",
        "/cpu_us_per_balance/total",
        "/wal_bytes_per_charge",
        "/front/hyper/cpu_us",
        "/front/front/cpu_us",
        "/hot_user",
        "/retry_storm",
        "/batches",
        "/batches_of_tigerbeetle",
        "/memory_mib/gateway",
        "/memory_mib/node",
        "/proof/acknowledged",
    ] {
        assert!(at(measured).as_f64().is_some_and(|value| value > 0.0), "{measured} is {}", at(measured));
    }
    assert!(at("/reads").is_f64() && at("/cpu_us_per_charge/redis").is_f64());
    let costs = at("/costs").as_array().unwrap();
    let names: Vec<&str> = costs.iter().map(|cost| cost["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["20/s", "40/s", "60/s", "80/s", "half of saturation", "saturation"]);
    for (number, cost) in costs.iter().enumerate() {
        let is_beside_pgbench = number < 4;
        for (figure, is_there) in [
            ("p50_ms", true),
            ("p99_ms", true),
            ("cpu_us_total", true),
            ("wal_bytes", true),
            ("charges_per_batch", true),
            ("pgbench_us", is_beside_pgbench),
            ("quotient", is_beside_pgbench),
        ] {
            let is_measured = cost[figure].as_f64().is_some_and(|value| value > 0.0);
            assert_eq!(is_measured, is_there, "{figure} of {cost}");
        }
    }
    let bars = at("/bars").as_array().unwrap();
    for figure in [
        "CPU for a charge ÷ pgbench's, at 20/s",
        "CPU for a charge ÷ pgbench's, at 40/s",
        "CPU for a charge ÷ pgbench's, at 60/s",
        "p50 at 60/s",
        "p99 at 60/s",
        "p50 at 80/s",
        "p99 at 80/s",
        "p50 at half of saturation",
        "p99 at half of saturation",
        "CPU for a page of 20",
        "CPU for a balance",
        "charges/s, 128 in a request, of uniform",
    ] {
        let bar = bars.iter().find(|bar| bar["figure"] == figure);
        assert!(bar.is_some_and(|bar| bar["value"].is_f64()), "{figure} in {bars:?}");
    }
    // pgbench was held to its rate: its best is far above.
    let paced = at("/rounds/0/rates/3/pgbench/per_second").as_f64().unwrap();
    assert!((40.0..160.0).contains(&paced), "{paced} charges a second of pgbench at 80");
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

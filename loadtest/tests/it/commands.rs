//! The program as somebody types it: exit codes and messages.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_loadtest::responder::{Responder, answer_as_a_gateway, write_answer};

use crate::start;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopay-loadtest"));
    command.args(args).env_remove("PICOPAY_API_KEY").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    outcome(program(args).output().unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run_against(responder: &Responder, args: &[&str]) -> (i32, String, String) {
    let url = responder.url();
    let mut all = vec!["run", "--url", &url, "--users", "50", "--warmup", "0"];
    all.extend(args);
    run(&all)
}

#[test]
fn nonsense_is_refused_with_the_flag_that_it_is_about() {
    for (args, needle) in [
        (&["--history", "0.8", "--topups", "0.3"][..], "--history 0.8"),
        (&["--hot-share", "1.5"], "--hot-share 1.5"),
        (&["--duplicates", "1"], "--duplicates 1"),
        (&["--refunds=-0.1"], "--refunds -0.1"),
        (&["--batch", "501"], "--batch 501"),
        (&["--batch", "5", "--history", "0.1"], "--batch 5"),
        (&["--users", "0"], "--users 0"),
        (&["--first-user", "9223372036854775807", "--users", "2"], "--first-user"),
        (&["--currency", "usd"], "--currency usd"),
        (&["--amount-max", "0.001"], "--amount-max 0.001"),
        (&["--fund=-5"], "--fund -5"),
        (&["--rate", "0"], "--rate 0"),
        (&["--rate", "NaN"], "--rate NaN"),
        (&["--connections", "0"], "--connections 0"),
        (&["--threads", "0"], "--threads 0"),
        (&["--duration=-1"], "--duration"),
        (&["--url", "ftp://127.0.0.1"], "--url ftp://"),
        (&["--url", "https://127.0.0.1", "--cacert", "/nowhere"], "--cacert"),
        (&["--url", "http://192.0.2.1"], "--api-key"),
        (&["--arrivals", "poisson"], "--rate"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let mut all = vec!["run"];
        all.extend(args);
        let (code, _, stderr) = run(&all);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(needle), "{args:?}: {stderr}");
    }
}

#[test]
fn a_gateway_that_is_not_there_is_said() {
    let (code, _, stderr) = run(&["run", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no gateway answers at http://127.0.0.1:1"), "{stderr}");
}

#[test]
fn a_wrong_key_is_said_and_never_shown() {
    let responder = start(|seen, out| {
        let status = if seen.line.contains("readyz") { "200 OK" } else { "401 Unauthorized" };
        write_answer(out, status, "", b"{}");
    });
    let (code, stdout, stderr) = run_against(&responder, &["--api-key", "s3cret-key"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("does not know this API key"), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains("s3cret-key"));
}

#[test]
fn a_run_leaves_its_figures_a_report_and_every_acknowledged_write() {
    let responder = start(answer_as_a_gateway);
    let folder = tempfile::tempdir().unwrap();
    let (acks, report) = (folder.path().join("acks.jsonl"), folder.path().join("out/report"));
    let (code, stdout, stderr) = run_against(
        &responder,
        &[
            "--rate",
            "500",
            "--duration",
            "2",
            "--acks",
            acks.to_str().unwrap(),
            "--report",
            report.to_str().unwrap(),
            "--note",
            "commit=abc1234",
            "--api-key",
            "s3cret-key",
        ],
    );
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("offered     500/s"), "{stdout}");
    assert_eq!(std::fs::read_to_string(&acks).unwrap().lines().count(), 1_050);
    // Without a terminal: a heading, and a line for each second.
    let lines: Vec<&str> =
        stderr.lines().filter(|line| line.trim_start().starts_with(['1', '2', 's'])).collect();
    assert!(lines[0].contains("offered/s achieved/s") && lines.len() >= 3, "{stderr}");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report.join("report.json")).unwrap()).unwrap();
    for (pointer, expected) in [
        ("/offered", "1000"),
        ("/unequal_replays", "0"),
        ("/latency/count", "1000"),
        ("/settings/rhythm/rate_per_second", "500.0"),
        ("/settings/traffic/seed", "1"),
        ("/durability/commit", "\"abc1234\""),
        ("/acks", "1050"),
    ] {
        assert_eq!(json.pointer(pointer).unwrap().to_string(), expected, "{pointer}");
    }
    // Answers that came after the end are in the latencies, and not in what was achieved within the time.
    let achieved = json.pointer("/achieved_per_second").and_then(serde_json::Value::as_f64).unwrap();
    assert!(achieved > 0.0 && achieved <= 500.0, "{achieved}");
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("\"achieved_per_second\"") && !page.contains("s3cret-key"));
}

#[test]
fn ctrl_c_ends_it_with_what_was_measured() {
    let responder = start(answer_as_a_gateway);
    let url = responder.url();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = program(&[
            "run",
            "--url",
            &url,
            "--users",
            "10",
            "--warmup",
            "0",
            "--duration",
            "600",
            "--rate",
            "100",
        ]);
        let child = signal_after_two_seconds(child, signal);
        let (code, stdout, stderr) = outcome(child.wait_with_output().unwrap());
        assert_eq!(code, 0, "{stderr}");
        let achieved =
            stdout.lines().find_map(|line| line.strip_prefix("achieved ")?.trim().strip_suffix("/s"));
        let achieved: u32 = achieved.and_then(|rate| rate.parse().ok()).expect("what was achieved");
        assert!(stdout.contains("(stopped)") && (1..=110).contains(&achieved), "{stdout}");
    }
}

/// Once it has said its second line, it runs.
fn signal_after_two_seconds(mut command: Command, signal: Signal) -> Child {
    use std::io::{BufRead as _, BufReader};
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("      2") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    // The rest would fill the pipe if nobody read it.
    std::thread::spawn(move || stderr.lines().count());
    child
}

#[test]
fn a_broken_promise_is_exit_code_1() {
    let responder = start(answer_as_a_gateway);
    // This responder marks no repeat as a replay.
    let (code, stdout, stderr) =
        run_against(&responder, &["--rate", "200", "--duration", "1", "--duplicates", "0.5"]);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stdout.contains("FAILED") && stderr.contains("repeats did not get the first answer"),
        "{stdout}{stderr}"
    );
}

#[test]
fn errors_are_exit_code_1_only_when_asked_for() {
    let mut count = 0;
    let responder = start(move |seen, out| {
        count += 1;
        if seen.line.contains("charge") && count % 5 == 0 {
            write_answer(out, "503 Service Unavailable", "", br#"{"code":"overloaded"}"#);
        } else {
            answer_as_a_gateway(seen, out);
        }
    });
    let load = ["--rate", "200", "--duration", "1"];
    let (code, stdout, _) = run_against(&responder, &load);
    assert_eq!(code, 0);
    assert!(stdout.contains(" overloaded"), "{stdout}");
    let (code, ..) = run_against(&responder, &[&load[..], &["--fail-on-errors"]].concat());
    assert_eq!(code, 1);
}

#[test]
fn a_rate_that_the_machine_cannot_generate_is_said() {
    let responder = start(answer_as_a_gateway);
    let (code, _, stderr) = run_against(
        &responder,
        &["--rate", "5000000", "--duration", "1", "--connections", "8", "--timeout", "2"],
    );
    assert_eq!(code, 1);
    assert!(
        stderr.contains("could not generate 5000000 requests/s: the schedule fell behind by"),
        "{stderr}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_the_acknowledged_writes_stops_the_load() {
    let responder = start(answer_as_a_gateway);
    let started = std::time::Instant::now();
    let (code, _, stderr) = run_against(
        &responder,
        &["--rate", "1000", "--duration", "300", "--skip-funding", "--acks", "/dev/full"],
    );
    assert_eq!(code, 1);
    assert!(stderr.contains("--acks /dev/full") && stderr.contains("No space left on device"), "{stderr}");
    assert!(started.elapsed() < Duration::from_mins(1), "it did not go on for the whole five minutes");
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_the_load() {
    let responder = start(answer_as_a_gateway);
    let (code, _, stderr) = run_against(&responder, &["--acks", "/no/such/folder/acks.jsonl"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("--acks /no/such/folder/acks.jsonl: cannot be written"), "{stderr}");
}

//! `protect`, done for a moment only: that it does all of it and says what came out, not how well the machine fared.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_trouble_is_made_and_each_bar_that_is_missed_counts() {
    let mut protect = Command::new(env!("CARGO_BIN_EXE_picopay-proofs"));
    let output = protect.args(["protect", "--quick"]).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_else(|| panic!("it said nothing: {told}"));
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said}{told}"));

    let at = |pointer: &str| summary.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {summary}"));
    assert_eq!((at("/rounds/0/lost"), at("/rounds/0/doubled")), (&0.into(), &0.into()));
    assert!(at("/rounds/0/acknowledged").as_u64().unwrap() > 0);
    for frozen in ["/rounds/0/primary_frozen", "/rounds/0/node_frozen"] {
        // Users of the frozen shard were refused, and the other shard answered meanwhile.
        assert!(!at(&format!("{frozen}/errors")).as_object().unwrap().is_empty(), "{frozen} of {summary}");
        assert!(at(&format!("{frozen}/rate_share")).as_f64().unwrap() > 0.0, "{frozen} of {summary}");
    }
    assert!(at("/rounds/0/overload/offered_per_second").as_f64().unwrap() > 0.0);

    // A machine that runs other tests may miss some of them.
    let bars = at("/bars").as_array().unwrap();
    assert_eq!(bars.len(), 13);
    let is_kept = bars.iter().all(|bar| bar["is_kept"] == true);
    assert_eq!(output.status.code(), Some(i32::from(!is_kept)), "{said}{told}");
    assert_eq!(said.matches("MISSED").count() > 0, !is_kept, "{said}");
}

//! A node takes all the files that it may have: at the usual limit it can accept nothing, and reach no database anew.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::test_shard::TestShard;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_raises_its_limit_of_open_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Whatever this test was started with; its children begin with it.
    setrlimit(Resource::RLIMIT_NOFILE, 1024.min(most), most).unwrap();
    let shard = TestShard::start().await;
    let pid = shard.cluster.shard(0).node(0).pid().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    shard.stop().await;
}

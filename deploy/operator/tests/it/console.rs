//! The page that `picopay console` serves: in a real browser, on a real cluster; and for nobody but this machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::{ClusterSpec, LocalCluster, http_call};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::command::{picopay, run};

/// For a browser that has a core of a busy machine now and then.
const FLOW_MAX: Duration = Duration::from_mins(15);
const END_MAX: Duration = Duration::from_secs(20);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where the tests of the console find their browser's driver, and leave their pictures.
fn work_folder() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("console-test")
}

async fn start_console(file: &Path) -> (Child, String) {
    let mut command = picopay(file, ["console", "--listen", "127.0.0.1:0"]);
    let mut console = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(console.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it says where it is");
    let url = line.split(' ').find(|word| word.starts_with("http://")).unwrap_or_else(|| panic!("{line}"));
    (console, url.to_owned())
}

async fn end(mut console: Child) {
    let pid = Pid::from_raw(i32::try_from(console.id().expect("it runs")).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let status = timeout(END_MAX, console.wait()).await.expect("it ends in time").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_a_cluster_does_in_a_real_browser() {
    let work = work_folder();
    let python = work.join("venv/bin/python");
    assert!(
        python.exists(),
        "run `make console-test`, or deploy/console/browser/install.sh before this test"
    );
    let pictures = work.join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let (console, url) = start_console(&cluster.cluster_file()).await;
    let pids =
        cluster.shards().iter().map(|shard| shard.node(0).pid().unwrap().to_string()).collect::<Vec<_>>();
    let flow = Command::new(python)
        .arg(repository().join("deploy/console/browser/flow.py"))
        .env("CONSOLE_TEST_URL", &url)
        .env("CONSOLE_TEST_GATEWAY", cluster.gateway_url())
        .env("CONSOLE_TEST_KEY", cluster.api_key())
        .env("CONSOLE_TEST_PICOPAY", env!("CARGO_BIN_EXE_picopay"))
        .env("CONSOLE_TEST_CLUSTER", cluster.cluster_file())
        .env("CONSOLE_TEST_NODE_PIDS", pids.join(","))
        .env("CONSOLE_TEST_PICTURES", &pictures)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(FLOW_MAX, flow).await.expect("the flow ends in time").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= 12, "{said}");
    end(console).await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_console_is_for_this_machine_alone_and_needs_no_part_of_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let text = "internal_secret = \"0123456789abcdef0123456789abcdef\"\n[[shards]]\nname = \"shard-1\"\n\
                nodes = [\"http://127.0.0.1:1\"]\nprimary = \"host=127.0.0.1 port=1\"\n";
    std::fs::write(&file, text).unwrap();
    for listen in ["0.0.0.0:8090", "[::]:8090", "192.0.2.1:8090"] {
        let said = run(picopay(&file, ["console", "--listen", listen])).await;
        let said = said.failure("listens on this machine's own addresses only");
        assert!(said.err.contains("ssh -L 8090:127.0.0.1:8090"), "{said:?}");
    }
    let (console, url) = start_console(&file).await;
    let page = http_call::get(&url).await.unwrap();
    assert_eq!(
        (page.status, page.headers["content-security-policy"].to_str().unwrap()),
        (200, "default-src 'self'")
    );
    let taken =
        run(picopay(&file, ["console", "--listen", url.trim_end_matches('/').trim_start_matches("http://")]))
            .await;
    taken.failure("name a free address with --listen");
    end(console).await;
}

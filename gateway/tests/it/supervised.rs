//! What a supervisor such as systemd hears of a gateway and of a node (`sd_notify(3)`): that it serves, that it lives, and
//! that it ends. And what everybody else sees of a node that ends.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::{ClusterSpec, LocalCluster, eventually, http_call};
use picopay_shared::node_status::{STATUS_PATH, WIRE_HEADER, WIRE_VERSION};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixDatagram};
use tokio::time::timeout;

use crate::drain::ask_on;
use crate::gateway_process::{GatewayProcess, cluster_of, prepare};

/// Half of it is how often a process says that it lives.
const WATCHDOG_US: &str = "400000";

/// Several times as long: a process that lives is heard within it.
const A_WHILE: Duration = Duration::from_secs(2);

/// Nothing in a test waits for its end.
const LONG: &str = "drain = \"10m\"\n";

struct Supervisor {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Supervisor {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        let path = self.folder.path().join("notify").display().to_string();
        [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", WATCHDOG_US.to_owned())]
    }

    async fn next(&self) -> String {
        let mut text = [0; 64];
        let length = self.socket.recv(&mut text).await.unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    /// Waits for this word, and returns those before it.
    async fn hears(&self, word: &str) -> Vec<String> {
        let mut before = Vec::new();
        let waiting = async {
            loop {
                match self.next().await {
                    heard if heard == word => return,
                    heard => before.push(heard),
                }
            }
        };
        assert!(timeout(Duration::from_mins(1), waiting).await.is_ok(), "{word} after {before:?}");
        before
    }

    /// Whether a process that cannot do anything is silent, and heard again when it can.
    async fn misses_one_that_hangs(&self, freeze: impl FnOnce(), thaw: impl FnOnce()) {
        freeze();
        // What was said before is still in the socket.
        let silence = async { while timeout(A_WHILE, self.next()).await.is_ok() {} };
        assert!(timeout(Duration::from_mins(1), silence).await.is_ok(), "who hangs is silent");
        thaw();
        self.hears("WATCHDOG=1").await;
    }
}

#[tokio::test]
async fn a_gateway_tells_its_supervisor_that_it_serves_lives_and_ends() {
    let supervisor = Supervisor::listen();
    let (mut command, folder, api) = prepare(&cluster_of("http://127.0.0.1:1"), LONG);
    command.envs(supervisor.variables());
    let gateway = GatewayProcess::spawn(command, folder, api).await;
    assert_eq!(supervisor.hears("READY=1").await, [""; 0], "before anything else");
    supervisor.hears("WATCHDOG=1").await;
    supervisor
        .misses_one_that_hangs(|| gateway.send(Signal::SIGSTOP), || gateway.send(Signal::SIGCONT))
        .await;
    gateway.terminate();
    supervisor.hears("STOPPING=1").await;
    supervisor.hears("WATCHDOG=1").await;
    assert_eq!(gateway.api.get("/health").await.status, 200, "who drains lives");
}

#[tokio::test]
async fn a_node_that_is_told_to_end_says_so_to_everybody_serves_on_and_ends_when_told_again() {
    let supervisor = Supervisor::listen();
    let mut spec = ClusterSpec::one_shard().without_gateway().with_node_toml(LONG);
    for (name, value) in supervisor.variables() {
        spec = spec.with_node_variable(name, &value);
    }
    let cluster = LocalCluster::start(spec).await.unwrap();
    let node = cluster.shard(0).node(0);
    assert_eq!(supervisor.hears("READY=1").await, [""; 0], "before anything else");
    supervisor.hears("WATCHDOG=1").await;
    supervisor.misses_one_that_hangs(|| node.freeze(), || node.thaw()).await;

    let url = cluster.node_url(0, 0);
    let bearer = format!("Bearer {}", cluster.internal_secret());
    let wire = WIRE_VERSION.to_string();
    let is_ready = async || {
        let headers = [("authorization", bearer.as_str()), (WIRE_HEADER, wire.as_str())];
        let told = http_call::call(http::Method::GET, &format!("{url}{STATUS_PATH}"), &headers, "").await;
        told.unwrap().json()["is_ready"].as_bool().expect("a status")
    };
    let mut kept = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    assert!(!ask_on(&mut kept).await.contains("connection: close"));
    eventually("a node that is ready", is_ready).await;
    let terminate =
        || kill(Pid::from_raw(i32::try_from(node.pid().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    terminate();
    supervisor.hears("STOPPING=1").await;
    supervisor.hears("WATCHDOG=1").await;
    assert!(!is_ready().await, "gateways send their requests elsewhere");
    // It serves on; who keeps a connection learns to make another one, elsewhere.
    let last = ask_on(&mut kept).await;
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last}");
    assert_eq!(kept.read(&mut [0; 64]).await.unwrap(), 0, "and the connection ends");
    assert!(node.is_running(), "its drain is long");
    terminate();
    eventually("its end", async || !node.is_running()).await;
    cluster.stop().await;
}

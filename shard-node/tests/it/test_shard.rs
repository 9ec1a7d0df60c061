//! One shard of real processes, and short words for what tests ask of it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
pub use picopay_local::eventually;
use picopay_local::{ClusterSpec, LocalCluster, metric_sum};
use picopay_shared::command::{
    Attempt, Command, Operation, Outcome, Payment, Refusal, Status, Transaction, WRITE_PATH, WriteBatch,
    WriteReply,
};
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Amount, Currency, Money};
use picopay_shared::node_status::{NodeStatus, STATUS_PATH, WIRE_HEADER, WIRE_VERSION};
use picopay_shared::origin::Origin;
use picopay_shared::query::{
    Answer, Consistency, DEADLINE_HEADER, Found, HistoryQuery, Query, READ_PATH, ReadRequest, Source,
};
use picopay_shared::running_config::{CONFIG_PATH, RunningConfig};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::UserId;
use uuid::Uuid;

/// A shard, its nodes and a client.
pub struct TestShard {
    pub cluster: LocalCluster,
    pub node: NodeClient,
}

/// Talks to one node process as a gateway would.
#[derive(Clone)]
pub struct NodeClient {
    url: String,
    secret: String,
    http: Client<HttpConnector, Full<bytes::Bytes>>,
}

/// Why a node gave no answer.
#[derive(Debug)]
pub struct NoReply(#[allow(dead_code, reason = "printed by a failing test")] pub String);

static NEXT_USER: AtomicI64 = AtomicI64::new(1_000);
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

impl TestShard {
    pub async fn start() -> Self {
        Self::start_with(ClusterSpec::one_shard()).await
    }

    pub async fn start_with(spec: ClusterSpec) -> Self {
        let cluster = LocalCluster::start(spec.without_gateway()).await.expect("a cluster");
        let node = NodeClient::new(&cluster.node_url(0, 0), cluster.internal_secret());
        Self { cluster, node }
    }

    /// A shard of two nodes that wait long for a lock, for tests that hold one on a slow machine.
    pub async fn start_patient() -> Self {
        let patient =
            "[postgres]\nlock_timeout = \"10s\"\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
        Self::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml(patient)).await
    }

    /// A client of another node process of this shard.
    pub fn second_node(&self) -> NodeClient {
        NodeClient::new(&self.cluster.node_url(0, 1), self.cluster.internal_secret())
    }

    /// A new user with this much.
    pub async fn user_with(&self, balance: Money) -> UserId {
        let user_id = UserId::try_from(NEXT_USER.fetch_add(1, Ordering::Relaxed)).unwrap();
        self.fund(user_id, balance).await;
        user_id
    }

    /// Makes this user, with this much.
    pub async fn fund(&self, user_id: UserId, balance: Money) {
        // A first command may meet a node that is still connecting, on a machine that is busy.
        let create = command(Operation::CreateUser { user_id });
        eventually("a user", || async {
            let outcome = self.node.run(create.clone()).await;
            matches!(outcome, Outcome::UserCreated | Outcome::UserExisted).then_some(())
        })
        .await;
        if !balance.is_zero() {
            let fund = top_up(user_id, balance);
            eventually("money", || async { is_completed(&self.node.run(fund.clone()).await).then_some(()) })
                .await;
        }
    }

    /// A new user with this much, of those that the first of two shards owns.
    pub async fn user_in_first_half(&self, balance: Money) -> UserId {
        let owned = |id: i64| UserId::try_from(id).is_ok_and(|user| user.slot().get() < 2048);
        while !owned(NEXT_USER.load(Ordering::Relaxed)) {
            NEXT_USER.fetch_add(1, Ordering::Relaxed);
        }
        self.user_with(balance).await
    }

    /// The number of rows that the primary has for this user in `transactions`, refused ones included.
    pub async fn row_count(&self, user: UserId) -> i64 {
        let client = self.cluster.connect_primary(0).await.unwrap();
        let row = client
            .query_one("SELECT count(*) FROM transactions WHERE user_id = $1", &[&user.get()])
            .await
            .unwrap();
        row.get(0)
    }

    /// Holds the user's row, as another node's batch does, until the connection that is given commits or is dropped.
    pub async fn hold_user(&self, user: UserId) -> tokio_postgres::Client {
        let client = self.cluster.connect_primary(0).await.unwrap();
        client.batch_execute("BEGIN").await.unwrap();
        let lock = "SELECT FROM users WHERE slot = $1 AND user_id = $2 FOR NO KEY UPDATE";
        client.execute(lock, &[&user.slot().as_i16(), &user.get()]).await.unwrap();
        client
    }

    /// Waits until this many backends wait for a lock of this kind.
    pub async fn wait_for_blocked(&self, backends: i64, wait_event: &str) {
        let client = self.cluster.connect_as_superuser(0).await.unwrap();
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = $1";
        eventually("a backend that waits", || async {
            let blocked: i64 = client.query_one(count, &[&wait_event]).await.unwrap().get(0);
            (blocked >= backends).then_some(())
        })
        .await;
    }

    /// Writes `cluster.toml` anew, as configuration management does.
    pub fn replace_cluster_file(&self, text: &str) {
        let file = self.cluster.cluster_file();
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Waits until histories come from the replica.
    pub async fn replica_in_use(&self, user: UserId) {
        eventually("a history from the replica", || async {
            is_replica(self.node.history(user).await.source)
        })
        .await;
    }

    /// Ends the cluster. A test that fails before does not get here; its cluster ends all the same.
    pub async fn stop(self) {
        self.cluster.stop().await;
    }
}

impl NodeClient {
    pub fn new(url: &str, secret: &str) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.to_owned(), secret: secret.to_owned(), http }
    }

    async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Result<bytes::Bytes, NoReply> {
        self.call_within(method, path, body, Duration::from_mins(1)).await
    }

    async fn call_within(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
        left: Duration,
    ) -> Result<bytes::Bytes, NoReply> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.secret))
            .header(DEADLINE_HEADER, left.as_millis().to_string())
            .header(WIRE_HEADER, WIRE_VERSION)
            .body(Full::new(body.into()))
            .unwrap();
        let response = self.http.request(request).await.map_err(|error| NoReply(error.to_string()))?;
        if response.status() != 200 {
            return Err(NoReply(response.status().to_string()));
        }
        Ok(response.into_body().collect().await.map_err(|error| NoReply(error.to_string()))?.to_bytes())
    }

    /// What a path of the node's own answers.
    pub async fn get(&self, path: &str) -> Result<bytes::Bytes, NoReply> {
        self.call("GET", path, Vec::new()).await
    }

    /// One batch, of a gateway that believes in the first epoch.
    pub async fn try_write(&self, commands: Vec<Command>) -> Result<WriteReply, NoReply> {
        self.try_attempts(commands.into_iter().map(|command| Attempt { command, epoch: 1 }).collect()).await
    }

    /// One batch, each at an epoch of its own.
    pub async fn try_attempts(&self, attempts: Vec<Attempt>) -> Result<WriteReply, NoReply> {
        let batch = WriteBatch { deadline_ms: 15_000, attempts };
        let bytes = self.call("POST", WRITE_PATH, batch.to_wire()).await?;
        Ok(WriteReply::from_wire(&bytes).unwrap())
    }

    pub async fn write(&self, commands: Vec<Command>) -> Vec<Outcome> {
        self.try_write(commands).await.unwrap().outcomes
    }

    pub async fn run(&self, command: Command) -> Outcome {
        self.write(vec![command]).await.remove(0)
    }

    /// One command, and the session token with which a read sees it.
    pub async fn run_with_session(&self, command: Command) -> (Outcome, SessionToken) {
        let mut reply = self.try_write(vec![command]).await.unwrap();
        let position = reply.position.unwrap_or_else(|| panic!("no position: {reply:?}"));
        // The name of the only shard that these tests have.
        (reply.outcomes.remove(0), SessionToken::new("shard-1", position))
    }

    pub async fn read(&self, query: Query) -> Answer {
        self.read_with(query, None).await
    }

    pub async fn read_with(&self, query: Query, session: Option<SessionToken>) -> Answer {
        let request = ReadRequest { query, session, origin: None };
        let bytes = self.call("POST", READ_PATH, request.to_wire()).await.unwrap();
        Answer::from_wire(&bytes).unwrap()
    }

    /// As a gateway reads that waits for so long.
    pub async fn read_within(&self, query: Query, left: Duration) -> Answer {
        let body = ReadRequest { query, session: None, origin: None }.to_wire();
        let bytes = self.call_within("POST", READ_PATH, body, left).await.unwrap();
        Answer::from_wire(&bytes).unwrap()
    }

    pub async fn status(&self) -> Result<NodeStatus, NoReply> {
        let bytes = self.call("GET", STATUS_PATH, Vec::new()).await?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    /// Why the node goes by another `cluster.toml` than the one on disk.
    pub async fn refused_file(&self) -> Option<String> {
        let told: RunningConfig = serde_json::from_slice(&self.get(CONFIG_PATH).await.unwrap()).unwrap();
        told.refused.map(|refused| refused.reason)
    }

    /// A counter or gauge of this node, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.call("GET", "/metrics", Vec::new()).await.unwrap();
        metric_sum(std::str::from_utf8(&text).unwrap(), name)
    }

    pub async fn balance(&self, user_id: UserId) -> String {
        let query = Query::Balance {
            user_id,
            currency: Some(Currency::parse("USD").unwrap()),
            consistency: Consistency::Strong,
        };
        match self.read(query).await.found {
            Found::Balances(balances) => balances[0].balance.to_string(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn history(&self, user_id: UserId) -> Answer {
        self.history_with(user_id, None).await
    }

    pub async fn history_with(&self, user_id: UserId, session: Option<SessionToken>) -> Answer {
        let query = HistoryQuery {
            user_id,
            limit: 100,
            before: None,
            kind: None,
            from_ms: None,
            to_ms: None,
            takes_short_pages: true,
        };
        self.read_with(Query::History(query), session).await
    }
}

pub fn is_replica(source: Source) -> bool {
    matches!(source, Source::Replica { .. })
}

pub fn usd(text: &str) -> Money {
    let currency = Currency::parse("USD").unwrap();
    if text == "0" { Money::zero(currency) } else { Money::parse(text, currency).unwrap() }
}

/// A command with a new key.
pub fn command(operation: Operation) -> Command {
    command_with_key(Uuid::new_v4(), operation)
}

pub fn command_with_key(idempotency_key: Uuid, operation: Operation) -> Command {
    Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key,
        is_client_key: true,
        origin: Origin {
            request_id: format!("request-{}", NEXT_REQUEST.fetch_add(1, Ordering::Relaxed)),
            traceparent: None,
        },
        made_by: None,
    }
}

fn payment(user_id: UserId, money: Money) -> Payment {
    Payment { user_id, money, reference: None, metadata: None }
}

pub fn charge(user_id: UserId, money: Money) -> Command {
    command(Operation::Charge(payment(user_id, money)))
}

pub fn top_up(user_id: UserId, money: Money) -> Command {
    command(Operation::TopUp(payment(user_id, money)))
}

pub fn refund(charge_id: TransactionId, amount: Option<&str>) -> Command {
    let amount = amount.map(|text| Amount::parse(text).unwrap());
    command(Operation::Refund { charge_id, amount })
}

pub fn decided(outcome: &Outcome) -> (&Transaction, bool) {
    match outcome {
        Outcome::Decided { transaction, is_replayed } => (transaction, *is_replayed),
        other => panic!("not decided: {other:?}"),
    }
}

pub fn is_completed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Decided { transaction, .. } if transaction.status == Status::Completed)
}

pub fn refusal(outcome: &Outcome) -> Option<Refusal> {
    match &decided(outcome).0.status {
        Status::Completed => None,
        Status::Refused { refusal, .. } => Some(*refusal),
    }
}

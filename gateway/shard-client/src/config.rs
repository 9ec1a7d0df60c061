//! The numbers of the way to the shards, each with its reason: the table `shard_client` of a `gateway.toml`.

use std::time::Duration;

use picopay_shared::command::WRITE_BATCH_MAX;
use picopay_shared::config::human_duration;
use serde::Deserialize;

/// Calls to shard nodes: how many at once, and how long they may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardClientConfig {
    /// How long a request may take in all, its retry and its way through the queue included. Most clients give up
    /// after 10 s or more, so they still read the answer that says what to do.
    #[serde(with = "human_duration")]
    pub request_timeout: Duration,
    /// How long a shard node may take before the outcome counts as unknown. Stays below `request_timeout`, so that
    /// there is time for one more try. Too short turns slow commits into retries; too long ties up the gateway
    /// during a failover.
    #[serde(with = "human_duration")]
    pub call_timeout: Duration,
    /// How long a TCP connect to a node may take. Nodes are in the same network: a lost SYN is sent again after 1 s
    /// only, and by then the next node has answered.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
    /// How long a kept connection to a node may be idle. A node keeps its side longer, so that a request never meets
    /// a connection that is just being closed.
    #[serde(with = "human_duration")]
    pub node_idle_timeout: Duration,
    /// Lanes per shard, best a multiple of the nodes' own: commands are spread over them by the same hash of the
    /// user as in the node, so that a batch is one lane's and does not wait for the slowest of several.
    pub lanes: usize,
    /// Batches per lane that are on their way at once. A second one would wait in the node for the first and only make
    /// both smaller; it is worth having where the way to the node takes longer than a database transaction there.
    pub pipes: usize,
    /// A pipe starts at most one batch in this time; zero lets each start when it can. So long a command may wait for others that
    /// go along with it. A batch costs by itself, on all machines that it comes to.
    #[serde(with = "human_duration")]
    pub batch_interval: Duration,
    /// Commands in one batch. A COMMIT costs the same for one and for hundreds; beyond 256 the rows themselves cost, and
    /// the first one waits for the last.
    pub batch_max: usize,
    /// Commands that wait in one lane: about a third of a second of a shard at its best, so that a short break of a shard
    /// refuses nobody. What comes on top is refused at once. This and `reads_max` are also the bulkhead: one dead shard holds
    /// no more connections than that. Keep them together well below `server.connections_max`, or its users take the places of
    /// all others.
    pub queue_max: usize,
    /// How long a command may have to wait in its lane, as the shard's last full batches let expect; what would wait longer
    /// is refused at once. Long enough for two thousand connections on a slow machine and for the stalls of a busy disk,
    /// short enough for a client who stands at a till.
    #[serde(with = "human_duration")]
    pub queue_wait: Duration,
    /// Reads per shard at once, so that a slow shard's readers do not fill the gateway: about a quarter of a second of
    /// them on two cores. What comes on top is refused at once.
    pub reads_max: usize,
    /// How long a request may wait for its slot to have an owner again, counted from when the gateway noticed that it has
    /// none: a mover's pause budget (500 ms by default), what it takes to give such a move up, and as much again for a busy
    /// machine. A slot that is nobody's for longer is not in a pause but waits for an operator: its requests are answered
    /// at once.
    #[serde(with = "human_duration")]
    pub move_wait: Duration,
    /// Requests that may wait for that at once; what comes on top is refused at once. A pause of a hundred slots at 20,000
    /// requests a second holds 500 in a second; four times that is still a fifth of `server.connections_max`.
    pub moving_max: usize,
    /// How often each shard is asked for its slots, its health and its replica's lag.
    #[serde(with = "human_duration")]
    pub poll_interval: Duration,
    /// How long it may take to answer that. A shard that takes longer is not ready for anything else either.
    #[serde(with = "human_duration")]
    pub poll_timeout: Duration,
}

impl Default for ShardClientConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_millis(500),
            node_idle_timeout: Duration::from_secs(20),
            lanes: 1,
            pipes: 1,
            batch_interval: Duration::from_millis(2),
            batch_max: 256,
            queue_max: 4_096,
            queue_wait: Duration::from_secs(1),
            reads_max: 1_024,
            move_wait: Duration::from_secs(1),
            moving_max: 2_048,
            poll_interval: Duration::from_secs(1),
            poll_timeout: Duration::from_secs(1),
        }
    }
}

impl ShardClientConfig {
    /// Everything that is wrong with the numbers, in words that begin with the field's name.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |is_right: bool, text: &dyn Fn() -> String| {
            if !is_right {
                faults.push(text());
            }
        };
        for (name, number) in [
            ("lanes", self.lanes),
            ("pipes", self.pipes),
            ("batch_max", self.batch_max),
            ("queue_max", self.queue_max),
            ("reads_max", self.reads_max),
        ] {
            expect(number > 0, &|| format!("{name} must be at least 1"));
        }
        expect(self.batch_max <= WRITE_BATCH_MAX, &|| {
            format!("batch_max is {}, but a node takes at most {WRITE_BATCH_MAX}", self.batch_max)
        });
        for (name, duration) in [
            ("queue_wait", self.queue_wait),
            ("connect_timeout", self.connect_timeout),
            ("call_timeout", self.call_timeout),
            ("node_idle_timeout", self.node_idle_timeout),
            ("poll_interval", self.poll_interval),
            ("poll_timeout", self.poll_timeout),
        ] {
            expect(!duration.is_zero(), &|| format!("{name} must be more than 0"));
        }
        for (is_right, text) in [
            (
                self.move_wait < self.request_timeout,
                "move_wait must be below request_timeout, or there is no time left for the request",
            ),
            (
                self.call_timeout < self.request_timeout,
                "call_timeout must be below request_timeout, or there is no time for a retry",
            ),
            (
                self.connect_timeout < self.call_timeout,
                "connect_timeout must be below call_timeout, or no second node is ever tried",
            ),
        ] {
            expect(is_right, &|| text.to_owned());
        }
        faults
    }
}

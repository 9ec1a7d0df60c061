//! The table `shard_client` of `gateway.toml`, with a reason for each number.

use std::time::Duration;

use picopay_shared::command::WRITE_BATCH_MAX;
use picopay_shared::config::human_duration;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardClientConfig {
    /// How long a request may take in all, with its retry and its time in the queue. Most clients give up
    /// after 10 s or more, so they still read the answer.
    #[serde(with = "human_duration")]
    pub request_timeout: Duration,
    /// How long a shard node may take before the outcome counts as unknown. Below `request_timeout`, so that
    /// one more try has time. Too short turns slow commits into retries; too long ties up the gateway during
    /// a failover.
    #[serde(with = "human_duration")]
    pub call_timeout: Duration,
    /// How long a TCP connect to a node may take. Nodes are in the same network. A lost SYN is sent again
    /// after 1 s only, and by then the next node has answered.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
    /// How long an idle connection to a node is kept. A node keeps its side longer, so that no request meets
    /// a connection that is being closed.
    #[serde(with = "human_duration")]
    pub node_idle_timeout: Duration,
    /// Lanes per shard, best a multiple of the node's. Gateway and node spread users by the same hash, so one
    /// batch belongs to one lane of the node.
    pub lanes: usize,
    /// Batches per lane under way at once. A second one usually waits in the node for the first, and makes
    /// both smaller. It helps where the network takes longer than the database transaction.
    pub pipes: usize,
    /// A pipe starts at most one batch in this time; zero means no limit. A command waits at most this long
    /// for others. Each batch has a fixed cost on every machine.
    #[serde(with = "human_duration")]
    pub batch_interval: Duration,
    /// Commands in one batch. A COMMIT costs the same for one and for hundreds; beyond 256 the rows
    /// themselves cost, and the first command waits for the last.
    pub batch_max: usize,
    /// Commands that wait in one lane; more are refused at once. The default is a third of a second of work,
    /// so that a short break refuses nobody. With `reads_max` it also bounds the connections that a dead
    /// shard can hold. Keep their sum well below `server.connections_max`.
    pub queue_max: usize,
    /// How long a command may wait in its lane, as estimated from the last full batches; longer waits are
    /// refused at once. Long enough for 2,000 connections on a slow machine and for a busy disk; short enough
    /// for a client at a till.
    #[serde(with = "human_duration")]
    pub queue_wait: Duration,
    /// Reads per shard at once; more are refused at once, so that a slow shard's readers do not fill the
    /// gateway. The default is a quarter of a second of reads on two cores.
    pub reads_max: usize,
    /// How long a request may wait for an owner of its slot, counted from when the gateway noticed that it
    /// has none. It covers a mover's pause budget (500 ms by default), the time to abort such a move, and a
    /// busy machine. A longer gap is no pause but needs an operator; then requests are answered at once.
    #[serde(with = "human_duration")]
    pub move_wait: Duration,
    /// Requests that may wait for an owner at once; more are refused at once. A pause of a hundred slots at
    /// 20,000 requests a second holds 500 in a second. Four times that is still a fifth of
    /// `server.connections_max`.
    pub moving_max: usize,
    /// How often each shard is asked for its slots, health and replica lag.
    #[serde(with = "human_duration")]
    pub poll_interval: Duration,
    /// How long a poll may take. A shard that takes longer is not ready for anything else either.
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

/// The names of the fields in which two differ, with the table's name before them.
macro_rules! differing {
    ($before:expr, $after:expr; $($field:ident)*) => {
        [$((concat!("shard_client.", stringify!($field)), $before.$field != $after.$field)),*]
    };
}

impl ShardClientConfig {
    /// The settings in which `after` differs.
    pub fn differences(&self, after: &Self) -> Vec<&'static str> {
        let all = differing!(self, after; request_timeout call_timeout connect_timeout node_idle_timeout lanes pipes
            batch_interval batch_max queue_max queue_wait reads_max move_wait moving_max poll_interval poll_timeout);
        all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }

    /// Everything that is wrong with the numbers. Each text begins with the field's name.
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

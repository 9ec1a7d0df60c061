//! A node that loses replies, as no real one does when asked to.
//!
//! It keeps no money. It answers each command as the test says, or hangs up at the moment that matters: after it has
//! the whole request, before it says anything.

use std::collections::VecDeque;
use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picopay_shared::command::{
    Command, Kind, Moved, Operation, Outcome, Status, Transaction, WRITE_PATH, WriteBatch, WriteReply,
};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::TransactionId;
use picopay_shared::node_mark::{DEADLINE_AT_HEADER, NODE_HEADER, NodeMoment};
use picopay_shared::node_status::{CacheState, NodeStatus, OwnedRange, WIRE_VERSION};
use picopay_shared::query::{Answer, DEADLINE_HEADER, Found, READ_PATH, ReadRequest, Source};
use picopay_shared::read_batch::{Frame, READ_BATCH_PATH, reads_from_wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the node does with one batch.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Book,
    Replay,
    /// Has the request, says nothing and hangs up: the reply is lost.
    HangUp,
    Stall,
    /// Books every command after this long.
    BookAfter(Duration),
    /// Books every command when [`ScriptedNode::book_now`] says so.
    BookWhenTold,
    HalfAnswer,
    Unavailable,
    Unknown,
    Moved,
    /// Says that the slot has gone to `shard-9`, at a higher epoch than the node still claims for itself.
    MovedAway,
    Reject(u16),
    /// Books every command; but something on the way answers with this status and a page, and the node's answer is lost.
    OnTheWay(u16),
    Nonsense,
    /// Says that nothing happened to the first so many commands, and books the others.
    UnavailableBefore(usize),
}

pub struct ScriptedNode {
    pub url: String,
    state: Arc<State>,
}

struct State {
    shard: String,
    owned: OwnedRange,
    /// What it wants to be shown, if it looks.
    secret: Mutex<Option<String>>,
    script: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<WriteBatch>>,
    reads: Mutex<Vec<ReadRequest>>,
    reads_left_ms: Mutex<Vec<u64>>,
    told: Notify,
    is_frozen: AtomicBool,
    is_not_ready: AtomicBool,
    wire_version: AtomicU16,
    /// The reads of each batch that arrived, as many as there were.
    read_batches: Mutex<Vec<usize>>,
    takes_batches: AtomicBool,
    started: Instant,
    /// What gateways said of until when they wait, by its own clock, of each batch and read.
    deadlines_at: Mutex<Vec<Option<NodeMoment>>>,
}

/// A number that a node would make up for its process.
const PROCESS: u64 = 7;

impl ScriptedNode {
    /// Follows the script batch by batch; after its end every batch is booked. The only shard of its cluster.
    pub async fn start(script: &[Step]) -> Self {
        Self::start_as("shard-1", 0..=4095, script).await
    }

    /// The same for one shard of several, which owns these slots.
    pub async fn start_as(name: &str, slots: RangeInclusive<u16>, script: &[Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Mutex::new(script.iter().copied().collect());
        let state = Arc::new(State {
            shard: name.to_owned(),
            owned: OwnedRange { first: *slots.start(), last: *slots.end(), epoch: 1 },
            secret: Mutex::default(),
            script,
            seen: Mutex::default(),
            reads: Mutex::default(),
            reads_left_ms: Mutex::default(),
            told: Notify::new(),
            is_frozen: AtomicBool::new(false),
            is_not_ready: AtomicBool::new(false),
            wire_version: AtomicU16::new(0),
            read_batches: Mutex::default(),
            takes_batches: AtomicBool::new(true),
            started: Instant::now(),
            deadlines_at: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    pub fn book_now(&self) {
        self.state.told.notify_one();
    }

    /// From now on it takes connections and requests of every kind, and answers none of them, as after SIGSTOP.
    pub fn freeze(&self) {
        self.state.is_frozen.store(true, Ordering::Relaxed);
    }

    pub fn thaw(&self) {
        self.state.is_frozen.store(false, Ordering::Relaxed);
    }

    pub fn close_gate(&self) {
        self.state.is_not_ready.store(true, Ordering::Relaxed);
    }

    pub fn open_gate(&self) {
        self.state.is_not_ready.store(false, Ordering::Relaxed);
    }

    /// From now on it says that it speaks this version of the wire. Before, it says nothing of it.
    pub fn speak(&self, wire_version: u16) {
        self.state.wire_version.store(wire_version, Ordering::Relaxed);
    }

    /// From now on it knows no batches of reads, whatever it said: a process of the release before is in its place.
    pub fn know_no_batches(&self) {
        self.state.takes_batches.store(false, Ordering::Relaxed);
    }

    /// How many reads each batch had.
    pub fn read_batches(&self) -> Vec<usize> {
        self.state.read_batches.lock().unwrap().clone()
    }

    /// Until when each batch and read said that its gateway waits, by this node's clock; and what that shows now.
    pub fn deadlines_at(&self) -> (Vec<Option<NodeMoment>>, NodeMoment) {
        (self.state.deadlines_at.lock().unwrap().clone(), self.state.now())
    }

    /// From now on it refuses who does not show this.
    pub fn want(&self, secret: &str) {
        *self.state.secret.lock().unwrap() = Some(secret.to_owned());
    }

    pub fn reads_left_ms(&self) -> Vec<u64> {
        self.state.reads_left_ms.lock().unwrap().clone()
    }

    pub fn reads(&self) -> Vec<ReadRequest> {
        self.state.reads.lock().unwrap().clone()
    }

    pub fn seen(&self) -> Vec<WriteBatch> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl State {
    async fn answer_read(&self, stream: &mut TcpStream, head: &str, body: &[u8]) {
        self.note_deadline(head);
        let left = head.lines().find_map(|line| line.strip_prefix(&format!("{DEADLINE_HEADER}: ")));
        self.reads_left_ms.lock().unwrap().push(left.expect("a deadline").trim().parse().unwrap());
        self.note_seen(READ_PATH, body);
        let answer = Answer { found: Found::UserNotFound, source: Source::Primary };
        self.respond(stream, 200, &postcard::to_stdvec(&answer).unwrap()).await;
    }

    fn note_seen(&self, path: &str, body: &[u8]) {
        if path == WRITE_PATH {
            self.seen.lock().unwrap().push(postcard::from_bytes(body).unwrap());
        } else if path == READ_PATH {
            self.reads.lock().unwrap().push(ReadRequest::from_wire(body).unwrap());
        }
    }

    fn now(&self) -> NodeMoment {
        NodeMoment { process: PROCESS, ms: u64::try_from(self.started.elapsed().as_millis()).unwrap() }
    }

    fn note_deadline(&self, head: &str) {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{DEADLINE_AT_HEADER}: ")));
        self.deadlines_at.lock().unwrap().push(line.and_then(|text| NodeMoment::parse(text.trim())));
    }

    async fn answer_batch(&self, stream: &mut TcpStream, body: &[u8]) {
        if !self.takes_batches.load(Ordering::Relaxed) {
            return self.respond(stream, 404, b"").await;
        }
        let reads = reads_from_wire(body).unwrap();
        self.read_batches.lock().unwrap().push(reads.len());
        let answer = Answer { found: Found::UserNotFound, source: Source::Primary }.to_wire();
        let mut answers = Vec::new();
        for place in (0..reads.len()).rev() {
            Frame::write(&mut answers, u32::try_from(place).unwrap(), &answer);
        }
        self.reads.lock().unwrap().extend(reads.into_iter().map(|(_, request)| request));
        self.respond(stream, 200, &answers).await;
    }

    async fn respond(&self, stream: &mut TcpStream, status: u16, body: &[u8]) {
        respond(stream, status, &format!("{NODE_HEADER}: {}\r\n", self.now()), body).await;
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap();
        if state.is_frozen.load(Ordering::Relaxed) {
            // What arrived is seen, also by a process that does nothing about it.
            state.note_seen(path, &body);
            return pending().await;
        }
        let wanted = state.secret.lock().unwrap().clone();
        if wanted.is_some_and(|secret| !head.contains(&format!("authorization: bearer {secret}\r\n"))) {
            state.respond(&mut stream, 401, b"").await;
            continue;
        }
        if path == READ_PATH {
            state.answer_read(&mut stream, &head, &body).await;
            continue;
        }
        if path == READ_BATCH_PATH {
            state.note_deadline(&head);
            state.answer_batch(&mut stream, &body).await;
            continue;
        }
        if path != WRITE_PATH {
            let status = NodeStatus {
                shard: state.shard.clone(),
                is_ready: !state.is_not_ready.load(Ordering::Relaxed),
                not_ready_reason: None,
                degraded: None,
                generation: Some(1),
                wire: state.wire_version.load(Ordering::Relaxed),
                finished: WIRE_VERSION,
                older_caller_ms: None,
                owned: [state.owned].into_iter().filter(|range| range.first <= range.last).collect(),
                importing: Vec::new(),
                replica_lag_ms: None,
                cache: CacheState::Off,
            };
            state.respond(&mut stream, 200, &serde_json::to_vec(&status).unwrap()).await;
            continue;
        }
        state.note_deadline(&head);
        let batch: WriteBatch = postcard::from_bytes(&body).unwrap();
        state.seen.lock().unwrap().push(batch.clone());
        let step = state.script.lock().unwrap().pop_front().unwrap_or(Step::Book);
        let mut spared = 0;
        let outcome: fn(&Command) -> Outcome = match step {
            Step::UnavailableBefore(count) => {
                spared = count;
                |command| booked(command, false)
            }
            Step::Book => |command| booked(command, false),
            Step::BookAfter(wait) => {
                // The slowness that the test wants of its node.
                tokio::time::sleep(wait).await;
                |command| booked(command, false)
            }
            Step::BookWhenTold => {
                state.told.notified().await;
                |command| booked(command, false)
            }
            Step::Replay => |command| booked(command, true),
            Step::Unavailable => |_| Outcome::Unavailable { reason: "scripted".into() },
            Step::Unknown => |_| Outcome::OutcomeUnknown,
            Step::Moved => {
                |command| Outcome::Moved(Moved { slot: command.operation.slot(), owner: None, epoch: 1 })
            }
            Step::MovedAway => |command| {
                let owner = Some("shard-9".to_owned());
                Outcome::Moved(Moved { slot: command.operation.slot(), owner, epoch: 2 })
            },
            Step::HangUp => return,
            Step::Stall => return pending().await,
            Step::HalfAnswer => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
                return;
            }
            Step::OnTheWay(status) => {
                respond(&mut stream, status, "content-type: text/html\r\n", b"<p>no answer</p>").await;
                continue;
            }
            Step::Nonsense => {
                state.respond(&mut stream, 200, b"<p>nothing of a shard node</p>").await;
                continue;
            }
            Step::Reject(status) => {
                state.respond(&mut stream, status, b"").await;
                continue;
            }
        };
        let unavailable = || Outcome::Unavailable { reason: "scripted".into() };
        let outcomes = batch.attempts.iter().enumerate();
        let outcomes =
            outcomes.map(
                |(position, attempt)| {
                    if position < spared { unavailable() } else { outcome(&attempt.command) }
                },
            );
        let outcomes = outcomes.collect();
        let reply = WriteReply { outcomes, cache_hits: 0, commit_us: 100, position: None };
        state.respond(&mut stream, 200, &postcard::to_stdvec(&reply).unwrap()).await;
    }
}

fn booked(command: &Command, is_replayed: bool) -> Outcome {
    let Operation::Charge(payment) = &command.operation else { return Outcome::UserCreated };
    Outcome::Decided {
        transaction: Box::new(Transaction {
            id: TransactionId::first_at(1_795_348_800_123),
            user_id: payment.user_id,
            kind: Kind::Charge,
            status: Status::Completed,
            money: payment.money,
            balance_after: payment.money,
            idempotency_key: Some(command.idempotency_key),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart::default(),
            transfer: None,
        }),
        is_replayed,
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
    let mut body = bytes.split_off(end);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}

async fn respond(stream: &mut TcpStream, status: u16, header: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status} Scripted\r\n{header}content-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
}

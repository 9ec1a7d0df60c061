//! One thread that sends and receives: the schedule, the connections and the traffic meet here.
//!
//! A readiness loop of its own, rather than a task for each connection, so that a request costs little beyond its two
//! system calls: the load test shares the machine with what it measures.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::alarm::Alarm;
use crate::arrivals::Schedule;
use crate::http_client::connection::{Connection, Lost, Progress};
use crate::http_client::response::Head;
use crate::http_client::target::Target;
use crate::shard_map::ShardMap;
use crate::tally::{Second, Tally, count_error};
use crate::timing::Timing;
use crate::traffic::{Answer, Traffic, Verdict};

const SECOND_NS: u64 = 1_000_000_000;
/// Read from the kernel in one go.
const EVENTS_MAX: usize = 1_024;
/// The longest sleep: how late a Ctrl-C may be noticed, and how coarse time-outs are.
const NAP: Duration = Duration::from_millis(50);
/// How long the start waits for connections. Those that need longer are made while the load runs.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was lost is made again after this long; each further failure doubles it, up to the second number.
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How long answers are waited for after Ctrl-C, and how long connections are after the end.
const PATIENCE_AT_END: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub enum Pace {
    Closed,
    Open {
        schedule: Schedule,
        /// Arrivals that may wait for a connection; what comes on top is dropped.
        waiting_max: usize,
    },
}

#[derive(Debug, Clone)]
pub struct Orders {
    pub target: Target,
    pub connections: usize,
    pub pace: Pace,
    /// Where all workers of a run wait for each other before they start.
    pub gate: Arc<Gate>,
    pub warmup: Duration,
    /// What is measured after it. The traffic may end earlier.
    pub duration: Duration,
    pub request_timeout: Duration,
    pub shards: Arc<ShardMap>,
    pub stop: Arc<AtomicBool>,
}

/// All workers of a run start at the same moment, with their connections made.
#[derive(Debug)]
pub struct Gate {
    barrier: Barrier,
    started: OnceLock<Instant>,
}

impl Gate {
    pub fn new(workers: usize) -> Self {
        Self { barrier: Barrier::new(workers), started: OnceLock::new() }
    }

    fn pass(&self) -> Instant {
        self.barrier.wait();
        *self.started.get_or_init(Instant::now)
    }
}

/// Runs one worker until its time is over or its traffic has ended, and returns what it counted. Each second is handed to
/// `report` when it is over.
pub fn run<T: Traffic>(orders: Orders, traffic: T, report: impl FnMut(Second)) -> io::Result<Tally> {
    let gate = Arc::clone(&orders.gate);
    let opened = Worker::open(orders, traffic, report);
    // Passed with or without success: the others wait for it.
    let started = gate.pass();
    let mut worker = opened?;
    worker.started = started;
    worker.work()
}

#[derive(Debug)]
struct Line<R> {
    connection: Connection,
    request: Option<R>,
    intended_ns: u64,
    sent_ns: u64,
    /// Not to be used before; 0 when it may.
    resumes_ns: u64,
    reconnect: Duration,
}

impl<R> Line<R> {
    fn new(target: &Target) -> Self {
        let connection = Connection::new(target);
        Self {
            connection,
            request: None,
            intended_ns: 0,
            sent_ns: 0,
            resumes_ns: 0,
            reconnect: RECONNECT_FIRST,
        }
    }

    fn timing(&self, ended_ns: u64) -> Timing {
        Timing { intended_ns: self.intended_ns, sent_ns: self.sent_ns, ended_ns }
    }
}

struct Worker<T: Traffic, F> {
    orders: Orders,
    started: Instant,
    traffic: T,
    report: F,
    poll: Poll,
    alarm: Alarm,
    lines: Vec<Line<T::Request>>,
    idle: VecDeque<usize>,
    /// Intended starts of arrivals that found no free connection.
    waiting: VecDeque<u64>,
    busy: usize,
    has_ended: bool,
    is_over: bool,
    armed_ns: u64,
    next_check_ns: u64,
    warmup_ns: u64,
    end_ns: u64,
    timeout_ns: u64,
    tally: Tally,
    second: Second,
}

impl<T: Traffic, F: FnMut(Second)> Worker<T, F> {
    fn open(orders: Orders, traffic: T, report: F) -> io::Result<Self> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), Token(orders.connections))?;
        let lines = (0..orders.connections).map(|_| Line::new(&orders.target)).collect();
        let mut worker = Self {
            warmup_ns: nanos(orders.warmup),
            end_ns: nanos(orders.warmup + orders.duration),
            timeout_ns: nanos(orders.request_timeout),
            started: Instant::now(),
            poll,
            alarm,
            lines,
            idle: VecDeque::with_capacity(orders.connections),
            waiting: VecDeque::new(),
            busy: 0,
            has_ended: false,
            is_over: false,
            armed_ns: 0,
            next_check_ns: 0,
            tally: Tally::default(),
            second: Second::default(),
            orders,
            traffic,
            report,
        };
        worker.connect_all()?;
        Ok(worker)
    }

    fn connect_all(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        for place in 0..self.lines.len() {
            self.connect(place)?;
        }
        while self.idle.len() < self.lines.len() && self.started.elapsed() < CONNECT_PATIENCE {
            self.wait(&mut events, NAP)?;
            self.advance_all(&events)?;
        }
        Ok(())
    }

    fn work(&mut self) -> io::Result<Tally> {
        let cpu_at_start = thread_cpu();
        // What failed while connecting belongs to no second; lines that wait for their next try do so from here.
        (self.second, self.tally) = (Second::default(), Tally::default());
        self.lines.iter_mut().filter(|line| line.resumes_ns != 0).for_each(|line| line.resumes_ns = 1);
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut over_since_ns = None;
        loop {
            let now = self.now();
            self.close_seconds(now);
            let is_stopped = self.orders.stop.load(Ordering::Relaxed);
            self.is_over = now >= self.end_ns || is_stopped;
            // Before the end is weighed: a thread that woke up late still owes the arrivals from before it.
            self.take_arrivals(now, is_stopped);
            if self.is_over || self.has_ended {
                // What was due in time is still sent and waited for: to leave out the slow ones would flatter.
                let has_nobody = self.busy == 0 && self.idle.is_empty();
                let patience =
                    if is_stopped || has_nobody { nanos(PATIENCE_AT_END) } else { self.timeout_ns };
                let over_ns = *over_since_ns.get_or_insert(now);
                if is_stopped || self.has_ended {
                    self.drop_waiting();
                }
                if (self.busy == 0 && self.waiting.is_empty()) || now >= over_ns.saturating_add(patience) {
                    break;
                }
            }
            self.start_requests();
            if now >= self.next_check_ns {
                self.next_check_ns = now + nanos(NAP);
                self.check_lines(now)?;
            }
            let sleep = self.time_to_sleep()?;
            let slept = Instant::now();
            self.wait(&mut events, sleep)?;
            if !sleep.is_zero() && !self.is_over {
                self.tally.slept_ns += nanos(slept.elapsed());
            }
            self.advance_all(&events)?;
        }
        self.give_up_the_rest();
        let now = self.now();
        self.close_seconds(now);
        if !self.second.is_empty() {
            self.finish_second();
        }
        self.tally.cpu_ns = thread_cpu().saturating_sub(cpu_at_start);
        self.tally.wall_ns = now;
        Ok(std::mem::take(&mut self.tally))
    }

    fn now(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    fn is_measured(&self, ns: u64) -> bool {
        (self.warmup_ns..self.end_ns).contains(&ns)
    }

    /// Takes what is due off the schedule: to a connection if one is free, else to wait.
    fn take_arrivals(&mut self, now: u64, is_stopped: bool) {
        let until_ns = now.min(self.end_ns.saturating_sub(1));
        let Pace::Open { schedule, waiting_max } = &mut self.orders.pace else { return };
        if is_stopped || self.has_ended {
            return;
        }
        let measured = self.warmup_ns..self.end_ns;
        let operations = self.traffic.operations();
        while schedule.next_ns() <= until_ns {
            let intended_ns = schedule.next_ns();
            schedule.advance();
            let is_measured = measured.contains(&intended_ns);
            self.second.offered += operations;
            if is_measured {
                self.tally.offered += operations;
                self.tally.lag.record_ns(now.saturating_sub(intended_ns));
            }
            if self.idle.len() > self.waiting.len() {
                self.waiting.push_back(intended_ns);
            } else if self.waiting.len() < *waiting_max + self.idle.len() {
                self.tally.waited += if is_measured { operations } else { 0 };
                self.waiting.push_back(intended_ns);
            } else {
                self.second.dropped += operations;
                self.tally.dropped += if is_measured { operations } else { 0 };
            }
        }
    }

    fn drop_waiting(&mut self) {
        let operations = self.traffic.operations();
        for intended_ns in std::mem::take(&mut self.waiting) {
            self.second.dropped += operations;
            self.tally.dropped += if self.is_measured(intended_ns) { operations } else { 0 };
        }
    }

    fn start_requests(&mut self) {
        while !self.idle.is_empty() && !self.has_ended {
            let intended_ns = match &self.orders.pace {
                Pace::Closed if self.is_over => break,
                Pace::Closed => None,
                Pace::Open { .. } => match self.waiting.pop_front() {
                    Some(intended_ns) => Some(intended_ns),
                    None => break,
                },
            };
            let Some(place) = self.idle.pop_front() else { break };
            self.start(place, intended_ns);
        }
    }

    fn start(&mut self, place: usize, intended_ns: Option<u64>) {
        let line = &mut self.lines[place];
        if !line.connection.is_idle() {
            // It ended while it was idle, and is being made anew.
            if let Some(intended_ns) = intended_ns {
                self.waiting.push_front(intended_ns);
            }
            return;
        }
        let Some(request) = self.traffic.next(line.connection.output()) else {
            self.has_ended = true;
            self.idle.push_front(place);
            return;
        };
        let sent_ns = nanos(self.started.elapsed());
        line.intended_ns = intended_ns.unwrap_or(sent_ns);
        line.sent_ns = sent_ns;
        line.request = Some(request);
        self.busy += 1;
        self.tally.sent += 1;
        if intended_ns.is_none() {
            let operations = self.traffic.operations();
            self.second.offered += operations;
            self.tally.offered += if self.is_measured(sent_ns) { operations } else { 0 };
        }
        if let Err(lost) = self.lines[place].connection.send() {
            self.lose(place, lost);
        }
    }

    fn advance(&mut self, place: usize, has_ended: bool) -> io::Result<()> {
        let line = &mut self.lines[place];
        match line.connection.advance(has_ended) {
            Progress::Pending => Ok(()),
            Progress::Connected => {
                self.idle.push_back(place);
                Ok(())
            }
            Progress::Answered(head) => {
                let Some(request) = line.request.take() else { return Ok(()) };
                let (body, session) = (line.connection.body(&head), line.connection.session(&head));
                let Head { status, is_replayed, .. } = head;
                let answer = Answer::Reply { status, is_replayed, session, body };
                let timing = line.timing(nanos(self.started.elapsed()));
                let verdict = self.traffic.judge(request, answer, timing);
                let pause = verdict.pause;
                // To judge takes its time too.
                let now = self.now();
                self.count(verdict, timing);
                let line = &mut self.lines[place];
                line.reconnect = RECONNECT_FIRST;
                if let Some(pause) = pause {
                    line.resumes_ns = now + nanos(pause);
                    Ok(())
                } else if line.connection.is_idle() {
                    self.next_on(place, now);
                    Ok(())
                } else {
                    self.connect(place)
                }
            }
            Progress::Gone(lost, malformed) => {
                if let Some(malformed) = malformed {
                    self.tally.malformed.get_or_insert_with(|| malformed.to_string());
                }
                self.lose(place, lost);
                Ok(())
            }
        }
    }

    /// A connection has become free: what comes next goes out at once, without a round through the loop.
    fn next_on(&mut self, place: usize, now: u64) {
        let is_over = self.is_over || now >= self.end_ns || self.has_ended;
        match &self.orders.pace {
            Pace::Closed if !is_over => self.start(place, None),
            Pace::Open { .. } if !self.waiting.is_empty() && !self.has_ended => {
                let intended_ns = self.waiting.pop_front();
                self.start(place, intended_ns);
            }
            _ => self.idle.push_back(place),
        }
    }

    /// A connection is gone, and its request with it if it had one. It is made again a little later, so that a gateway that
    /// is down is not hammered.
    fn lose(&mut self, place: usize, lost: Lost) {
        let now = self.now();
        if let Some(request) = self.lines[place].request.take() {
            let timing = self.lines[place].timing(now);
            let verdict = self.traffic.judge(request, Answer::Lost(lost), timing);
            self.count(verdict, timing);
        } else if lost == Lost::ConnectFailed {
            count_error(&mut self.second.errors, lost.code(), 1);
            if self.is_measured(now) {
                count_error(&mut self.tally.errors, lost.code(), 1);
            }
        }
        self.idle.retain(|idle| *idle != place);
        let line = &mut self.lines[place];
        line.resumes_ns = now + nanos(line.reconnect);
        line.reconnect = (line.reconnect * 2).min(RECONNECT_MAX);
    }

    fn count(&mut self, mut verdict: Verdict, timing: Timing) {
        self.busy -= 1;
        let rest = std::mem::take(&mut verdict.rest);
        self.count_one(verdict, timing);
        for verdict in rest {
            self.count_one(verdict, timing);
        }
    }

    fn count_one(&mut self, verdict: Verdict, timing: Timing) {
        match &verdict.result {
            Ok(()) => {
                self.second.achieved += 1;
                self.second.latency.record_ns(timing.ended_ns.saturating_sub(timing.intended_ns));
                self.tally.achieved += u64::from(self.is_measured(timing.ended_ns));
            }
            Err(code) => count_error(&mut self.second.errors, code, 1),
        }
        if self.is_measured(timing.intended_ns) {
            self.tally.count(&verdict, timing, &self.orders.shards);
        }
        if let Some(broken) = verdict.broken {
            self.tally.count_broken(broken);
        }
    }

    fn connect(&mut self, place: usize) -> io::Result<()> {
        match self.lines[place].connection.connect(self.poll.registry(), Token(place)) {
            Ok(()) => Ok(()),
            // Nothing that trying again would mend.
            Err(error) if is_out_of_descriptors(&error) => Err(error),
            Err(_) => {
                self.lose(place, Lost::ConnectFailed);
                Ok(())
            }
        }
    }

    fn check_lines(&mut self, now: u64) -> io::Result<()> {
        for place in 0..self.lines.len() {
            let line = &mut self.lines[place];
            if line.connection.is_busy() && now.saturating_sub(line.sent_ns) > self.timeout_ns {
                // The answer may still come; on this connection it would be taken for the next one's.
                line.connection.close();
                self.lose(place, Lost::NoAnswer);
            } else if line.resumes_ns != 0 && now >= line.resumes_ns {
                line.resumes_ns = 0;
                if line.connection.is_idle() {
                    self.idle.push_back(place);
                } else {
                    self.connect(place)?;
                }
            }
        }
        Ok(())
    }

    /// How long there will be nothing to do; sets the alarm for the next arrival.
    fn time_to_sleep(&mut self) -> io::Result<Duration> {
        let now = self.now();
        let next_second_ns = (self.second.index + 1) * SECOND_NS;
        let until_ns = next_second_ns.min(now + nanos(NAP));
        match &self.orders.pace {
            Pace::Open { schedule, .. }
                if !self.has_ended && schedule.next_ns() < until_ns.min(self.end_ns) =>
            {
                let next_ns = schedule.next_ns();
                if next_ns <= now {
                    return Ok(Duration::ZERO);
                }
                // An alarm that is set for this arrival already will still go off.
                if self.armed_ns != next_ns {
                    self.armed_ns = next_ns;
                    return self.alarm.arm(Duration::from_nanos(next_ns - now));
                }
            }
            _ => {}
        }
        Ok(Duration::from_nanos(until_ns.saturating_sub(now)))
    }

    fn wait(&mut self, events: &mut Events, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn advance_all(&mut self, events: &Events) -> io::Result<()> {
        for event in events {
            let Token(place) = event.token();
            if place < self.lines.len() {
                self.advance(place, event.is_read_closed() || event.is_error())?;
            }
        }
        Ok(())
    }

    /// Hands over the seconds that are over.
    fn close_seconds(&mut self, now: u64) {
        while now >= (self.second.index + 1) * SECOND_NS {
            self.finish_second();
            self.traffic.every_second();
        }
    }

    fn finish_second(&mut self) {
        let next = Second { index: self.second.index + 1, ..Second::default() };
        let mut over = std::mem::replace(&mut self.second, next);
        over.waiting = u64::try_from(self.waiting.len()).expect("fits 64 bits");
        over.in_flight = u64::try_from(self.busy).expect("fits 64 bits");
        (self.report)(over);
    }

    /// What is still on its way when patience ends counts as unanswered.
    fn give_up_the_rest(&mut self) {
        self.drop_waiting();
        for place in 0..self.lines.len() {
            if let Some(request) = self.lines[place].request.take() {
                let timing = self.lines[place].timing(self.now());
                let verdict = self.traffic.judge(request, Answer::Lost(Lost::NoAnswer), timing);
                self.count(verdict, timing);
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What this thread has used of a core: the clock that shows what the load test itself costs.
fn thread_cpu() -> u64 {
    let used = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    used.map_or(0, |used| nanos(Duration::from(used)))
}

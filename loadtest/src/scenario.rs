//! What the load consists of: which operations, about which users, how many of them repeats.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::bail;
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::{Slot, UserId};
use serde::Serialize;

use crate::acks::AckSink;
use crate::batch_answer::BatchAnswer;
use crate::http_client::target::{Form, Target, write_number};
use crate::random::Random;
use crate::timing::Timing;
use crate::traffic::{Answer, Kind, Promise, Traffic, Verdict, problem_code};
use crate::write::{KeySource, UuidText, Wish, Write, WriteForms, minor_units};
use crate::write_answer::WriteAnswer;

mod judgement;
use judgement::{Answered, Judgement, is_recorded, judge_read, judge_repeat, show};

/// How many answered writes a worker remembers, to send them again: the last tenth of a second at the speed of one
/// core.
const REPEATABLE_MAX: usize = 4_096;

/// Of the holds: captured, wholly or in part. The others are voided.
const CAPTURES: f64 = 0.7;

/// How many charges a worker remembers to refund, and how many open holds.
const REFUNDABLE_MAX: usize = 4_096;

/// The gateway's own limit (contract, "Batch").
const BATCH_MAX: u16 = 500;

/// Transactions on a page of history: the API's own default.
const HISTORY_LIMIT: &str = "&limit=20";

/// The flags that say what the load consists of.
#[derive(Debug, Clone, Serialize, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct ScenarioArgs {
    /// How many users there are.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub users: u64,
    /// The lowest user id. Users that other runs made keep their money and are topped up.
    #[arg(long, default_value_t = 1, value_name = "ID")]
    pub first_user: u64,
    /// Share of the charges that are about one and the same user, the first.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub hot_share: f64,
    /// Share of the writes that repeat an earlier write with its key (a retry storm). Each answer is compared with the first.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub duplicates: f64,
    /// Share of the requests that read a page of history.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub history: f64,
    /// Share of the requests that read a balance.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub balance_reads: f64,
    /// Share of the requests that refund a recent charge.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub refunds: f64,
    /// Share of the requests that top a user up.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub topups: f64,
    /// Share of the requests that hold money, or capture or void what an earlier one holds.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub holds: f64,
    /// Share of the requests that move money from a user to another.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub transfers: f64,
    /// Send this many writes in each request (1 to 500, each with its own key); without it each goes alone. All figures
    /// count the writes, --rate the requests.
    #[arg(long, value_name = "N")]
    pub batch: Option<u16>,
    /// The currency of everything.
    #[arg(long, default_value = "USD", value_name = "CODE")]
    pub currency: String,
    /// The largest charge; each is drawn between the currency's smallest unit and this.
    #[arg(long, default_value = "1", value_name = "AMOUNT")]
    pub amount_max: String,
    /// The same seed gives the same users, amounts, order and arrivals. Idempotency keys are new in every run.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

impl ScenarioArgs {
    /// Nothing but charges, spread evenly over this many users.
    pub fn charges(users: u64) -> Self {
        Self {
            users,
            first_user: 1,
            hot_share: 0.0,
            duplicates: 0.0,
            history: 0.0,
            balance_reads: 0.0,
            refunds: 0.0,
            topups: 0.0,
            holds: 0.0,
            transfers: 0.0,
            batch: None,
            currency: "USD".to_owned(),
            amount_max: "1".to_owned(),
            seed: 1,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Scenario {
    args: ScenarioArgs,
    currency: Currency,
    amount_max: u64,
    run: u64,
}

impl Scenario {
    /// Checks the flags. Each scenario is a run of its own: it uses keys that no other used.
    pub fn new(args: ScenarioArgs) -> anyhow::Result<Self> {
        let kinds = [
            ("--history", args.history),
            ("--balance-reads", args.balance_reads),
            ("--refunds", args.refunds),
            ("--topups", args.topups),
            ("--holds", args.holds),
            ("--transfers", args.transfers),
        ];
        for (flag, share) in kinds.into_iter().chain([("--hot-share", args.hot_share)]) {
            if !(0.0..=1.0).contains(&share) {
                bail!("{flag} {share}: a share is a number from 0 to 1, for example 0.2");
            }
        }
        // Never all: there must be something to repeat.
        if !(0.0..=0.99).contains(&args.duplicates) {
            bail!(
                "--duplicates {}: a share from 0 to 0.99; somebody has to send the first request",
                args.duplicates
            );
        }
        let sum: f64 = kinds.iter().map(|(_, share)| share).sum();
        if sum > 1.0 + 1e-9 {
            let flags: Vec<String> = kinds.iter().map(|(flag, share)| format!("{flag} {share}")).collect();
            bail!(
                "{} are together {sum}, more than all requests (charges are what remains)",
                flags.join(", ")
            );
        }
        if let Some(batch) = args.batch {
            if !(1..=BATCH_MAX).contains(&batch) {
                bail!("--batch {batch}: a request has 1 to {BATCH_MAX} operations");
            }
            if args.history + args.balance_reads > 0.0 {
                bail!("--batch {batch}: a batch has writes only; leave out --history and --balance-reads");
            }
            if args.transfers > 0.0 {
                bail!("--batch {batch}: a batch takes no transfers; leave out --transfers");
            }
        }
        if args.transfers > 0.0 && args.users < 2 {
            bail!("--transfers {}: nobody transfers to himself; --users must be at least 2", args.transfers);
        }
        if args.users == 0 {
            bail!("--users 0: somebody has to be charged");
        }
        let last = args.first_user.checked_add(args.users - 1);
        if args.first_user == 0 || last.is_none_or(|last| i64::try_from(last).is_err()) {
            bail!(
                "--first-user {} --users {}: user ids go from 1 to 9223372036854775807",
                args.first_user,
                args.users
            );
        }
        let currency = Currency::parse(&args.currency);
        let currency = currency.map_err(|error| anyhow::anyhow!("--currency {}: {error}", args.currency))?;
        let amount_max = Money::parse(&args.amount_max, currency);
        let amount_max =
            amount_max.map_err(|error| anyhow::anyhow!("--amount-max {}: {error}", args.amount_max))?;
        Ok(Self { args, currency, amount_max: minor_units(amount_max), run: rand::random() })
    }

    pub fn args(&self) -> &ScenarioArgs {
        &self.args
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }

    pub fn run(&self) -> u64 {
        self.run
    }

    pub fn user(&self, rank: u64) -> UserId {
        let id = i64::try_from(self.args.first_user + rank).expect("checked when the scenario was made");
        UserId::try_from(id).expect("checked when the scenario was made")
    }
}

#[derive(Debug)]
pub struct ScenarioTraffic {
    scenario: Scenario,
    random: Random,
    keys: KeySource,
    forms: WriteForms,
    balance: Form,
    history: Form,
    acks: Option<AckSink>,
    repeatable: VecDeque<Rc<Answered>>,
    refundable: VecDeque<Refundable>,
    open_holds: VecDeque<OpenHold>,
}

#[derive(Debug, Clone, Copy)]
struct Refundable {
    charge: UuidText,
    user: UserId,
    minor_units: u64,
}

#[derive(Debug, Clone, Copy)]
struct OpenHold {
    hold: UuidText,
    user: UserId,
    minor_units: u64,
}

#[derive(Debug)]
pub enum Sent {
    Alone(Asked),
    Batch(Vec<Asked>),
}

#[derive(Debug)]
pub enum Asked {
    First(Write),
    Repeat(Rc<Answered>),
    Balance(UserId),
    History(UserId),
}

impl ScenarioTraffic {
    /// For the worker of this number. Workers of one scenario draw from separate streams.
    pub fn new(scenario: &Scenario, target: &Target, worker: u32, acks: Option<AckSink>) -> Self {
        let args = scenario.args();
        Self {
            // Odd streams; the even ones belong to the schedules.
            random: Random::new(args.seed, u64::from(worker) * 2 + 1),
            keys: KeySource::new(scenario.run, worker),
            forms: WriteForms::new(target, scenario.currency),
            balance: target.form("GET", "/v1/users/"),
            history: target.form("GET", "/v1/transactions?user_id="),
            acks,
            repeatable: VecDeque::new(),
            refundable: VecDeque::new(),
            open_holds: VecDeque::new(),
            scenario: scenario.clone(),
        }
    }

    fn choose(&mut self) -> Asked {
        let args = &self.scenario.args;
        let mut point = self.random.unit();
        let mut is_within = |share: f64| {
            let is_within = (0.0..share).contains(&point);
            point -= share;
            is_within
        };
        if is_within(args.history) {
            return Asked::History(self.any_user());
        }
        if is_within(args.balance_reads) {
            return Asked::Balance(self.any_user());
        }
        let (is_refund, is_top_up) = (is_within(args.refunds), is_within(args.topups));
        let (is_hold, is_transfer) = (is_within(args.holds), is_within(args.transfers));
        if self.random.chance(args.duplicates) && !self.repeatable.is_empty() {
            let at = self.random.below(u64::try_from(self.repeatable.len()).expect("fits 64 bits"));
            let at = usize::try_from(at).expect("below a length");
            return Asked::Repeat(Rc::clone(&self.repeatable[at]));
        }
        if is_refund && let Some(Refundable { charge, user, minor_units }) = self.refundable.pop_front() {
            return self.first(Wish::Refund { charge }, user, minor_units);
        }
        if is_hold {
            return self.hold_or_end_one();
        }
        let minor_units = 1 + self.random.below(self.scenario.amount_max);
        if is_transfer {
            let (user, to) = self.any_two_users();
            return self.first(Wish::Transfer { to }, user, minor_units);
        }
        let (wish, user) = if is_top_up {
            (Wish::TopUp, self.any_user())
        } else if self.random.chance(args.hot_share) {
            (Wish::Charge, self.scenario.user(0))
        } else {
            (Wish::Charge, self.any_user())
        };
        self.first(wish, user, minor_units)
    }

    fn first(&mut self, wish: Wish, user: UserId, minor_units: u64) -> Asked {
        let key = self.keys.next_key();
        Asked::First(Write { wish, user, minor_units, key })
    }

    /// As many holds end as begin.
    fn hold_or_end_one(&mut self) -> Asked {
        if self.random.chance(0.5)
            && let Some(OpenHold { hold, user, minor_units }) = self.open_holds.pop_front()
        {
            if self.random.chance(CAPTURES) {
                let captured = 1 + self.random.below(minor_units);
                return self.first(Wish::Capture { hold }, user, captured);
            }
            return self.first(Wish::Void { hold }, user, minor_units);
        }
        let (user, minor_units) = (self.any_user(), 1 + self.random.below(self.scenario.amount_max));
        self.first(Wish::Hold { expires_in_s: None }, user, minor_units)
    }

    fn any_user(&mut self) -> UserId {
        self.scenario.user(self.random.below(self.scenario.args.users))
    }

    /// Two different ones: there are two, or the scenario has no transfers.
    fn any_two_users(&mut self) -> (UserId, UserId) {
        let users = self.scenario.args.users;
        let first = self.random.below(users);
        let other = (first + 1 + self.random.below(users - 1)) % users;
        (self.scenario.user(first), self.scenario.user(other))
    }

    fn judge_one(&mut self, asked: &Asked, status: u16, is_replayed: bool, body: &[u8]) -> Judgement {
        match asked {
            Asked::First(write) => self.judge_first(write, status, is_replayed, body),
            Asked::Repeat(answered) => judge_repeat(answered, status, is_replayed, body),
            Asked::Balance(user) | Asked::History(user) => judge_read(*user, status, body),
        }
    }

    /// One verdict for each operation.
    fn judge_batch(&mut self, all: &[Asked], answer: Answer<'_>) -> Vec<Verdict> {
        let alike = |code: Cow<'static, str>| {
            let verdict = |asked: &Asked| Judgement::error(code.clone()).of(asked.kind(), asked.slot());
            all.iter().map(verdict).collect()
        };
        let (status, body) = match answer {
            Answer::Lost(lost) => return alike(Cow::Borrowed(lost.code())),
            Answer::Reply { status, body, .. } => (status, body),
        };
        if status != 200 {
            return alike(problem_code(status, body));
        }
        let keys: Vec<&UuidText> = all.iter().filter_map(Asked::write).map(|write| &write.key).collect();
        let results = match BatchAnswer::read(body, &keys) {
            Ok(answer) => answer.results,
            Err(detail) => {
                let broken = |asked: &Asked| {
                    Judgement::broken(Promise::RightAnswers, detail.clone()).of(asked.kind(), asked.slot())
                };
                return all.iter().map(broken).collect();
            }
        };
        let judged = all.iter().zip(results).map(|(asked, result)| {
            let judgement =
                self.judge_one(asked, result.status, result.replayed, result.body.get().as_bytes());
            judgement.of(asked.kind(), asked.slot())
        });
        judged.collect()
    }

    fn judge_first(&mut self, write: &Write, status: u16, is_replayed: bool, body: &[u8]) -> Judgement {
        if is_replayed {
            return Judgement::broken(
                Promise::NoUnexpectedReplays,
                format!("a new key was answered as a replay: {}", show(write, status, body)),
            );
        }
        // A transfer that is still on its way; the money was taken.
        let is_pending = status == 202 && matches!(write.wish, Wish::Transfer { .. });
        if status != 200 && !is_pending {
            let code = problem_code(status, body);
            if is_recorded(&code) {
                self.remember(write, status, body);
            }
            return Judgement::error(code);
        }
        let answer = match WriteAnswer::read(write, body) {
            Ok(answer) => answer,
            Err(error) => {
                let detail = format!("the answer cannot be read ({error}): {}", show(write, status, body));
                return Judgement::broken(Promise::RightAnswers, detail);
            }
        };
        if let Some(field) = answer.wrong_field(write, self.scenario.currency) {
            let detail = format!("{field} is not what was asked: {}", show(write, status, body));
            return Judgement::broken(Promise::RightAnswers, detail);
        }
        if let Some(acks) = &mut self.acks {
            acks.record(&write.key, &answer);
        }
        if self.scenario.args.refunds > 0.0
            && write.wish == Wish::Charge
            && let Some(charge) = answer.id.and_then(|id| UuidText::try_from(id.as_bytes()).ok())
        {
            if self.refundable.len() == REFUNDABLE_MAX {
                self.refundable.pop_front();
            }
            self.refundable.push_back(Refundable {
                charge,
                user: write.user,
                minor_units: write.minor_units,
            });
        }
        if matches!(write.wish, Wish::Hold { .. })
            && let Some(hold) = answer.id.and_then(|id| UuidText::try_from(id.as_bytes()).ok())
            && self.open_holds.len() < REFUNDABLE_MAX
        {
            self.open_holds.push_back(OpenHold { hold, user: write.user, minor_units: write.minor_units });
        }
        // What is pending may have ended by the time of a repeat.
        if !is_pending {
            self.remember(write, status, body);
        }
        Judgement::fine()
    }

    fn remember(&mut self, write: &Write, status: u16, body: &[u8]) {
        if self.scenario.args.duplicates > 0.0 {
            if self.repeatable.len() == REPEATABLE_MAX {
                self.repeatable.pop_front();
            }
            self.repeatable.push_back(Rc::new(Answered { write: *write, status, body: body.to_vec() }));
        }
    }
}

impl Traffic for ScenarioTraffic {
    type Request = Sent;

    fn operations(&self) -> u64 {
        u64::from(self.scenario.args.batch.unwrap_or(1))
    }

    fn next(&mut self, output: &mut Vec<u8>) -> Option<Sent> {
        if self.acks.as_ref().is_some_and(AckSink::is_closed) {
            return None;
        }
        if self.scenario.args.batch.is_some() {
            let all: Vec<Asked> = (0..self.operations()).map(|_| self.choose()).collect();
            self.forms.write_batch(all.iter().filter_map(Asked::write), output);
            return Some(Sent::Batch(all));
        }
        let asked = self.choose();
        match &asked {
            Asked::First(write) => self.forms.write(write, output),
            Asked::Repeat(answered) => self.forms.write(&answered.write, output),
            Asked::Balance(user) => self.balance.write_get(output, |out| {
                write_number(out, user.get().unsigned_abs());
                out.extend_from_slice(b"/balance");
            }),
            Asked::History(user) => self.history.write_get(output, |out| {
                write_number(out, user.get().unsigned_abs());
                out.extend_from_slice(HISTORY_LIMIT.as_bytes());
            }),
        }
        Some(Sent::Alone(asked))
    }

    fn judge(&mut self, sent: Sent, answer: Answer<'_>, _: Timing) -> Verdict {
        match sent {
            Sent::Alone(asked) => {
                let judgement = match answer {
                    Answer::Lost(lost) => Judgement::error(Cow::Borrowed(lost.code())),
                    Answer::Reply { status, is_replayed, body, .. } => {
                        self.judge_one(&asked, status, is_replayed, body)
                    }
                };
                judgement.of(asked.kind(), asked.slot())
            }
            Sent::Batch(all) => {
                let mut verdicts = self.judge_batch(&all, answer).into_iter();
                let first = verdicts.next().expect("a batch is not empty");
                Verdict { rest: verdicts.collect(), ..first }
            }
        }
    }

    fn every_second(&mut self) {
        if let Some(acks) = &mut self.acks {
            acks.flush();
        }
    }
}

impl Asked {
    /// What a write asks for; `None` of a read.
    fn write(&self) -> Option<&Write> {
        match self {
            Self::First(write) => Some(write),
            Self::Repeat(answered) => Some(&answered.write),
            Self::Balance(_) | Self::History(_) => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::First(write) => match write.wish {
                Wish::Charge => Kind::Charge,
                Wish::TopUp => Kind::TopUp,
                Wish::Refund { .. } => Kind::Refund,
                Wish::Hold { .. } => Kind::Hold,
                Wish::Capture { .. } => Kind::Capture,
                Wish::Void { .. } => Kind::Void,
                Wish::Transfer { .. } => Kind::Transfer,
            },
            Self::Repeat(_) => Kind::Replay,
            Self::Balance(_) => Kind::Balance,
            Self::History(_) => Kind::History,
        }
    }

    pub fn slot(&self) -> Slot {
        match self {
            Self::First(write) => write.user.slot(),
            Self::Repeat(answered) => answered.write.user.slot(),
            Self::Balance(user) | Self::History(user) => user.slot(),
        }
    }
}

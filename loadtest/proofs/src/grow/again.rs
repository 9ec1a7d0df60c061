//! The end of a run: keys are asked once more with everything healed. Those without an answer must get one, the others the
//! same one.

use std::sync::Arc;
use std::time::Duration;

use super::books::{Books, Judged};
use super::clients::{Shared, lock};
use crate::account::{Asking, Reply};
use picopay_loadtest::run::{self, Plan, Rhythm, Stop};
use picopay_loadtest::timing::Timing;
use picopay_loadtest::traffic::{Answer, Kind, Traffic, Verdict};
use picopay_loadtest::write::WriteForms;

/// Enough of every slot, in some ten seconds.
const ASKED_MAX: usize = 100_000;

/// Ten seconds in all. After that an outcome counts as never resolved.
const ROUNDS: u32 = 20;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(500);

/// Asks all keys without an answer, and others spread over the whole run. Returns how many were asked, and how many never
/// got an answer.
pub async fn ask(plan: &Plan, shared: &Shared, stop: &Stop) -> anyhow::Result<(usize, u64)> {
    let mut left = choose(&lock(&shared.books));
    let asked = left.len();
    for _ in 0..ROUNDS {
        let plan = Plan { rhythm: Rhythm::Closed, threads: 1, ..plan.clone() };
        let failed = Arc::new(std::sync::Mutex::new(Vec::new()));
        let traffic = {
            let (shared, failed, target) = (shared.clone(), Arc::clone(&failed), plan.target.clone());
            move |_| {
                let forms = WriteForms::new(&target, lock(&shared.books).account.currency);
                Again { shared: shared.clone(), left: left.clone(), failed: Arc::clone(&failed), forms }
            }
        };
        run::run(&plan, stop, traffic, |_| {}).await?;
        left = std::mem::take(&mut *lock(&failed));
        if left.is_empty() || stop.is_set() {
            break;
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
    let books = lock(&shared.books);
    let unresolved = books.account.entries.iter().filter(|entry| entry.told.is_none()).count();
    Ok((asked, u64::try_from(unresolved)?))
}

fn choose(books: &Books) -> Vec<usize> {
    let (open, answered): (Vec<usize>, Vec<usize>) =
        (0..books.account.entries.len()).partition(|at| books.account.entries[*at].told.is_none());
    let step = answered.len().div_ceil(ASKED_MAX).max(1);
    open.into_iter().chain(answered.into_iter().step_by(step)).collect()
}

struct Again {
    shared: Shared,
    left: Vec<usize>,
    failed: Arc<std::sync::Mutex<Vec<usize>>>,
    forms: WriteForms,
}

impl Traffic for Again {
    type Request = usize;

    fn next(&mut self, output: &mut Vec<u8>) -> Option<usize> {
        let at = self.left.pop()?;
        let write = lock(&self.shared.books).account.note_sent(at);
        self.forms.write(&write, output);
        Some(at)
    }

    fn judge(&mut self, at: usize, answer: Answer<'_>, _: Timing) -> Verdict {
        let mut books = lock(&self.shared.books);
        let slot = books.account.entries[at].write.user.slot();
        let judged = match answer {
            Answer::Lost(lost) => Judged::Again(lost.code().to_owned()),
            Answer::Reply { status, is_replayed, session, body } => {
                books.take(at, Reply { status, is_replayed, session, body }, Asking::InPeace)
            }
        };
        let (mut result, mut pause) = (Ok(()), None);
        if let Judged::Again(code) = judged {
            lock(&self.failed).push(at);
            // Whoever is refused for being too fast had better be slower.
            pause = Some(Duration::from_millis(100));
            result = Err(code.into());
        }
        Verdict { kind: Kind::Replay, slot, result, broken: None, pause, rest: Vec::new() }
    }

    fn every_second(&mut self) {
        lock(&self.shared.books).account.acks.flush();
    }
}

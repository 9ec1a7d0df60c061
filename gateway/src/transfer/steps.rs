//! The steps of a transfer, as far as this gateway goes with them.
//!
//! The state of a transfer is rows of the two shards, and each step can be repeated. What this gateway does not finish, the
//! courier of the sender's node does, by the same commands. So nothing here tries for long.

use std::sync::Arc;
use std::time::Duration;

use picopay_gateway_config::TransferStep;
use picopay_shard_client::{Decision, Read, Reader, ShardError, Written, journey};
use picopay_shared::command::{Command, Operation};
use picopay_shared::money::Money;
use picopay_shared::query::Consistency;
use picopay_shared::session::SessionToken;
use picopay_shared::transfer::{Transfer, TransferStatus};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};
use uuid::Uuid;

use crate::problem::Problem;
use crate::session;
use crate::state::GatewayState;
use crate::write_answer::favour_or_problem;

/// How long the look at the recipient may take. It only saves a debit and its reversal, so that a shard that does not answer
/// takes little of the time that the client waits for the end.
const LOOK_WAIT: Duration = Duration::from_millis(500);

/// A transfer whose money was taken from its sender, now or before.
#[derive(Debug)]
pub struct Begun {
    pub transfer: Box<Transfer>,
    /// The sender's, right after the money was taken.
    pub balance_after: Money,
    pub is_replayed: bool,
    pub session: Option<SessionToken>,
    /// The later steps, which go on whether or not somebody waits. `None` when all are done.
    pub rest: Option<JoinHandle<Option<Ended>>>,
}

/// A transfer that was completed or reversed.
#[derive(Debug)]
pub struct Ended {
    pub transfer: Box<Transfer>,
    pub session: Option<SessionToken>,
}

/// Looks at the recipient, takes the money from the sender, and sets the later steps going. `command` is the transfer's.
///
/// # Errors
/// The problem for the client. Nothing was moved, unless the outcome is unknown.
pub async fn begin(gateway: Arc<GatewayState>, mut command: Command) -> Result<Begun, Problem> {
    let Operation::Transfer { payment, to_user_id, only_replays } = &mut command.operation else {
        return Err(Problem::internal());
    };
    let (from_user_id, to_user_id) = (payment.user_id, *to_user_id);
    let origin = command.origin.clone();
    let reader = Reader { origin: origin.clone(), session: None };
    let currency = Some(payment.money.currency());
    let look = gateway.shards.read_balances(to_user_id, currency, Consistency::Strong, reader);
    if let Ok(Ok(Read { found: None, .. })) = timeout(LOOK_WAIT, look).await {
        // A key of the client's may have been used while nobody could say that.
        if !command.is_client_key {
            return Err(Problem::party_not_found(to_user_id));
        }
        *only_replays = true;
    }
    let (made_by, is_recipient_absent) = (command.made_by.clone(), *only_replays);
    let Written { decision, session } = gateway.shards.write(command).await?;
    let (transfer, balance_after, is_replayed) = match decision {
        Decision::Transferred { transfer, balance_after, is_replayed } => {
            (transfer, balance_after, is_replayed)
        }
        Decision::UserNotFound => {
            let absent = if is_recipient_absent { to_user_id } else { from_user_id };
            return Err(Problem::party_not_found(absent));
        }
        refused => {
            let session = session.map(session::to_header);
            let problem = favour_or_problem(refused).err().unwrap_or_else(Problem::internal);
            return Err(problem.with_session_if_recorded(session.as_ref()));
        }
    };
    journey::note(|journey| journey.transaction = Some(transfer.id.as_uuid()));
    let rest = (transfer.status == TransferStatus::Pending).then(|| {
        let step = move |operation: Operation| Command {
            fingerprint: operation.fingerprint(),
            operation,
            // The transfer itself is the key of its later steps.
            idempotency_key: Uuid::nil(),
            is_client_key: false,
            origin: origin.clone(),
            made_by: made_by.clone(),
        };
        tokio::spawn(finish(gateway, transfer.clone(), step))
    });
    Ok(Begun { transfer, balance_after, is_replayed, session, rest })
}

/// `None` when the courier has to finish it.
async fn finish(
    gateway: Arc<GatewayState>,
    transfer: Box<Transfer>,
    step: impl Fn(Operation) -> Command,
) -> Option<Ended> {
    die_if_told(&gateway, TransferStep::Credit);
    let credited = match gateway.shards.write(step(transfer.credit())).await {
        Ok(Written { decision: Decision::Credited(credited), .. }) => credited,
        other => {
            let reason = why_not_ended(&other);
            info!(transfer = %transfer.id, reason, "the courier will give the money to the recipient");
            return None;
        }
    };
    die_if_told(&gateway, TransferStep::Settle);
    match gateway.shards.write(step(transfer.settle(credited))).await {
        Ok(Written { decision: Decision::Transferred { transfer, .. }, session }) => {
            die_if_told(&gateway, TransferStep::Answer);
            Some(Ended { transfer, session })
        }
        other => {
            info!(transfer = %transfer.id, reason = why_not_ended(&other), "the courier will end the transfer");
            None
        }
    }
}

/// For the log, so without what an answer says of amounts.
fn why_not_ended(answer: &Result<Written, ShardError>) -> String {
    match answer {
        Ok(_) => "the shard gave another answer than to this step".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// As a kill does: at once, and nobody is told.
fn die_if_told(gateway: &GatewayState, step: TransferStep) {
    if gateway.config.testing.dies_before == Some(step) {
        warn!(?step, "testing: this process ends in the middle of a transfer");
        std::process::exit(9);
    }
}

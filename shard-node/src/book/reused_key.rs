//! What a request hears whose key was used before: the first answer again, or in what it differs from the first request.

use picopay_shared::command::{Command, Kind, Operation, Outcome, Payment, Transaction};

use super::Recorded;

pub fn answer(command: &Command, first: &Recorded) -> Outcome {
    if first.fingerprint == Some(command.fingerprint) {
        Outcome::Decided { transaction: Box::new(first.transaction.clone()), is_replayed: true }
    } else {
        Outcome::KeyReused { differs: differing_fields(&command.operation, &first.transaction) }
    }
}

/// The fields in which a request differs from the first one with its key, as the API names them.
fn differing_fields(operation: &Operation, first: &Transaction) -> Vec<String> {
    let mut differs = Vec::new();
    let mut compare = |name: &str, is_equal: bool| {
        if !is_equal {
            differs.push(name.to_owned());
        }
    };
    let is_capture = first.hold_part.hold_id.is_some();
    let is_same = match operation {
        Operation::CreateUser { .. }
        | Operation::Sweep { .. }
        | Operation::Credit(_)
        | Operation::Settle { .. } => false,
        Operation::Transfer { .. } => first.kind == Kind::TransferOut,
        Operation::TopUp(_) => first.kind == Kind::TopUp,
        Operation::Charge(_) => first.kind == Kind::Charge && !is_capture,
        Operation::Refund { .. } => first.kind == Kind::Refund,
        Operation::Hold { .. } => first.kind == Kind::Hold,
        Operation::Capture { .. } => first.kind == Kind::Charge && is_capture,
        Operation::Void { .. } => first.kind == Kind::Void,
    };
    compare("operation", is_same);
    match operation {
        Operation::TopUp(payment)
        | Operation::Charge(payment)
        | Operation::Hold { payment, .. }
        | Operation::Transfer { payment, .. } => {
            // The first request had these fields, too.
            if matches!(first.kind, Kind::TopUp | Kind::Charge | Kind::Hold | Kind::TransferOut)
                && !is_capture
            {
                compare_payment(&mut compare, payment, first);
            }
            if let (Operation::Hold { expires_in_s, .. }, true) = (operation, is_same) {
                compare(
                    "expires_in",
                    first.hold_part.expires_at_ms == Some(super::holds::end_of(first.id, *expires_in_s)),
                );
            }
            if let (Operation::Transfer { to_user_id, .. }, true) = (operation, is_same) {
                let to_same = first.transfer.is_some_and(|part| part.other_user_id == *to_user_id);
                compare("to_user_id", to_same);
            }
        }
        Operation::Refund { charge_id, .. } if is_same => {
            let same_charge = Some(*charge_id) == first.charge_id;
            compare("transaction_id", same_charge);
            // Naming the exact amount that remained is another request than naming none.
            compare("amount", !same_charge);
        }
        Operation::Capture { hold_id, .. } if is_same => {
            let same_hold = Some(*hold_id) == first.hold_part.hold_id;
            compare("hold_id", same_hold);
            compare("amount", !same_hold);
        }
        Operation::Void { hold_id } if is_same => {
            compare("hold_id", Some(*hold_id) == first.hold_part.hold_id);
        }
        Operation::CreateUser { .. }
        | Operation::Refund { .. }
        | Operation::Capture { .. }
        | Operation::Void { .. }
        | Operation::Credit(_)
        | Operation::Settle { .. }
        | Operation::Sweep { .. } => {}
    }
    differs
}

fn compare_payment(compare: &mut impl FnMut(&str, bool), payment: &Payment, first: &Transaction) {
    compare("amount", payment.money.amount() == first.money.amount());
    compare("currency", payment.money.currency() == first.money.currency());
    compare("reference", payment.reference == first.reference);
    compare("metadata", payment.metadata == first.metadata);
}

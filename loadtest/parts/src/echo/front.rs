//! The gateway's server, front door, checks and parsing; the answer is made up.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::routing::post;
use picopay_gateway::front_door::FrontDoor;
use picopay_gateway::guarded::{Admitted, Guarded};
use picopay_gateway::idempotency_key::{Key, read_key};
use picopay_gateway::parameters::Parameters;
use picopay_gateway::payment::read_payment;
use picopay_gateway::problem::Problem;
use picopay_gateway::request_body::{OPERATION_MAX, check_length, read_body};
use picopay_gateway::request_id::RequestId;
use picopay_gateway::state::GatewayState;
use picopay_gateway::write_answer::{Answered, answer};
use picopay_gateway::{content_headers, fields, request_origin, server};
use picopay_gateway_config::{GatewayConfig, Scope};
use picopay_shard_client::{Decision, Written};
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Kind, Operation, Payment, Status, Transaction};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::Stamp;
use picopay_shared::open_files;
use picopay_shared::session::{LogPosition, SessionToken};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Microseconds since 1970 of every answer: any time would do.
const MOMENT: i64 = 1_795_435_200_123_456;

pub async fn serve(listener: TcpListener, cluster: &Path, config: &Path) -> anyhow::Result<()> {
    let (cluster, config) = (Cluster::load(cluster)?, GatewayConfig::load(config)?);
    open_files::allow_many();
    let gateway = GatewayState::start(&cluster, config);
    let charge = post(post_charge).with_state(Guarded::new(Arc::clone(&gateway), &[Scope::Charge]));
    let router = Router::new().route("/charge", charge.clone()).route("/v1/charge", charge);
    let front_door = FrontDoor::new(Arc::clone(&gateway), router);
    server::serve(listener, &server::Door::new(&gateway)?, front_door, CancellationToken::new()).await;
    Ok(())
}

/// Step by step what `gateway/src/write_request.rs` does, but for the shard.
async fn post_charge(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Answered, Problem> {
    let count = guarded.charges().begin();
    let (parts, body) = request.into_parts();
    let Admitted { gateway, made_by } = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    check_length(&parts.headers, OPERATION_MAX)?;
    let Key { uuid: key, is_client_key } = read_key(&parts.headers)?;
    let body = read_body(body, OPERATION_MAX, gateway.config.server.body_read_timeout).await?;
    let parameters = Parameters::read(parts.uri.query(), &[]);
    let read = read_payment(&body, fields::currency).map(Operation::Charge);
    let operation = parameters.finish_with_body(read)?;
    let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
    let command = Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: key,
        is_client_key,
        origin: request_origin::of(&parts.headers, request_id),
        made_by: Some(made_by),
    };
    let answered = answer(made_up(command), key, None);
    count.end(picopay_gateway::metrics::ChargeEnd::Success);
    answered
}

fn made_up(command: Command) -> Written {
    let Operation::Charge(Payment { user_id, money, reference, metadata }) = command.operation else {
        unreachable!("only charges come here");
    };
    let transaction = Transaction {
        id: Stamp::at(MOMENT).id_for(user_id),
        user_id,
        kind: Kind::Charge,
        status: Status::Completed,
        money,
        balance_after: money,
        idempotency_key: Some(command.idempotency_key),
        charge_id: None,
        reference,
        metadata,
        made_by: None,
        hold_part: HoldPart::default(),
        transfer: None,
    };
    Written {
        decision: Decision::Decided { transaction: Box::new(transaction), is_replayed: false },
        session: Some(SessionToken::new("shard-1", LogPosition { timeline: 1, lsn: 0x1234_5678 })),
    }
}

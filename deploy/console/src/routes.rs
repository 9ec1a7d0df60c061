//! Every path of the console. All others are files of the page.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use futures_util::stream::{self, Stream, StreamExt as _};
use picopay_shard_client::ShardClient;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::board::{Board, News};
use crate::lookup::{self, NotShown};
use crate::traffic::Traffic;
use crate::{door, page};

/// A page whose program is gone notices within twice this.
const STILL_HERE: Duration = Duration::from_secs(5);
/// How soon a page that lost its stream asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Shown {
    pub board: Arc<Board>,
    pub traffic: Arc<Mutex<Traffic>>,
    pub shards: Arc<ShardClient>,
    pub closing: CancellationToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Older {
    before: Option<Uuid>,
}

pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/events", get(events))
        .route("/api/users/{id}", get(user))
        .route("/api/transactions/{id}", get(transaction))
        .fallback(get(page::serve))
        .with_state(shown)
        .layer(middleware::from_fn(door::guard))
}

async fn user(State(shown): State<Shown>, Path(id): Path<String>, Query(older): Query<Older>) -> Response {
    answer(lookup::user(&shown.shards, &id, older.before).await)
}

async fn transaction(State(shown): State<Shown>, Path(id): Path<String>) -> Response {
    answer(lookup::transaction(&shown.shards, &id).await)
}

fn answer(found: Result<Value, NotShown>) -> Response {
    match found {
        Ok(body) => Json(body).into_response(),
        Err(NotShown { status, why }) => (status, Json(json!({ "problem": why }))).into_response(),
    }
}

async fn events(State(shown): State<Shown>) -> Response {
    let Some((known, line)) = shown.board.open() else {
        let why = "too many pages are open: close some\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let points = {
        let traffic = shown.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(traffic.points()).expect("points are plain numbers")
    };
    let past = News { kind: "traffic-so-far", json: points.into() };
    let news = stream::iter([past].into_iter().chain(known)).chain(lines_of(line));
    let told = news
        .map(|News { kind, json }| {
            Ok::<_, Infallible>(Event::default().event(kind).data(&*json).retry(ASK_AGAIN))
        })
        .take_until(shown.closing.cancelled_owned());
    Sse::new(told).keep_alive(KeepAlive::new().interval(STILL_HERE).text("still here")).into_response()
}

/// Ends when the page has fallen behind: it asks again, and gets everything anew.
fn lines_of(line: Receiver<News>) -> impl Stream<Item = News> {
    stream::unfold(line, async |mut line| Some((line.recv().await.ok()?, line)))
}

#[cfg(test)]
mod tests;

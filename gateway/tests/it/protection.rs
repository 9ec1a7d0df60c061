//! A shard in trouble costs its own users only, and those a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use picopay_local::{eventually, eventually_within};

use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::{ScriptedNode, Step};

/// The contract's own word on how soon users of a shard that is known to be frozen are refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

async fn breaker_of(gateway: &GatewayProcess) -> String {
    let ready = gateway.api.get("/readyz").await.json();
    ready["shards"][0]["breaker"].as_str().unwrap().to_owned()
}

async fn breaker_opens(gateway: &GatewayProcess, limit: Duration) {
    eventually_within(limit, "an open breaker", async || breaker_of(gateway).await == "open").await;
}

/// Interleavings: users who are in the batch that froze, who wait behind it when the breaker opens, and who come later.
#[tokio::test]
async fn the_users_of_a_frozen_node_are_refused_at_once_after_one_failed_batch() {
    let node = ScriptedNode::start(&[]).await;
    let config = "[shard_client]\npipes = 1\nbatch_max = 1\n";
    let gateway = GatewayProcess::start(&cluster_of(&node.url), config).await;
    assert_eq!(gateway.api.pay("/charge", 1, "5", "USD").await.status, 200);
    node.freeze();
    let early = (0..20).map(|_| {
        let api = gateway.api.clone();
        tokio::spawn(async move { (api.pay("/charge", 1, "5", "USD").await, Instant::now()) })
    });
    let early: Vec<_> = early.collect();
    // Batches of one, two seconds each: by calls alone the breaker would need ten seconds, and the last of them forty.
    breaker_opens(&gateway, Duration::from_secs(8)).await;
    let opened = Instant::now();
    for (answer, at) in futures_util::future::join_all(early).await.into_iter().map(Result::unwrap) {
        // 504: it was in the batch that was sent.
        if answer.status != 504 {
            gateway.api.expect_problem(&answer, 503, "shard-unavailable");
            assert!(at.saturating_duration_since(opened) < REFUSED_WITHIN, "{answer:?}");
        }
    }
    // Longer than any pause of the breaker was yet: no user is sent to probe a node that answers no poll.
    let sent = node.seen().len();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let asked = Instant::now();
        let answer = gateway.api.pay("/charge", 1, "5", "USD").await;
        gateway.api.expect_problem(&answer, 503, "shard-unavailable");
        assert!(answer.header("retry-after").is_some());
        assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
    }
    assert_eq!(node.seen().len(), sent);
    node.thaw();
    eventually_within(Duration::from_secs(20), "the shard's return", async || {
        gateway.api.pay("/charge", 1, "5", "USD").await.status == 200
    })
    .await;
    assert_eq!(breaker_of(&gateway).await, "closed");
}

/// Interleaving: the breaker opens while the pipe is busy with a call that will take its whole timeout to fail.
#[tokio::test]
async fn whoever_waits_when_the_breaker_opens_is_told_at_once() {
    let node = ScriptedNode::start(&[]).await;
    let config =
        "[shard_client]\npipes = 1\nbatch_max = 1\ncall_timeout = \"15s\"\nrequest_timeout = \"20s\"\n";
    let gateway = GatewayProcess::start(&cluster_of(&node.url), config).await;
    node.freeze();
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (api, refused) = (gateway.api.clone(), Arc::clone(&refused));
        tokio::spawn(async move {
            if api.pay("/charge", 1, "5", "USD").await.status == 503 {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    breaker_opens(&gateway, Duration::from_secs(8)).await;
    let all_who_waited = async || refused.load(Ordering::Relaxed) == 19;
    eventually_within(REFUSED_WITHIN, "all who waited, refused", all_who_waited).await;
}

#[tokio::test]
async fn an_idle_shard_that_froze_is_known_before_anybody_asks_for_it() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    node.freeze();
    breaker_opens(&gateway, Duration::from_secs(20)).await;
    let answer = gateway.api.pay("/charge", 1, "5", "USD").await;
    gateway.api.expect_problem(&answer, 503, "shard-unavailable");
    assert_eq!(node.seen().len(), 0, "nobody waited for it");
}

/// Its queue could take a thousand; but the hundredth would wait for twenty seconds.
#[tokio::test]
async fn what_a_slow_shard_would_serve_too_late_is_refused_at_once() {
    let mut script = vec![Step::BookWhenTold; 10];
    script.insert(0, Step::BookAfter(Duration::from_millis(200)));
    let node = ScriptedNode::start(&script).await;
    // The one that is under way lasts as long as this test wants it to.
    let config = "[shard_client]\npipes = 1\nbatch_max = 1\nqueue_max = 1000\nqueue_wait = \"400ms\"\n\
                  request_timeout = \"50s\"\ncall_timeout = \"40s\"\n";
    let gateway = GatewayProcess::start(&cluster_of(&node.url), config).await;
    // From which the gateway knows its pace.
    assert_eq!(gateway.api.pay("/charge", 1, "5", "USD").await.status, 200);
    let charges: Vec<_> = (0..20)
        .map(|_| {
            let api = gateway.api.clone();
            tokio::spawn(async move { api.pay("/charge", 1, "5", "USD").await })
        })
        .collect();
    // At once: nobody was served yet.
    let answered = || charges.iter().filter(|charge| charge.is_finished()).count();
    eventually("fourteen refusals", async || answered() >= 14).await;
    eventually("the others, served", async || {
        node.book_now();
        answered() == 20
    })
    .await;
    let answers: Vec<_> =
        futures_util::future::join_all(charges).await.into_iter().map(Result::unwrap).collect();
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    // One under way and two that wait, and however many more came after the first of these was done.
    assert!((3..=6).contains(&accepted.len()), "{}", accepted.len());
    for answer in refused {
        gateway.api.expect_problem(answer, 503, "overloaded");
        assert!(answer.header("retry-after").is_some());
    }
}

/// Its users are refused without each of them travelling to the node: the machine is there for those of other shards.
#[tokio::test]
async fn a_shard_that_takes_nothing_is_asked_a_hundred_times_a_second_however_many_ask() {
    const REST: Duration = Duration::from_millis(10);
    let node = ScriptedNode::start(&vec![Step::Unavailable; 10_000]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let began = Instant::now();
    // So few that each is answered in a millisecond or two, and batches stay small.
    let askers = (0..8).map(|_| {
        let api = gateway.api.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while began.elapsed() < Duration::from_secs(1) {
                answers.push(api.pay("/charge", 1, "5", "USD").await);
            }
            answers
        })
    });
    let answers: Vec<_> =
        futures_util::future::join_all(askers).await.into_iter().flat_map(Result::unwrap).collect();
    for answer in &answers {
        gateway.api.expect_problem(answer, 503, "shard-unavailable");
    }
    // A busy machine asks less often still, for each rest is counted in full; the first batch had none before it.
    let batches = u32::try_from(node.seen().len()).unwrap();
    let (took, asked) = (began.elapsed(), answers.len());
    assert!(REST * (batches - 1) <= took, "{batches} batches for {asked} charges in {took:?}");
}

#[tokio::test]
async fn every_call_says_how_long_its_answer_is_waited_for() {
    let node = ScriptedNode::start(&[Step::Book]).await;
    let config =
        "[shard_client]\nrequest_timeout = \"900ms\"\ncall_timeout = \"600ms\"\nmove_wait = \"500ms\"\n";
    let gateway = GatewayProcess::start(&cluster_of(&node.url), config).await;
    assert_eq!(gateway.api.pay("/charge", 1, "5", "USD").await.status, 200);
    assert_eq!(gateway.api.get("/users/1/balance").await.status, 404);
    assert!(node.seen()[0].deadline_ms <= 600);
    // Less than the gateway waits, so that a late answer still comes back.
    let left = node.reads_left_ms();
    assert!(left.len() == 1 && left[0] < 600, "{left:?}");
}

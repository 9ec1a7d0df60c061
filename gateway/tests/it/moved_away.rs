//! A gateway that never heard of the shard that a slot has gone to.

use uuid::Uuid;

use crate::api::payment;
use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::{ScriptedNode, Step};

const HASTY: &str = "[shard_client]\nmove_wait = \"300ms\"\n";

/// The node still claims the slot, as the answer to a poll does that the release has overtaken. A gateway that believes it
/// sends the request back and forth.
#[tokio::test]
async fn a_request_whose_slot_went_to_an_unknown_shard_is_held_and_not_sent_back_and_forth() {
    let node = ScriptedNode::start(&[Step::MovedAway]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), HASTY).await;
    for _ in 0..3 {
        let answer = gateway.api.post_with("/charge", Uuid::new_v4(), &payment(1, "5", "USD")).await;
        let body = gateway.api.expect_problem(&answer, 503, "slot-moving");
        assert!(answer.header("retry-after").is_some(), "{body}");
        assert_eq!(node.seen().len(), 1, "nothing is sent to a shard that said no at this epoch");
    }
    // Its neighbours are where they were.
    let answer = gateway.api.pay("/charge", 2, "5", "USD").await;
    assert_eq!((answer.status, node.seen().len()), (200, 2));
}

#[tokio::test]
async fn a_slot_that_moves_after_a_lost_reply_leaves_the_outcome_unknown() {
    let node = ScriptedNode::start(&[Step::HangUp, Step::MovedAway]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), HASTY).await;
    let answer = gateway.api.post_with("/charge", Uuid::new_v4(), &payment(1, "5", "USD")).await;
    gateway.api.expect_problem(&answer, 504, "outcome-unknown");
    assert_eq!(node.seen().len(), 2);
}

//! The client against a whole cluster of real processes.

use picopay_client::{Client, Code, HistoryQuery, Kind, Payment, Refund};
use picopay_local::{ClusterSpec, LocalCluster};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_charges_refunds_and_reads_his_own_writes() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let client = Client::new(&cluster.gateway_url(), cluster.api_key()).unwrap();
    assert!(client.create_user(7).await.unwrap());
    assert!(!client.create_user(7).await.unwrap(), "he was there");

    let user = client.user(7);
    let usd = |amount: &str| Payment::new(7, amount, "USD").unwrap();
    assert_eq!(user.top_up(&usd("100")).await.unwrap().new_balance, "100.00");
    let charge = usd("30").with_reference("order 17").with_key(Uuid::new_v4());
    let charged = user.charge(&charge).await.unwrap();
    assert_eq!((charged.transaction.kind, charged.new_balance.as_str()), (Kind::Charge, "70.00"));
    assert_eq!(charged.transaction.reference.as_deref(), Some("order 17"));
    let again = user.charge(&charge).await.unwrap();
    assert!(again.is_replayed && again.transaction == charged.transaction, "{again:?}");

    let refused = user.charge(&usd("1000")).await.unwrap_err();
    match &refused.problem().unwrap().code {
        Code::InsufficientBalance { balance, required, currency } => {
            assert_eq!((balance.as_str(), required.as_str(), currency.as_str()), ("70.00", "1000.00", "USD"));
        }
        other => panic!("{other:?}"),
    }
    let id = charged.transaction.id;
    let back = user.refund(&Refund::new(id).of("10".parse().unwrap())).await.unwrap();
    assert_eq!((back.transaction.charge_id, back.new_balance.as_str()), (Some(id), "80.00"));
    let too_much = user.refund(&Refund::new(id).of("20.01".parse().unwrap())).await.unwrap_err();
    let code = &too_much.problem().unwrap().code;
    assert!(matches!(code, Code::RefundExceedsCharge { remaining } if *remaining == "20.00"), "{code:?}");

    let found = user.transaction(back.transaction.id).await.unwrap();
    assert_eq!((found.id, found.made_by.is_some()), (back.transaction.id, true));
    let kinds = |history: Vec<_>| -> Vec<Kind> {
        history.into_iter().map(|row: picopay_client::Transaction| row.kind).collect()
    };
    let all = [Kind::Refund, Kind::Charge, Kind::TopUp];
    assert_eq!(kinds(user.history().collect().await.unwrap()), all);
    let one_by_one = user.history_by(HistoryQuery::of(7).with_limit(1));
    assert_eq!(kinds(one_by_one.collect().await.unwrap()), all);
    let of_one_kind = user.history_by(HistoryQuery::of(7).of_kind("charge"));
    assert_eq!(kinds(of_one_kind.collect().await.unwrap()), [Kind::Charge]);
    assert_eq!(user.balance("USD").await.unwrap().balance, "80.00");
    assert_eq!(user.balances().await.unwrap().len(), 1);
    cluster.stop().await;
}

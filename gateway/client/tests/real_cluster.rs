//! The client against a whole cluster of real processes.

use picopay_certs::{Authority, Leaf, in_days};
use picopay_client::{
    Amount, Capture, Client, Code, Done, Error, HistoryQuery, Hold, HoldStatus, Kind, NewHold, NewTransfer,
    Operation, Payment, Refund, SumsQuery, Tls, TransferStatus, Void,
};
use picopay_local::{ClusterSpec, LocalCluster, eventually};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story of one user, from the first charge to the sums")]
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
        Code::InsufficientBalance { balance, required, currency, .. } => {
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
    let one_by_one = user.history_by(&HistoryQuery::of(7).with_limit(1));
    assert_eq!(kinds(one_by_one.collect().await.unwrap()), all);
    let of_one_kind = user.history_by(&HistoryQuery::of(7).of_kind("charge"));
    assert_eq!(kinds(of_one_kind.collect().await.unwrap()), [Kind::Charge]);
    assert_eq!(user.balance("USD").await.unwrap().balance, "80.00");
    assert_eq!(user.balances().await.unwrap().len(), 1);
    let then = user.balances_at(&charged.transaction.created_at).await.unwrap();
    assert!(then[0].currency == "USD" && then[0].balance != "80.00", "{then:?}");
    assert_eq!(user.balances_at(&found.created_at).await.unwrap()[0].balance, "80.00");
    // From a replica, which has the top-up, as the reads above have shown.
    let sums = client.sums(&SumsQuery::of([7]).of_kind("topup")).await.unwrap();
    assert_eq!((sums.sums[0].count, sums.sums[0].amount.as_str()), (1, "100.00"));
    let totals = client.totals().await.unwrap();
    assert_eq!((totals.totals[0].users, totals.shards.len()), (1, 1));

    let taken = user.hold(&NewHold::of(usd("30")).expiring_in(60)).await.unwrap();
    assert_eq!((taken.hold.status, taken.available.as_str()), (HoldStatus::Open, "50.00"));
    let refused = user.charge(&usd("60")).await.unwrap_err();
    let code = &refused.problem().unwrap().code;
    assert!(
        matches!(code, Code::InsufficientBalance { available: Some(left), .. } if *left == "50.00"),
        "{code:?}"
    );
    let [id, other] = [taken.hold.id, user.hold(&NewHold::of(usd("5"))).await.unwrap().hold.id];
    let captured = user.capture(&Capture::new(id).of("10".parse().unwrap())).await.unwrap();
    assert_eq!((captured.transaction.kind, captured.transaction.hold_id), (Kind::Charge, Some(id)));
    let again = user.void(&Void::new(id)).await.unwrap_err();
    let code = &again.problem().unwrap().code;
    assert!(matches!(code, Code::HoldNotOpen { status: HoldStatus::Captured }), "{code:?}");
    let voided = user.void(&Void::new(other)).await.unwrap();
    assert_eq!((voided.hold.status, voided.available.as_str()), (HoldStatus::Voided, "70.00"));
    assert_eq!(client.look_at_hold(id).await.unwrap().captured, "10.00");
    let ids = |holds: Vec<Hold>| holds.into_iter().map(|hold| hold.id).collect::<Vec<_>>();
    assert_eq!(ids(user.holds(None).collect().await.unwrap()), [other, id]);
    assert_eq!(ids(user.holds(Some(HoldStatus::Captured)).collect().await.unwrap()), [id]);
    let balance = user.balance("USD").await.unwrap();
    assert_eq!(
        [&balance.balance, &balance.held, &balance.available].map(Amount::as_str),
        ["70.00", "0.00", "70.00"]
    );

    let operations = [
        Operation::Charge(usd("70")),
        Operation::Charge(usd("1")),
        Operation::TopUp(usd("5")),
        Operation::Hold(NewHold::of(usd("2"))),
        Operation::Refund(Refund::new(captured.transaction.id)),
        Operation::Capture(Capture::new(other)),
    ];
    let [all, refused, topped_up, held, back, gone] =
        client.batch(&operations).await.unwrap().try_into().unwrap();
    let balance_after = |done: Result<Done, Error>| match done {
        Ok(Done::Booked(booked)) => booked.new_balance,
        other => panic!("{other:?}"),
    };
    assert_eq!(balance_after(all), "0.00");
    assert_eq!(refused.unwrap_err().problem().unwrap().status, 402);
    assert_eq!(balance_after(topped_up), "5.00");
    assert!(matches!(held, Ok(Done::Held(held)) if held.available == "3.00"));
    assert_eq!(balance_after(back), "15.00");
    assert_eq!(gone.unwrap_err().problem().unwrap().status, 422);

    client.create_user(8).await.unwrap();
    let rent = NewTransfer::of(usd("4").with_reference("rent").with_key(Uuid::new_v4()), 8);
    let sent = user.transfer(&rent).await.unwrap();
    assert_eq!((sent.transfer.status, sent.new_balance.as_str()), (TransferStatus::Completed, "11.00"));
    assert!(!sent.is_replayed && sent.transfer.completed_at.is_some() && sent.transfer.reason.is_none());
    let again = user.transfer(&rent).await.unwrap();
    assert!(again.is_replayed && again.transfer == sent.transfer, "{again:?}");
    assert_eq!(client.look_at_transfer(sent.transfer.id).await.unwrap(), sent.transfer);
    let out = &user.history().collect().await.unwrap()[0];
    assert_eq!((out.kind, out.to_user_id, out.transfer_id), (Kind::TransferOut, Some(8), Some(out.id)));
    assert_eq!(client.balance(8, "USD").await.unwrap().balance, "4.00");
    let nobody = user.transfer(&NewTransfer::of(usd("1"), 9)).await.unwrap_err();
    assert!(matches!(nobody.problem().unwrap().code, Code::UserNotFound), "{nobody:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_user_charges_with_a_key_and_with_a_certificate_in_its_place() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_tls()).await.unwrap();
    let authority = cluster.authority_file().unwrap();
    let folder = authority.parent().unwrap();
    let url = cluster.gateway_url();
    let trusting = Tls::trusting(&authority);
    let client = Client::with_tls(&url, cluster.api_key(), &trusting).unwrap();
    client.create_user(7).await.unwrap();
    let usd = |amount: &str| Payment::new(7, amount, "USD").unwrap();
    assert_eq!(client.top_up(&usd("100")).await.unwrap().new_balance, "100.00");
    assert_eq!(client.charge(&usd("30")).await.unwrap().new_balance, "70.00");

    let pair = Authority::read(folder).unwrap();
    let pair = pair.issue(&Leaf { name: "shop", hosts: &[], expires: in_days(1) }).unwrap();
    let files = ["pem", "key"].map(|end| folder.join(format!("shop.{end}")));
    pair.save(&files[0], &files[1]).unwrap();
    let config = cluster.folder().join("gateway.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str("\n[[keys]]\nname = \"shop\"\ndigest = \"sha256:");
    text.push_str(&"ab".repeat(32));
    text.push_str("\"\nclient_subject = \"CN=shop\"\nscopes = [\"charge\"]\n");
    std::fs::write(&config, text).unwrap();
    let [cert, key] = files;
    let shop = Client::with_tls(&url, "", &trusting.showing(cert, key)).unwrap();
    eventually("the certificate counts", async || {
        shop.charge(&usd("1").with_key(Uuid::from_u128(7))).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(client.balance(7, "USD").await.unwrap().balance, "69.00");
    let refused = shop.top_up(&usd("1")).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 403, "{refused}");
    cluster.stop().await;
}

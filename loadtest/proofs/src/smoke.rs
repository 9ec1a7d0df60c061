//! A handful of requests, each with the answer that the contract promises: whether a cluster works at all.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use picopay_client::{Answer, Exchange, Tls};
use serde_json::{Value, json};
use uuid::Uuid;

/// History comes from a replica, which may be behind by this much.
const HISTORY_PATIENCE: Duration = Duration::from_secs(5);
const HISTORY_POLL: Duration = Duration::from_millis(50);

/// `cacert`: for an https URL, the file with the authority that signed the gateway's certificate. Without one, the
/// authorities count that the system trusts.
pub async fn run(url: &str, api_key: &str, cacert: Option<&Path>) -> anyhow::Result<()> {
    let tls = cacert.map_or_else(Tls::default, Tls::trusting);
    let mut smoke = Smoke::new(Exchange::with_tls(url, api_key, &tls)?);
    smoke.step("the gateway is ready", Smoke::readiness).await?;
    smoke.step("a wrong key is refused", Smoke::wrong_key).await?;
    smoke.step("a user is created, once", Smoke::create).await?;
    smoke.step("a top-up of 100.00 USD", Smoke::top_up).await?;
    smoke.step("a charge of 30.00 USD", Smoke::charge).await?;
    smoke.step("the same charge again is replayed, byte for byte", Smoke::replay).await?;
    smoke.step("the same key for another amount is refused", Smoke::reuse).await?;
    smoke.step("a charge of more than there is is refused", Smoke::insufficient).await?;
    smoke.step("and stays refused under its key after a top-up", Smoke::refusal_is_replayed).await?;
    smoke.step("a refund of 10.00 USD, then of the rest", Smoke::refund).await?;
    smoke.step("nothing more can be refunded", Smoke::refund_too_much).await?;
    smoke.step("a batch: one operation is replayed, one wrong, one done", Smoke::batch).await?;
    smoke.step("a hold of 30.00 USD leaves less available", Smoke::hold).await?;
    smoke.step("captured in part, it is a charge, and the rest is free", Smoke::capture).await?;
    smoke.step("what was captured cannot be voided", Smoke::void_too_late).await?;
    smoke.step("80.00 USD go to another user, once", Smoke::transfer).await?;
    smoke.step("the balance is what all that leaves", Smoke::balance).await?;
    smoke.step("the charge is found by its id", Smoke::lookup).await?;
    smoke.step("the history lists it all, newest first", Smoke::history).await?;
    println!("All {} steps as promised, with user {}.", smoke.steps, smoke.user);
    Ok(())
}

struct Smoke {
    exchange: Exchange,
    user: u64,
    steps: u32,
    charge: Option<Answer>,
    charge_key: Uuid,
    refused: Option<Answer>,
    refused_key: Uuid,
    /// The id of the hold.
    hold: String,
}

impl Smoke {
    fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            // Far from the users that people and load tests number from 1.
            user: rand::random_range(1_000_000_000_000_000..2_000_000_000_000_000),
            steps: 0,
            charge: None,
            charge_key: Uuid::new_v4(),
            refused: None,
            refused_key: Uuid::new_v4(),
            hold: String::new(),
        }
    }

    async fn step(
        &mut self,
        what: &str,
        check: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.steps += 1;
        let checked = check(self).await;
        println!("{} {what}", if checked.is_ok() { "ok    " } else { "FAILED" });
        checked.with_context(|| format!("step {} failed: {what}", self.steps))
    }

    async fn readiness(&mut self) -> anyhow::Result<()> {
        let reply = self.exchange.get("/readyz", None).await?;
        expect(&reply, 200, &[("/status", json!("ready"))])
    }

    async fn wrong_key(&mut self) -> anyhow::Result<()> {
        let stranger = self.exchange.with_api_key("no-such-key")?;
        let reply = stranger.get("/v1/users/1/balance", None).await?;
        expect(&reply, 401, &[("/code", json!("unauthorized"))])
            .context("if it is 200: this gateway takes any key")
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        for status in [201, 200] {
            let body = format!("{{\"user_id\":{}}}", self.user);
            let reply = self.exchange.post("/v1/users", Some(Uuid::new_v4()), body).await?;
            expect(&reply, status, &[("/user_id", json!(self.user))])?;
        }
        Ok(())
    }

    async fn top_up(&mut self) -> anyhow::Result<()> {
        let reply = self.pay("/v1/topup", Uuid::new_v4(), "100.00").await?;
        expect(&reply, 200, &[("/transaction/kind", json!("topup")), ("/new_balance", json!("100.00"))])
    }

    async fn charge(&mut self) -> anyhow::Result<()> {
        let charge = self.pay("/v1/charge", self.charge_key, "30.00").await?;
        ensure!(!charge.is_replayed(), "a new key was answered as a replay");
        let fields = [
            ("/transaction/kind", json!("charge")),
            ("/transaction/status", json!("completed")),
            ("/transaction/user_id", json!(self.user)),
            ("/transaction/amount", json!("30.00")),
            ("/transaction/currency", json!("USD")),
            ("/transaction/balance_after", json!("70.00")),
            ("/transaction/idempotency_key", json!(self.charge_key)),
            ("/new_balance", json!("70.00")),
        ];
        expect(&charge, 200, &fields)?;
        self.charge = Some(charge);
        Ok(())
    }

    async fn replay(&mut self) -> anyhow::Result<()> {
        let again = self.pay("/v1/charge", self.charge_key, "30.00").await?;
        same(self.charge.as_ref(), &again)
    }

    async fn reuse(&mut self) -> anyhow::Result<()> {
        let reply = self.pay("/v1/charge", self.charge_key, "31.00").await?;
        expect(&reply, 422, &[("/code", json!("idempotency-key-reused")), ("/differs", json!(["amount"]))])
    }

    async fn insufficient(&mut self) -> anyhow::Result<()> {
        let refused = self.pay("/v1/charge", self.refused_key, "1000.00").await?;
        let fields = [
            ("/code", json!("insufficient-balance")),
            ("/balance", json!("70.00")),
            ("/required", json!("1000.00")),
            ("/currency", json!("USD")),
        ];
        expect(&refused, 402, &fields)?;
        self.refused = Some(refused);
        Ok(())
    }

    async fn refusal_is_replayed(&mut self) -> anyhow::Result<()> {
        let reply = self.pay("/v1/topup", Uuid::new_v4(), "5000.00").await?;
        expect(&reply, 200, &[("/new_balance", json!("5070.00"))])?;
        let again = self.pay("/v1/charge", self.refused_key, "1000.00").await?;
        same(self.refused.as_ref(), &again)
    }

    async fn refund(&mut self) -> anyhow::Result<()> {
        let charge = self.charge_id()?;
        let parts = [
            (json!({"transaction_id": charge, "amount": "10.00"}), "10.00", "5080.00"),
            (json!({"transaction_id": charge}), "20.00", "5100.00"),
        ];
        for (body, amount, balance) in parts {
            let reply = self.exchange.post("/v1/refund", Some(Uuid::new_v4()), body.to_string()).await?;
            let fields = [
                ("/transaction/kind", json!("refund")),
                ("/transaction/amount", json!(amount)),
                ("/transaction/charge_id", json!(charge)),
                ("/new_balance", json!(balance)),
            ];
            expect(&reply, 200, &fields)?;
        }
        Ok(())
    }

    async fn refund_too_much(&mut self) -> anyhow::Result<()> {
        let body = json!({"transaction_id": self.charge_id()?, "amount": "0.01"});
        let reply = self.exchange.post("/v1/refund", Some(Uuid::new_v4()), body.to_string()).await?;
        expect(&reply, 422, &[("/code", json!("refund-exceeds-charge")), ("/remaining", json!("0.00"))])
    }

    async fn batch(&mut self) -> anyhow::Result<()> {
        let payment = |amount: &str| json!({"user_id": self.user, "amount": amount, "currency": "USD"});
        let operations = json!({"operations": [
            {"operation": "charge", "idempotency_key": self.charge_key, "body": payment("30.00")},
            {"operation": "topup", "body": payment("-1")},
            {"operation": "topup", "body": payment("0.50")},
        ]});
        let reply = self.exchange.post("/v1/batch", None, operations.to_string()).await?;
        let first = self.charge.as_ref().map(Answer::json).unwrap_or_default();
        let fields = [
            ("/results/0/replayed", json!(true)),
            ("/results/0/body", first),
            ("/results/1/status", json!(400)),
            ("/results/1/body/errors/0/pointer", json!("/amount")),
            ("/results/2/status", json!(200)),
            ("/results/2/replayed", json!(false)),
            ("/results/2/body/new_balance", json!("5100.50")),
        ];
        expect(&reply, 200, &fields)
    }

    async fn hold(&mut self) -> anyhow::Result<()> {
        let reply = self.pay("/v1/holds", Uuid::new_v4(), "30.00").await?;
        let fields = [
            ("/hold/status", json!("open")),
            ("/hold/amount", json!("30.00")),
            ("/hold/captured", json!("0.00")),
            ("/available", json!("5070.50")),
        ];
        expect(&reply, 200, &fields)?;
        reply.json()["hold"]["id"].as_str().unwrap_or_default().clone_into(&mut self.hold);
        let balance =
            self.exchange.get(&format!("/v1/users/{}/balance?currency=USD", self.user), None).await?;
        let fields =
            [("/balance", json!("5100.50")), ("/held", json!("30.00")), ("/available", json!("5070.50"))];
        expect(&balance, 200, &fields)
    }

    async fn capture(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/holds/{}", self.hold);
        let body = json!({"amount": "20.50"}).to_string();
        let reply = self.exchange.post(&format!("{path}/capture"), Some(Uuid::new_v4()), body).await?;
        let fields = [
            ("/transaction/kind", json!("charge")),
            ("/transaction/hold_id", json!(self.hold)),
            ("/new_balance", json!("5080.00")),
        ];
        expect(&reply, 200, &fields)?;
        let fields = [
            ("/hold/status", json!("captured")),
            ("/hold/captured", json!("20.50")),
            ("/available", json!("5080.00")),
        ];
        expect(&self.exchange.get(&path, None).await?, 200, &fields)
    }

    async fn void_too_late(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/holds/{}/void", self.hold);
        let reply = self.exchange.post(&path, Some(Uuid::new_v4()), "").await?;
        expect(&reply, 422, &[("/code", json!("hold-not-open")), ("/hold_status", json!("captured"))])
    }

    async fn transfer(&mut self) -> anyhow::Result<()> {
        let (key, other) = (Uuid::new_v4(), self.user + 1);
        let user = json!({"user_id": other}).to_string();
        ensure!((200..300).contains(&self.exchange.post("/v1/users", None, user).await?.status));
        let body =
            json!({"from_user_id": self.user, "to_user_id": other, "amount": "80.00", "currency": "USD"});
        let reply = self.exchange.post("/v1/transfers", Some(key), body.to_string()).await?;
        let fields = [("/transfer/status", json!("completed")), ("/new_balance", json!("5000.00"))];
        expect(&reply, 200, &fields)?;
        same(Some(&reply), &self.exchange.post("/v1/transfers", Some(key), body.to_string()).await?)?;
        let balance = self.exchange.get(&format!("/v1/users/{other}/balance?currency=USD"), None).await?;
        expect(&balance, 200, &[("/balance", json!("80.00"))])
    }

    async fn balance(&mut self) -> anyhow::Result<()> {
        let reply = self.exchange.get(&format!("/v1/users/{}/balance?currency=USD", self.user), None).await?;
        expect(&reply, 200, &[("/user_id", json!(self.user)), ("/balance", json!("5000.00"))])
    }

    async fn lookup(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/transactions/{}", self.charge_id()?);
        let first = self.charge.as_ref().and_then(|charge| charge.json().pointer("/transaction").cloned());
        let mut expected = first.unwrap_or_default();
        eventually(async || {
            let reply = self.exchange.get(&path, None).await?;
            // The one thing that a read says more: the name of whichever key this is.
            let made_by = reply.json().pointer("/transaction/made_by").cloned();
            expected["made_by"] = made_by.unwrap_or_default();
            expect(&reply, 200, &[("/transaction", expected.clone())])
        })
        .await
    }

    async fn history(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/transactions?user_id={}&limit=10", self.user);
        let fields: Vec<(String, Value)> =
            ["transfer_out", "charge", "hold", "topup", "refund", "refund", "topup", "charge", "topup"]
                .into_iter()
                .enumerate()
                .map(|(place, kind)| (format!("/data/{place}/kind"), json!(kind)))
                .chain([("/data/9".to_owned(), Value::Null), ("/next_cursor".to_owned(), Value::Null)])
                .collect();
        let fields: Vec<(&str, Value)> =
            fields.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        eventually(async || expect(&self.exchange.get(&path, None).await?, 200, &fields)).await
    }

    async fn pay(&self, path: &str, key: Uuid, amount: &str) -> anyhow::Result<Answer> {
        let body = format!("{{\"user_id\":{},\"amount\":\"{amount}\",\"currency\":\"USD\"}}", self.user);
        Ok(self.exchange.post(path, Some(key), body).await?)
    }

    fn charge_id(&self) -> anyhow::Result<String> {
        let body = self.charge.as_ref().map(Answer::json).unwrap_or_default();
        let id = body.pointer("/transaction/id").and_then(Value::as_str).map(str::to_owned);
        id.context("the charge had no id")
    }
}

/// `null` is also a field that is not there.
fn expect(reply: &Answer, status: u16, fields: &[(&str, Value)]) -> anyhow::Result<()> {
    let body = reply.json();
    if reply.status != status {
        bail!("status {} instead of {status}: {}", reply.status, reply.text().trim());
    }
    for (pointer, expected) in fields {
        let found = body.pointer(pointer).unwrap_or(&Value::Null);
        if found != expected {
            bail!("{pointer} is {found} instead of {expected}: {}", reply.text().trim());
        }
    }
    Ok(())
}

fn same(first: Option<&Answer>, again: &Answer) -> anyhow::Result<()> {
    let first = first.context("there is no first answer")?;
    if (first.status, &first.body) != (again.status, &again.body) {
        bail!("first {} {}, then {} {}", first.status, first.text(), again.status, again.text());
    }
    ensure!(again.is_replayed(), "Idempotent-Replayed: true is missing");
    Ok(())
}

async fn eventually(mut check: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    loop {
        match check().await {
            Err(_) if started.elapsed() < HISTORY_PATIENCE => tokio::time::sleep(HISTORY_POLL).await,
            result => return result,
        }
    }
}

//! A handful of requests, each with the answer that the contract promises: whether a cluster works at all.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use picopay_loadtest::http_client::caller::{Caller, Reply};
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::write::KeySource;

/// History comes from a replica, which may be behind by this much and still within its bounds.
const HISTORY_PATIENCE: Duration = Duration::from_secs(5);
const HISTORY_POLL: Duration = Duration::from_millis(50);

/// Goes through all steps with a user of its own, printing each.
///
/// # Errors
/// At the first answer that is not what the contract promises.
pub fn run(target: &Target) -> anyhow::Result<()> {
    let mut smoke = Smoke::new(target);
    smoke.step("the gateway is ready", Smoke::readiness)?;
    smoke.step("a wrong key is refused", Smoke::wrong_key)?;
    smoke.step("a user is created, once", Smoke::create)?;
    smoke.step("a top-up of 100.00 USD", Smoke::top_up)?;
    smoke.step("a charge of 30.00 USD", Smoke::charge)?;
    smoke.step("the same charge again is replayed, byte for byte", Smoke::replay)?;
    smoke.step("the same key for another amount is refused", Smoke::reuse)?;
    smoke.step("a charge of more than there is is refused", Smoke::insufficient)?;
    smoke.step("and stays refused under its key after a top-up", Smoke::refusal_is_replayed)?;
    smoke.step("a refund of 10.00 USD, then of the rest", Smoke::refund)?;
    smoke.step("nothing more can be refunded", Smoke::refund_too_much)?;
    smoke.step("the balance is what all that leaves", Smoke::balance)?;
    smoke.step("the charge is found by its id", Smoke::lookup)?;
    smoke.step("the history lists it all, newest first", Smoke::history)?;
    println!("All {} steps as promised, with user {}.", smoke.steps, smoke.user);
    Ok(())
}

struct Smoke {
    target: Target,
    caller: Caller,
    user: u64,
    keys: KeySource,
    steps: u32,
    charge: Reply,
    charge_key: String,
    refused: Reply,
    refused_key: String,
}

impl Smoke {
    fn new(target: &Target) -> Self {
        let nothing = Reply { status: 0, is_replayed: false, body: String::new() };
        Self {
            target: target.clone(),
            caller: Caller::new(target.clone()),
            // Far from the users that people and load tests number from 1.
            user: rand::random_range(1_000_000_000_000_000..2_000_000_000_000_000),
            keys: KeySource::new(rand::random(), 0),
            steps: 0,
            charge: nothing.clone(),
            charge_key: String::new(),
            refused: nothing,
            refused_key: String::new(),
        }
    }

    fn step(
        &mut self,
        what: &str,
        check: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.steps += 1;
        let checked = check(self);
        println!("{} {what}", if checked.is_ok() { "ok    " } else { "FAILED" });
        checked.with_context(|| format!("step {} failed: {what}", self.steps))
    }

    fn readiness(&mut self) -> anyhow::Result<()> {
        let reply = self.caller.get("/readyz")?;
        expect(&reply, 200, &[("/status", json!("ready"))])
    }

    fn wrong_key(&mut self) -> anyhow::Result<()> {
        let stranger = Caller::new(Target::new(self.target.url(), Some("no-such-key"))?);
        let reply = stranger.get("/v1/users/1/balance")?;
        expect(&reply, 401, &[("/code", json!("unauthorized"))])
            .context("if it is 200: this gateway takes any key")
    }

    fn create(&mut self) -> anyhow::Result<()> {
        for status in [201, 200] {
            let key = self.key();
            let body = format!("{{\"user_id\":{}}}", self.user);
            let reply = self.caller.post("/v1/users", &key, &body)?;
            expect(&reply, status, &[("/user_id", json!(self.user))])?;
        }
        Ok(())
    }

    fn top_up(&mut self) -> anyhow::Result<()> {
        let key = self.key();
        let reply = self.pay("/v1/topup", &key, "100.00")?;
        expect(&reply, 200, &[("/transaction/kind", json!("topup")), ("/new_balance", json!("100.00"))])
    }

    fn charge(&mut self) -> anyhow::Result<()> {
        self.charge_key = self.key();
        self.charge = self.pay("/v1/charge", &self.charge_key, "30.00")?;
        ensure!(!self.charge.is_replayed, "a new key was answered as a replay");
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
        expect(&self.charge, 200, &fields)
    }

    fn replay(&mut self) -> anyhow::Result<()> {
        let again = self.pay("/v1/charge", &self.charge_key, "30.00")?;
        same(&self.charge, &again)
    }

    fn reuse(&mut self) -> anyhow::Result<()> {
        let reply = self.pay("/v1/charge", &self.charge_key, "31.00")?;
        expect(&reply, 422, &[("/code", json!("idempotency-key-reused")), ("/differs", json!(["amount"]))])
    }

    fn insufficient(&mut self) -> anyhow::Result<()> {
        self.refused_key = self.key();
        self.refused = self.pay("/v1/charge", &self.refused_key, "1000.00")?;
        let fields = [
            ("/code", json!("insufficient-balance")),
            ("/balance", json!("70.00")),
            ("/required", json!("1000.00")),
            ("/currency", json!("USD")),
        ];
        expect(&self.refused, 402, &fields)
    }

    fn refusal_is_replayed(&mut self) -> anyhow::Result<()> {
        let key = self.key();
        let reply = self.pay("/v1/topup", &key, "5000.00")?;
        expect(&reply, 200, &[("/new_balance", json!("5070.00"))])?;
        let again = self.pay("/v1/charge", &self.refused_key, "1000.00")?;
        same(&self.refused, &again)
    }

    fn refund(&mut self) -> anyhow::Result<()> {
        let charge = self.charge_id()?;
        let parts = [
            (json!({"transaction_id": charge, "amount": "10.00"}), "10.00", "5080.00"),
            (json!({"transaction_id": charge}), "20.00", "5100.00"),
        ];
        for (body, amount, balance) in parts {
            let key = self.key();
            let reply = self.caller.post("/v1/refund", &key, &body.to_string())?;
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

    fn refund_too_much(&mut self) -> anyhow::Result<()> {
        let body = json!({"transaction_id": self.charge_id()?, "amount": "0.01"});
        let key = self.key();
        let reply = self.caller.post("/v1/refund", &key, &body.to_string())?;
        expect(&reply, 422, &[("/code", json!("refund-exceeds-charge")), ("/remaining", json!("0.00"))])
    }

    fn balance(&mut self) -> anyhow::Result<()> {
        let reply = self.caller.get(&format!("/v1/users/{}/balance?currency=USD", self.user))?;
        expect(&reply, 200, &[("/user_id", json!(self.user)), ("/balance", json!("5100.00"))])
    }

    fn lookup(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/transactions/{}", self.charge_id()?);
        let first = self.charge.json().and_then(|body| body.pointer("/transaction").cloned());
        let mut expected = first.unwrap_or_default();
        eventually(|| {
            let reply = self.caller.get(&path)?;
            // The one thing that a read says more: the name of whichever key this is.
            let made_by = reply.json().and_then(|body| body.pointer("/transaction/made_by").cloned());
            expected["made_by"] = made_by.unwrap_or_default();
            expect(&reply, 200, &[("/transaction", expected.clone())])
        })
    }

    fn history(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/transactions?user_id={}&limit=10", self.user);
        let fields: Vec<(String, Value)> = ["refund", "refund", "topup", "charge", "topup"]
            .into_iter()
            .enumerate()
            .map(|(place, kind)| (format!("/data/{place}/kind"), json!(kind)))
            .chain([("/data/5".to_owned(), Value::Null), ("/next_cursor".to_owned(), Value::Null)])
            .collect();
        let fields: Vec<(&str, Value)> =
            fields.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        eventually(|| expect(&self.caller.get(&path)?, 200, &fields))
    }

    fn pay(&self, path: &str, key: &str, amount: &str) -> anyhow::Result<Reply> {
        let body = format!("{{\"user_id\":{},\"amount\":\"{amount}\",\"currency\":\"USD\"}}", self.user);
        self.caller.post(path, key, &body)
    }

    fn key(&mut self) -> String {
        String::from_utf8_lossy(&self.keys.next_key()).into_owned()
    }

    fn charge_id(&self) -> anyhow::Result<String> {
        let id =
            self.charge.json().and_then(|body| Some(body.pointer("/transaction/id")?.as_str()?.to_owned()));
        id.context("the charge had no id")
    }
}

/// Checks the status, and fields by their JSON pointer; `null` is also a field that is not there.
fn expect(reply: &Reply, status: u16, fields: &[(&str, Value)]) -> anyhow::Result<()> {
    let body = reply.json().unwrap_or_default();
    if reply.status != status {
        bail!("status {} instead of {status}: {}", reply.status, reply.body.trim());
    }
    for (pointer, expected) in fields {
        let found = body.pointer(pointer).unwrap_or(&Value::Null);
        if found != expected {
            bail!("{pointer} is {found} instead of {expected}: {}", reply.body.trim());
        }
    }
    Ok(())
}

fn same(first: &Reply, again: &Reply) -> anyhow::Result<()> {
    if (first.status, &first.body) != (again.status, &again.body) {
        bail!("first {} {}, then {} {}", first.status, first.body, again.status, again.body);
    }
    ensure!(again.is_replayed, "Idempotent-Replayed: true is missing");
    Ok(())
}

/// Asks until the answer is right, since a replica may be behind, or patience ends.
fn eventually(mut check: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    loop {
        match check() {
            Err(_) if started.elapsed() < HISTORY_PATIENCE => std::thread::sleep(HISTORY_POLL),
            result => return result,
        }
    }
}

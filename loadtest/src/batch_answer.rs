//! The answer to a batch, taken apart into the answers of its operations.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::write::UuidText;

#[derive(Debug, Deserialize)]
pub struct BatchAnswer<'a> {
    #[serde(borrow)]
    pub results: Vec<BatchResult<'a>>,
}

#[derive(Debug, Deserialize)]
pub struct BatchResult<'a> {
    pub status: u16,
    pub replayed: bool,
    idempotency_key: Option<&'a str>,
    /// As the operation's own route would have written it.
    #[serde(borrow)]
    pub body: &'a RawValue,
}

impl<'a> BatchAnswer<'a> {
    /// Reads the answer to operations with these keys; else what is wrong with it.
    pub fn read(body: &'a [u8], keys: &[&UuidText]) -> Result<Self, String> {
        let show = || String::from_utf8_lossy(body);
        let answer: Self = serde_json::from_slice(body)
            .map_err(|error| format!("the answer to a batch cannot be read ({error}): {}", show()))?;
        if answer.results.len() != keys.len() {
            return Err(format!(
                "{} operations and {} results: {}",
                keys.len(),
                answer.results.len(),
                show()
            ));
        }
        for (position, (key, result)) in keys.iter().zip(&answer.results).enumerate() {
            if result.idempotency_key.map(str::as_bytes) != Some(&key[..]) {
                return Err(format!("result {position} is not that of its operation: {}", show()));
            }
        }
        Ok(answer)
    }
}

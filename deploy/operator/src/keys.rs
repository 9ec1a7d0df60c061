//! API keys: made here, and known only to their owner afterwards.
//!
//! A key is 256 random bits, so its digest in `gateway.toml` needs neither salt nor a slow hash. It is printed once.
//! Running gateways take a changed file.

mod file;
mod list;
mod revoke;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use picopay_gateway_config::rfc3339::NO_TIME;
use picopay_gateway_config::{Expiry, Scope};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::file::{GatewayFile, names_in};
use crate::output::OutputArgs;

/// What a key begins with, so that a search for leaked secrets finds it.
const KEY_PREFIX: &str = "pp_";
const KEY_BYTES: usize = 32;
/// Letters in a key's name, which stands in every log line of its calls.
const NAME_LENGTH_MAX: usize = 63;

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make an API key, print it once, and give the entry for gateway.toml that lets it in
    Create(CreateArgs),
    /// List the keys of a gateway.toml: what each may do, and until when
    List(list::ListArgs),
    /// Take a key out of a gateway.toml: its gateways refuse it within two seconds
    Revoke(revoke::RevokeArgs),
}

/// Make an API key.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What logs call it: letters, digits, dots, hyphens and underscores
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What it may do: topup, charge, refund, transfer, write (these four), read, admin (everything)
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', required = true,
          value_parser = Scope::ALL.map(Scope::as_str), hide_possible_values = true)]
    scopes: Vec<String>,
    /// From when on it opens nothing, as an RFC 3339 time [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    expires_at: Option<String>,
    /// How often it may call, on average [default: as often as it can]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_second: Option<u32>,
    /// Add the entry to this gateway.toml
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct CreatedKey {
    name: String,
    key: String,
    digest: String,
    scopes: Vec<String>,
    expires_at: Option<String>,
    rate_per_second: Option<u32>,
    /// The file that has the entry now; null when it is still to be pasted.
    appended_to: Option<PathBuf>,
}

pub fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::List(args) => list::run(&args),
        KeysCommand::Revoke(args) => revoke::run(&args),
    }
}

fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let key = make_key()?;
    let created = CreatedKey {
        name: args.name,
        digest: format!("sha256:{:x}", Sha256::digest(&key)),
        key,
        scopes: args.scopes,
        expires_at: args.expires_at,
        rate_per_second: args.rate_per_second,
        appended_to: args.append,
    };
    if let Some(file) = &created.appended_to {
        append(file, &created)?;
    }
    args.output.print(&created, text);
    Ok(ExitCode::SUCCESS)
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("a name has 1 to {NAME_LENGTH_MAX} letters, digits, dots, hyphens and underscores"))
    }
}

fn parse_expiry(text: &str) -> Result<String, String> {
    Expiry::parse(text).map(|_| text.to_owned()).ok_or_else(|| NO_TIME.to_owned())
}

fn make_key() -> anyhow::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut bytes).context("the system gave no random bytes")?;
    Ok(format!("{KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

fn text(created: &CreatedKey) -> String {
    let entry = entry(created);
    let key = &created.key;
    let named = format!("The key {:?}, shown this once:\n\n    {key}\n\n", created.name);
    match &created.appended_to {
        Some(file) => {
            format!("{named}{} has its entry now; its gateways know it within two seconds.", file.display())
        }
        None => {
            format!(
                "{named}Paste this at the end of gateway.toml; its gateways know it within two seconds:\n\n{entry}"
            )
        }
    }
}

fn entry(created: &CreatedKey) -> String {
    let rate = created.rate_per_second.map_or(String::new(), |rate| format!("rate_per_second = {rate}\n"));
    let expiry = created.expires_at.as_ref().map_or(String::new(), |time| format!("expires_at = {time:?}\n"));
    let scopes: Vec<String> = created.scopes.iter().map(|scope| format!("{scope:?}")).collect();
    format!(
        "[[keys]]\nname = {:?}\ndigest = {:?}\nscopes = [{}]\n{expiry}{rate}",
        created.name,
        created.digest,
        scopes.join(", ")
    )
}

fn append(path: &Path, created: &CreatedKey) -> anyhow::Result<()> {
    let file = GatewayFile::open(path)?;
    let shown = path.display();
    if file.names()?.contains(&created.name) {
        bail!(
            "{shown} has a key {:?} already: choose another name, or take that entry out first",
            created.name
        );
    }
    let old = file.text();
    let gap = if old.is_empty() || old.ends_with("\n\n") {
        ""
    } else if old.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let new = format!("{old}{gap}{}", entry(created));
    let has_it = names_in(&new).is_ok_and(|names| names.contains(&created.name));
    ensure!(
        has_it,
        "{shown} cannot take an entry at its end: write its keys as [[keys]] tables, then run this again"
    );
    file.replace(&new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_carry_256_bits() {
        let (one, other) = (make_key().unwrap(), make_key().unwrap());
        assert_ne!(one, other);
        let random = one.strip_prefix("pp_").unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "shop-1", "A.b_c", &"x".repeat(63)] {
            assert!(parse_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a\"b", "a\nb", "ü", &"x".repeat(64)] {
            assert!(parse_name(name).is_err(), "{name:?}");
        }
    }
}

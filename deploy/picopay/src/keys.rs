//! API keys: made here, known to nobody afterwards but their owner.
//!
//! A key is 256 random bits, so its digest in `gateway.toml` needs neither salt nor a slow hash. It is printed once.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::output::OutputArgs;

/// What a key begins with, so that a search for leaked secrets finds it.
const KEY_PREFIX: &str = "pp_";
/// Random bytes in a key.
const KEY_BYTES: usize = 32;
/// Letters in a key's name, which stands in every log line of its calls.
const NAME_LENGTH_MAX: usize = 63;

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make an API key, print it once, and give the entry for gateway.toml that lets it in
    Create(CreateArgs),
}

/// Make an API key.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What logs call it: letters, digits, dots, hyphens and underscores
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What it may do: write, read, admin
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', required = true,
          value_parser = ["write", "read", "admin"], hide_possible_values = true)]
    scopes: Vec<String>,
    /// How often it may call, on average [default: as often as it can]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_second: Option<u32>,
    /// Add the entry to this gateway.toml
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What `keys create` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
struct CreatedKey {
    name: String,
    /// The key. Nobody can find it out again.
    key: String,
    /// What gateway.toml knows it by.
    digest: String,
    scopes: Vec<String>,
    rate_per_second: Option<u32>,
    /// The file that has the entry now; null when it is still to be pasted.
    appended_to: Option<PathBuf>,
}

/// Runs `picopay keys …`.
pub fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    let KeysCommand::Create(args) = command;
    let key = make_key()?;
    let created = CreatedKey {
        name: args.name,
        digest: format!("sha256:{:x}", Sha256::digest(&key)),
        key,
        scopes: args.scopes,
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
            format!("{named}{} has its entry now; a gateway knows it from its next start.", file.display())
        }
        None => {
            format!("{named}Paste this at the end of gateway.toml, then restart the gateways:\n\n{entry}")
        }
    }
}

fn entry(created: &CreatedKey) -> String {
    let rate = created.rate_per_second.map_or(String::new(), |rate| format!("rate_per_second = {rate}\n"));
    let scopes: Vec<String> = created.scopes.iter().map(|scope| format!("{scope:?}")).collect();
    format!(
        "[[keys]]\nname = {:?}\ndigest = {:?}\nscopes = [{}]\n{rate}",
        created.name,
        created.digest,
        scopes.join(", ")
    )
}

/// The part of `gateway.toml` that matters here; the gateway checks the rest.
#[derive(Deserialize)]
struct KeyNames {
    #[serde(default)]
    keys: Vec<KeyName>,
}

#[derive(Deserialize)]
struct KeyName {
    name: String,
}

/// The names of the keys in a `gateway.toml`; or, for people, why it is none.
fn names_in(text: &str) -> Result<Vec<String>, String> {
    let read: KeyNames =
        Figment::new().merge(Toml::string(text)).extract().map_err(|error| error.to_string())?;
    Ok(read.keys.into_iter().map(|key| key.name).collect())
}

/// Adds the entry to `file`: a reader sees the old file or the new one, never a part, and so does a machine that
/// loses its power.
fn append(file: &Path, created: &CreatedKey) -> anyhow::Result<()> {
    // A link stays a link: the file that it leads to is replaced.
    let file = &file.canonicalize().with_context(|| format!("{} cannot be read", file.display()))?;
    let shown = file.display();
    let folder = file.parent().context("a file is in a folder")?;
    let folder_handle = File::open(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    // Two of these at once would each replace the file without the other's entry. The lock is on the folder,
    // since the file itself is replaced; it goes with the handle.
    folder_handle.lock().with_context(|| format!("{} cannot be locked", folder.display()))?;

    let old = std::fs::read_to_string(file).with_context(|| format!("{shown} cannot be read"))?;
    let names = names_in(&old).map_err(|error| anyhow::anyhow!("{shown} is no gateway.toml: {error}"))?;
    if names.contains(&created.name) {
        bail!(
            "{shown} has a key {:?} already: choose another name, or take that entry out first",
            created.name
        );
    }
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
    replace(file, folder, &folder_handle, &new).with_context(|| format!("{shown} cannot be replaced"))
}

fn replace(file: &Path, folder: &Path, folder_handle: &File, text: &str) -> anyhow::Result<()> {
    let before: Metadata = std::fs::metadata(file)?;
    let mut temporary = NamedTempFile::with_prefix_in(".gateway-", folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().set_permissions(before.permissions())?;
    let after = temporary.as_file().metadata()?;
    if (before.uid(), before.gid()) != (after.uid(), after.gid()) {
        fchown(temporary.as_file(), Some(before.uid()), Some(before.gid()))
            .context("its owner cannot be kept")?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    folder_handle.sync_all()?;
    Ok(())
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

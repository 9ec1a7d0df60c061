//! `picopay keys revoke`: takes a key's entry out of `gateway.toml`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;

use super::file::{GatewayFile, names_in};
use crate::output::OutputArgs;

/// Take a key away.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Which, by its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The gateway's configuration file
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct RevokedKey {
    revoked: String,
    left: Vec<String>,
}

pub fn run(args: &RevokeArgs) -> anyhow::Result<ExitCode> {
    let (name, shown) = (&args.name, args.config.display());
    let file = GatewayFile::open(&args.config)?;
    let names = file.names()?;
    if !names.contains(name) {
        bail!("{shown} has no key {name:?}; there are {}", names.join(", "));
    }
    let left: Vec<String> = names.into_iter().filter(|other| other != name).collect();
    // A gateway refuses a file without keys and goes by the one before: the key would stay good.
    ensure!(
        !left.is_empty(),
        "{name:?} is the only key in {shown}: make another one first, with keys create --append"
    );
    let new = without(file.text(), name);
    ensure!(
        names_in(&new).as_ref() == Ok(&left),
        "the entry of {name:?} cannot be told from the rest of {shown}: take it out by hand"
    );
    file.replace(&new)?;
    let revoked = RevokedKey { revoked: name.clone(), left };
    args.output.print(&revoked, |revoked| {
        format!(
            "The key {:?} is out of {shown}: its gateways refuse it within two seconds. Left: {}",
            revoked.revoked,
            revoked.left.join(", ")
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// From the header to the last field: comments after that are the next table's. The caller checks what the result means.
fn without(text: &str, name: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut table = String::new();
    for line in text.split_inclusive('\n').chain(["["]) {
        if line.trim_start().starts_with('[') {
            let is_named = names_in(&table).as_deref() == Ok(&[name.to_owned()]);
            kept.push_str(if is_named { after_last_field(&table) } else { &table });
            table.clear();
        }
        table.push_str(line);
    }
    kept
}

fn after_last_field(table: &str) -> &str {
    let is_field = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let (mut end, mut at) = (0, 0);
    for line in table.split_inclusive('\n') {
        at += line.len();
        if is_field(line) {
            end = at;
        }
    }
    table[end..].trim_start_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_goes_and_everything_else_stays_to_the_letter() {
        let key = |name: &str| format!("[[keys]]\nname = {name:?} # its\nscopes = [\"read\"]\n\n");
        let text = format!(
            "listen = \"x\" # mine\n\n{}{}[server]\nidle_timeout = \"1s\"\n{}",
            key("a"),
            key("b"),
            key("c")
        );
        for name in ["a", "b", "c"] {
            assert_eq!(without(&text, name), text.replace(&key(name), ""), "{name}");
        }
        assert_eq!(without(&text, "d"), text);
        let commented = format!("{}# of b\n{}", key("a"), key("b"));
        assert_eq!(without(&commented, "a"), format!("# of b\n{}", key("b")));
    }
}

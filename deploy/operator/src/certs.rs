//! Certificates of a cluster, from an authority of its own.
//!
//! For the hops inside a cluster, where nobody else has to believe them. What clients see may come from a public authority
//! as well.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use picopay_certs::{Authority, CA_FILE, CA_KEY_FILE, Leaf, in_days};

use crate::output::print;

/// Nobody renews an authority often: every part of the cluster must learn of it first.
const AUTHORITY_DAYS: u32 = 3_650;

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority, and a certificate and key for each part of a cluster that is named
    Create(CreateArgs),
    /// Make one more certificate with the authority in a folder, or renew one
    Issue(IssueArgs),
}

/// Make an authority and certificates.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The folder for all files: ca.pem, ca.key, and NAME.pem and NAME.key for each part
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// A part of the cluster and the names and addresses by which it is reached: node-1=10.0.0.1,node-1.internal
    #[arg(long = "part", value_name = "NAME[=HOST,…]", value_parser = parse_part)]
    parts: Vec<Part>,
    /// For how many days the parts' certificates are good
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// Make or renew a certificate.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The folder with ca.pem and ca.key
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The part of the cluster, and the names and addresses by which it is reached
    #[arg(value_name = "NAME[=HOST,…]", value_parser = parse_part)]
    part: Part,
    /// For how many days it is good
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Put it in the place of the one that is there
    #[arg(long)]
    renew: bool,
}

#[derive(Debug, Clone)]
struct Part {
    name: String,
    hosts: Vec<String>,
}

pub fn run(command: CertsCommand) -> anyhow::Result<ExitCode> {
    match command {
        CertsCommand::Create(args) => create(&args),
        CertsCommand::Issue(args) => issue(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(args: &CreateArgs) -> anyhow::Result<()> {
    // Before the first file is written: half of a set would be in the way of the next try.
    let names =
        args.parts.iter().flat_map(|part| [format!("{}.pem", part.name), format!("{}.key", part.name)]);
    let all = [CA_FILE, CA_KEY_FILE].map(str::to_owned).into_iter().chain(names);
    let mut all = all.map(|name| args.folder.join(name));
    if let Some(there) = all.find(|path| path.exists()) {
        bail!(
            "{} is there already, and nothing was changed. `picopay certs issue {} NAME` makes one more certificate, and \
             with --renew a new one for an old",
            there.display(),
            args.folder.display()
        );
    }
    std::fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    let authority = Authority::make(in_days(AUTHORITY_DAYS))?;
    authority.save(&args.folder)?;
    print(&format!(
        "{}: {}, for {AUTHORITY_DAYS} days. Every part of the cluster needs ca.pem; ca.key belongs on no server.",
        args.folder.join(CA_FILE).display(),
        authority.name()
    ));
    args.parts.iter().try_for_each(|part| make(&authority, &args.folder, part, args.days, false))
}

fn issue(args: &IssueArgs) -> anyhow::Result<()> {
    let authority = Authority::read(&args.folder)?;
    make(&authority, &args.folder, &args.part, args.days, args.renew)
}

fn make(
    authority: &Authority,
    folder: &std::path::Path,
    part: &Part,
    days: u32,
    renews: bool,
) -> anyhow::Result<()> {
    let hosts: Vec<&str> = part.hosts.iter().map(String::as_str).collect();
    let pair = authority.issue(&Leaf { name: &part.name, hosts: &hosts, expires: in_days(days) })?;
    let file = |end: &str| folder.join(format!("{}.{end}", part.name));
    if renews {
        pair.replace(&file("pem"), &file("key"))?;
    } else {
        pair.save(&file("pem"), &file("key")).with_context(|| "with --renew it takes the other's place")?;
    }
    let reached = if hosts.is_empty() { "it only calls".to_owned() } else { hosts.join(", ") };
    print(&format!("{}: CN={}, for {days} days: {reached}", file("pem").display(), part.name));
    Ok(())
}

/// A name becomes that of a file, and the common name of a certificate.
fn parse_part(text: &str) -> Result<Part, String> {
    let (name, hosts) = text.split_once('=').unwrap_or((text, ""));
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name == "ca" || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(
            "a part's name has letters, digits, dots, hyphens and underscores, and is not `ca`".to_owned()
        );
    }
    let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
    Ok(Part { name: name.to_owned(), hosts })
}

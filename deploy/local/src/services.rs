//! PicoPay's own processes: nodes, gateway, and the operator's command where it is needed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::certificates::{GATEWAY, NODE};
use crate::config_files::{gateway_toml, node_toml};
use crate::folder::{Folder, write};
use crate::guardian::Guardian;
use crate::postgres::Ground;
use crate::process::{Kind, Process, Recipe};
use crate::spec::ClusterSpec;
use crate::{LocalError, programs};

pub(crate) const CLUSTER_FILE: &str = "cluster.toml";

/// `[tls]` of a service, and nothing in a cluster that speaks plainly. Callers of nodes must show a certificate; clients
/// of the gateway may.
pub(crate) fn front_toml(ground: &Ground, name: &str) -> String {
    let Some(certificates) = &ground.secrets.certificates else { return String::new() };
    let [ca, cert, key] = certificates.names(name);
    format!("\n[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\nclient_ca_file = {ca:?}\n")
}

fn scheme(ground: &Ground) -> &'static str {
    if ground.secrets.certificates.is_some() { "https" } else { "http" }
}

pub(crate) fn prepare_node(
    folder: &Folder,
    ground: &Ground,
    spec: &ClusterSpec,
    (shard, name, number): (&str, &str, usize),
    port: u16,
    cluster_file: &str,
) -> Result<Process, LocalError> {
    let own = spec.toml_of_nodes.iter().filter(|(of, _)| *of == number).map(|(_, toml)| toml.as_str());
    let more: String = std::iter::once(spec.node_toml.as_str()).chain(own).collect();
    let more = format!("{more}{}", front_toml(ground, NODE));
    write_node_config(folder, spec, (shard, name, port), &more)?;
    let config = node_config(name);
    let kind = Kind::Service { health: format!("{}://127.0.0.1:{port}/health", scheme(ground)) };
    let environment = &spec.node_environment;
    let arguments = ["--config", &config, "--cluster", cluster_file];
    let program = spec.program("picopay-node")?;
    Ok(service(folder, &ground.guardian, (name, program), &arguments, environment, kind))
}

pub(crate) fn write_node_config(
    folder: &Folder,
    spec: &ClusterSpec,
    (shard, name, port): (&str, &str, u16),
    more: &str,
) -> Result<(), LocalError> {
    write(&folder.file(&node_config(name)), &node_toml(shard, port, spec.has_drain, more))
}

fn node_config(name: &str) -> String {
    format!("{name}.toml")
}

pub(crate) fn prepare_gateway(
    folder: &Folder,
    ground: &Ground,
    spec: &ClusterSpec,
    name: &str,
    listen: SocketAddr,
) -> Result<Process, LocalError> {
    let config = format!("{name}.toml");
    let more = format!("{}{}", spec.gateway_toml, front_toml(ground, GATEWAY));
    let text = gateway_toml(&listen.to_string(), &spec.api_keys, spec.has_drain, &more);
    write(&folder.file(&config), &text)?;
    let kind = Kind::Service { health: format!("{}://{}/health", scheme(ground), reachable(listen)) };
    let arguments = ["--config", &config, "--cluster", CLUSTER_FILE];
    let program = spec.program("picopay-gateway")?;
    Ok(service(folder, &ground.guardian, (name, program), &arguments, &[], kind))
}

pub(crate) fn prepare_init(
    folder: &Folder,
    guardian: &Arc<Guardian>,
    spec: &ClusterSpec,
) -> Result<Process, LocalError> {
    let arguments = ["init", "--if-needed", "--cluster", CLUSTER_FILE];
    Ok(service(folder, guardian, ("init", spec.program("picopay")?), &arguments, &[], Kind::Tool))
}

pub(crate) fn prepare_migrate(
    folder: &Folder,
    guardian: &Arc<Guardian>,
    spec: &ClusterSpec,
) -> Result<Process, LocalError> {
    let arguments = ["migrate", "--finish", "--cluster", CLUSTER_FILE];
    Ok(service(folder, guardian, ("migrate", spec.program("picopay")?), &arguments, &[], Kind::Tool))
}

pub(crate) fn prepare_join(
    folder: &Folder,
    guardian: &Arc<Guardian>,
    shard: &str,
) -> Result<Process, LocalError> {
    let name = format!("{shard}-join");
    let arguments = ["shard", "add", shard, "--cluster", CLUSTER_FILE];
    Ok(service(folder, guardian, (&name, programs::find_picopay("picopay")?), &arguments, &[], Kind::Tool))
}

pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn service(
    folder: &Folder,
    guardian: &Arc<Guardian>,
    (name, program): (&str, PathBuf),
    arguments: &[&str],
    variables: &[(String, String)],
    kind: Kind,
) -> Process {
    // Files stand beside each other; the service itself starts in the root folder.
    let with_folder = |argument: &&str| match argument.strip_suffix(".toml") {
        Some(_) => folder.file(argument).into(),
        None => OsString::from(argument),
    };
    let arguments: Vec<OsString> = arguments.iter().map(with_folder).collect();
    let mut environment = environment(folder.is_temporary());
    environment.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
    let recipe = Recipe {
        name: name.to_owned(),
        program,
        arguments,
        environment,
        user: None,
        log: folder.log(name),
        kind,
    };
    Process::new(recipe, Arc::clone(guardian))
}

/// A kept cluster can be tuned by this process's environment, as in production. What a test starts must not depend on who
/// runs the test.
fn environment(is_temporary: bool) -> BTreeMap<OsString, OsString> {
    let prefixes = ["PICOPAY_CLUSTER__", "PICOPAY_GATEWAY__", "PICOPAY_NODE__"];
    let decided = ["PICOPAY_GATEWAY__LISTEN", "PICOPAY_NODE__LISTEN", "PICOPAY_NODE__SHARD"];
    let is_overridden = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_kept_out = |name: &str| decided.contains(&name) || (is_temporary && is_overridden(name));
    std::env::vars_os().filter(|(name, _)| !is_kept_out(&name.to_string_lossy())).collect()
}

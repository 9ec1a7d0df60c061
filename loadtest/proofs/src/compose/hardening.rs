//! What the engine says of each container: what it may not do, and who reaches it.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::project::{Project, docker};

/// It writes the secrets for all others, and gives each to its reader.
const MAKES_SECRETS: &str = "prepare";
/// Who is published, and is in the one network with a way out.
const DOOR: &str = "gateway";
/// Of `drain` and `shutdown_timeout` together; whoever gets less is killed while it answers.
const DRAIN_S: u64 = 15;

pub async fn check(project: &Project) -> anyhow::Result<()> {
    let containers = project.all_containers().await?;
    ensure!(containers.len() > 10, "only {} containers", containers.len());
    for id in &containers {
        let said: Value = serde_json::from_str(&docker(&["inspect", "--format", "{{json .}}", id]).await?)?;
        let service = said["Config"]["Labels"]["com.docker.compose.service"].as_str().context("a service")?;
        check_container(service, &said).with_context(|| format!("the container of {service}"))?;
    }
    let label = project.label();
    let networks = docker(&["network", "ls", "--quiet", "--filter", &label]).await?;
    for network in networks.lines() {
        let said = docker(&["network", "inspect", "--format", "{{.Name}} {{.Internal}}", network]).await?;
        let is_front = said.contains("_front ");
        ensure!(said.ends_with(if is_front { "false" } else { "true" }), "a way out (internal): {said}");
    }
    check_image(project).await
}

fn check_container(service: &str, said: &Value) -> anyhow::Result<()> {
    let (host, config) = (&said["HostConfig"], &said["Config"]);
    ensure!(host["ReadonlyRootfs"] == true, "its root can be written");
    ensure!(host["Privileged"] == false && texts(&host["CapDrop"]) == ["ALL"], "{}", host["CapDrop"]);
    let added = texts(&host["CapAdd"]);
    let user = config["User"].as_str().unwrap_or_default();
    if service == MAKES_SECRETS {
        ensure!(added == ["CHOWN"] || added == ["CAP_CHOWN"], "{added:?}");
        ensure!(host["NetworkMode"] == "none", "it has a network");
    } else {
        ensure!(added.is_empty(), "{added:?}");
        ensure!(!user.is_empty() && !user.starts_with('0') && user != "root", "it is root");
    }
    ensure!(texts(&host["SecurityOpt"]).contains(&"no-new-privileges:true"), "it may gain privileges");
    ensure!(host["Init"] == true, "nobody reaps its zombies");
    let image = config["Image"].as_str().unwrap_or_default();
    let has_tag = image.rsplit('/').next().is_some_and(|name| name.contains(':'));
    ensure!(has_tag && !image.ends_with(":latest"), "{image} is whatever it is today");
    for variable in texts(&config["Env"]) {
        let name = variable.split('=').next().unwrap_or_default();
        ensure!(!name.contains("PASSWORD") && !name.contains("SECRET"), "{name} is in its environment");
    }
    let ports = host["PortBindings"].as_object().cloned().unwrap_or_default();
    ensure!(ports.is_empty() == (service != DOOR), "{ports:?}");
    let mut published = ports.values().flat_map(|all| all.as_array().into_iter().flatten());
    ensure!(published.all(|port| port["HostIp"] == "127.0.0.1"), "{ports:?}");
    let networks = said["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    let is_outside = networks.keys().any(|name| name.ends_with("_front"));
    ensure!(is_outside == (service == DOOR), "its networks are {:?}", networks.keys());
    if said["State"]["Running"] == true {
        ensure!(said["State"]["Health"]["Status"] == "healthy", "{}", said["State"]["Health"]["Status"]);
        if service == DOOR || service.ends_with("-node") {
            let grace = config["StopTimeout"].as_u64().unwrap_or_default();
            ensure!(grace > DRAIN_S, "it is killed after {grace} s");
        }
    }
    Ok(())
}

/// Its labels, and that the shipped tag is this release.
async fn check_image(project: &Project) -> anyhow::Result<()> {
    let config = docker(&["image", "inspect", "--format", "{{json .Config}}", &project.image()]).await?;
    let config: Value = serde_json::from_str(&config)?;
    ensure!(config["User"] == "65532:65532", "the image's user is {}", config["User"]);
    ensure!(config["Healthcheck"]["Test"][1] == "picopay", "its health check is {}", config["Healthcheck"]);
    let version = env!("CARGO_PKG_VERSION");
    let labels = &config["Labels"];
    ensure!(labels["org.opencontainers.image.version"] == version, "{labels}");
    ensure!(labels["org.opencontainers.image.revision"].is_string(), "{labels}");
    let shipped = std::fs::read_to_string(project.path(".env"))?;
    ensure!(shipped.lines().any(|line| line == format!("PICOPAY_TAG={version}")), "{shipped}");
    Ok(())
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

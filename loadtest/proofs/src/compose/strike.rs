//! What happens to one container, and how it is undone.

use std::fmt;

use anyhow::ensure;

use super::project::{Project, docker};

/// Published on the machine's loopback. Whoever is cut from it is out of reach for clients, which proves nothing.
const FRONT: &str = "_front";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Killed,
    Paused,
    Cut,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Killed, Self::Paused, Self::Cut];
}

#[derive(Debug)]
pub struct Strike {
    pub service: &'static str,
    pub kind: Kind,
}

impl fmt::Display for Strike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Killed => "killed",
            Kind::Paused => "paused",
            Kind::Cut => "cut from its networks",
        };
        write!(formatter, "{} {what}", self.service)
    }
}

/// A container in trouble, until [`Struck::heal`] undoes it.
pub struct Struck {
    container: String,
    service: &'static str,
    kind: Kind,
    networks: Vec<String>,
}

impl Strike {
    pub async fn begin(&self, project: &Project) -> anyhow::Result<Struck> {
        let container = project.container_of(self.service).await?;
        let mut networks = Vec::new();
        match self.kind {
            Kind::Killed => drop(docker(&["kill", &container]).await?),
            Kind::Paused => drop(docker(&["pause", &container]).await?),
            Kind::Cut => {
                let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
                let all = docker(&["inspect", "--format", format, &container]).await?;
                networks =
                    all.split_whitespace().filter(|name| !name.ends_with(FRONT)).map(str::to_owned).collect();
                ensure!(!networks.is_empty(), "{} is in no network", self.service);
                for network in &networks {
                    docker(&["network", "disconnect", network, &container]).await?;
                }
            }
        }
        Ok(Struck { container, service: self.service, kind: self.kind, networks })
    }
}

impl Struck {
    pub async fn heal(self) -> anyhow::Result<()> {
        match self.kind {
            Kind::Killed => drop(docker(&["start", &self.container]).await?),
            Kind::Paused => drop(docker(&["unpause", &self.container]).await?),
            Kind::Cut => {
                for network in &self.networks {
                    // The name by which the others know it goes with the network.
                    docker(&["network", "connect", "--alias", self.service, network, &self.container])
                        .await?;
                }
            }
        }
        Ok(())
    }
}

//! The servers that one connection string names, asked one by one, the one that served last first.
//!
//! The driver would go through them itself. But a frozen server takes the connection and never answers the login,
//! and the driver would wait for it as long as it is let, and never come to the server that was promoted in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The servers of one connection string. Clones share which one served last.
#[derive(Clone)]
pub struct Servers {
    /// At least one; each names one server.
    configs: Vec<Config>,
    served_last: Arc<AtomicUsize>,
}

impl Servers {
    /// Those that `config` names.
    pub fn of(config: &Config) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        // With no host at all, the driver says best what is missing.
        let configs = if count < 2 {
            vec![config.clone()]
        } else {
            (0..count).map(|position| only(config, position)).collect()
        };
        Self { configs, served_last: Arc::default() }
    }

    /// The same servers, each with a changed configuration.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Config)) -> Self {
        self.configs.iter_mut().for_each(change);
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.configs.len()
    }

    /// Each with its position, in the order in which to ask them.
    pub fn in_order(&self) -> impl Iterator<Item = (usize, &Config)> {
        let first = self.served_last.load(Ordering::Relaxed);
        (0..self.count()).map(move |step| {
            let position = (first + step) % self.count();
            (position, &self.configs[position])
        })
    }

    /// From now on this one is asked first.
    pub fn prefer(&self, position: usize) {
        self.served_last.store(position, Ordering::Relaxed);
    }
}

/// Where a connection string leads, for people: `10.0.0.2:5432,10.0.0.3:5433/picopay`. Nothing else of it is shown, since
/// it may hold a password.
pub fn describe(connection_string: &str) -> String {
    let Ok(config) = connection_string.parse::<Config>() else { return "no connection string".to_owned() };
    let servers: Vec<String> = Servers::of(&config).configs.iter().map(address).collect();
    format!("{}/{}", servers.join(","), config.get_dbname().unwrap_or_default())
}

fn address(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) => format!("{name}:{port}"),
        (Some(Host::Unix(folder)), _) => format!("{}:{port}", folder.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => "no host".to_owned(),
    }
}

/// `config` with its `position`th server only.
fn only(config: &Config, position: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(position) {
        Some(Host::Tcp(name)) => one.host(name),
        Some(Host::Unix(folder)) => one.host_path(folder),
        None => &mut one,
    };
    if let Some(address) = config.get_hostaddrs().get(position) {
        one.hostaddr(*address);
    }
    // One port stands for all servers.
    let ports = config.get_ports();
    if let Some(port) = ports.get(position).or(ports.first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(servers: &Servers) -> Vec<u16> {
        servers.in_order().map(|(_, config)| config.get_ports()[0]).collect()
    }

    #[test]
    fn each_server_stands_alone_with_all_that_was_said_of_them_and_the_last_that_served_comes_first() {
        let text = "host=a,b,c port=1,2,3 dbname=d user=u target_session_attrs=read-write keepalives_idle=7";
        let servers = Servers::of(&text.parse().unwrap());
        assert_eq!(ports(&servers), [1, 2, 3]);
        servers.clone().prefer(1);
        assert_eq!(ports(&servers), [2, 3, 1]);
        for (position, config) in servers.in_order() {
            let name = ["a", "b", "c"][position];
            let expected = format!(
                "host={name} port={} dbname=d user=u target_session_attrs=read-write keepalives_idle=7",
                position + 1
            );
            assert_eq!(*config, expected.parse().unwrap());
        }
        let one_port = Servers::of(&"postgresql://u@a,b:7/d".parse().unwrap());
        assert_eq!(one_port.count(), 2);
    }
}

//! The servers that one connection string names, each with a configuration of its own.
//!
//! The driver would go through them itself. But it takes the first that says yes, and after a failover whose old primary
//! lives on, two do. And a frozen server takes the connection and never answers the login.

use picopay_shared::tls_words::TlsWords;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::tls::{Endpoint, parse_rest};

#[derive(Clone)]
pub struct Servers {
    /// At least one; each names one server.
    all: Vec<Endpoint>,
}

impl Servers {
    pub fn of(endpoint: &Endpoint) -> Self {
        let each = each_of(&endpoint.config).into_iter();
        let all = each.map(|config| Endpoint { config, tls: endpoint.tls.clone() }.for_its_host());
        Self { all: all.collect() }
    }

    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Config)) -> Self {
        self.all.iter_mut().for_each(|server| change(&mut server.config));
        self
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn at(&self, position: usize) -> &Endpoint {
        &self.all[position]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter()
    }
}

fn each_of(config: &Config) -> Vec<Config> {
    let count = config.get_hosts().len().max(config.get_hostaddrs().len());
    // With no host at all, the driver says best what is missing.
    if count < 2 {
        return vec![config.clone()];
    }
    (0..count).map(|position| only(config, position)).collect()
}

/// The driver's part of a connection string: where it leads, without how.
fn parse(connection_string: &str) -> Result<Config, String> {
    let (_, rest) = TlsWords::take_off(connection_string)?;
    parse_rest(&rest)
}

/// Where a connection string leads, for people: `10.0.0.2:5432,10.0.0.3:5433/picopay`. Nothing else of it is shown, since
/// it may hold a password.
pub fn describe(connection_string: &str) -> String {
    let Ok(config) = parse(connection_string) else { return "no connection string".to_owned() };
    let servers: Vec<String> = each_of(&config).iter().map(address).collect();
    format!("{}/{}", servers.join(","), config.get_dbname().unwrap_or_default())
}

pub fn addresses_of(connection_string: &str) -> Result<Vec<String>, String> {
    let config = parse(connection_string)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("it names no host".to_owned());
    }
    Ok(each_of(&config).iter().map(address).collect())
}

pub fn databases_of(connection_string: &str) -> Result<Vec<String>, String> {
    let config = parse(connection_string)?;
    // As in libpq: without a name, the database is called like the user.
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    Ok(addresses_of(connection_string)?.iter().map(|address| format!("{address}/{name}")).collect())
}

pub fn address(config: &Config) -> String {
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
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_stands_alone_with_all_that_was_said_of_them() {
        let text = "host=a,b,c port=1,2,3 dbname=d user=u target_session_attrs=read-write keepalives_idle=7";
        let servers = Servers::of(&Endpoint::plain(text.parse().unwrap()));
        assert_eq!(servers.count(), 3);
        for (position, name) in ["a", "b", "c"].into_iter().enumerate() {
            let expected = format!(
                "host={name} port={} dbname=d user=u target_session_attrs=read-write keepalives_idle=7 sslmode=disable",
                position + 1
            );
            assert_eq!(servers.at(position).config, expected.parse().unwrap());
        }
        assert_eq!(addresses_of("host=a,b port=7 dbname=d user=u").unwrap(), ["a:7", "b:7"]);
    }

    #[test]
    fn a_connection_string_that_cannot_be_read_shows_nothing_of_its_password() {
        let reason = |text: &str| addresses_of(text).unwrap_err();
        assert!(reason("hots=x").contains("hots"));
        let said = reason("host=x password=my s3cret=y");
        assert!(!said.contains("s3cret") && said.contains("single quotes"), "{said}");
    }
}

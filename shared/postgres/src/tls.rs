//! Where and how a connection to PostgreSQL is made: the one place that knows whether it is over TLS.

use std::fmt;

use picopay_shared::cluster::DatabaseCertificates;
use picopay_shared::tls_words::{TlsDemand, TlsWords};
use picopay_tls::database_client;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::describe_with_detail;

/// Whether connections are over TLS, and what they demand then.
#[derive(Clone, Default)]
pub enum Tls {
    #[default]
    Off,
    On(MakeRustlsConnect),
}

/// What a connection string says: one server or several, and how to connect to them.
#[derive(Clone)]
pub struct Endpoint {
    pub config: Config,
    pub tls: Tls,
}

impl Endpoint {
    /// Reads a connection string, with the certificates that it names. What is wrong with one is not said where it holds a
    /// password: the parser names the word that it stumbles over, which is a part of the password when that has a space and
    /// no quotes.
    pub fn parse(text: &str, certificates: &DatabaseCertificates) -> Result<Self, String> {
        let (words, rest) = TlsWords::take_off(text)?;
        let mut config = parse_rest(&rest)?;
        let TlsDemand::On { check, identity, is_direct } = words.demand()? else {
            if config.get_channel_binding() == ChannelBinding::Require {
                return Err("channel_binding=require needs TLS: write sslmode=verify-full".to_owned());
            }
            config.ssl_mode(SslMode::Disable);
            return Ok(Self { config, tls: Tls::Off });
        };
        if config.get_hosts().is_empty() && !config.get_hostaddrs().is_empty() {
            return Err("TLS needs the host's name: write host beside hostaddr".to_owned());
        }
        let check = certificates.check(&check)?;
        let identity = identity.as_ref().map(|files| certificates.identity(files)).transpose()?;
        let client = database_client(&check, identity, is_direct).map_err(|fault| fault.to_string())?;
        config.ssl_mode(SslMode::Require);
        config.ssl_negotiation(if is_direct { SslNegotiation::Direct } else { SslNegotiation::Postgres });
        Ok(Self { config, tls: Tls::On(MakeRustlsConnect::new(client)) })
    }

    /// A server that is reached without TLS.
    pub fn plain(mut config: Config) -> Self {
        config.ssl_mode(SslMode::Disable);
        Self { config, tls: Tls::Off }
    }

    /// As in libpq, a Unix socket has no TLS, whatever is said.
    pub(crate) fn for_its_host(mut self) -> Self {
        if matches!(self.config.get_hosts(), [Host::Unix(_)]) {
            self.config.ssl_mode(SslMode::Disable);
            self.tls = Tls::Off;
        }
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("is_tls", &matches!(self.tls, Tls::On(_)))
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Asks the server to give up what a connection is doing, in the way that the connection was made.
    pub async fn cancel(&self, token: &CancelToken) -> Result<(), Error> {
        match self {
            Self::Off => token.cancel_query(NoTls).await,
            Self::On(tls) => token.cancel_query(tls.clone()).await,
        }
    }
}

/// The driver's part of a connection string, and nothing of its password in an error.
pub(crate) fn parse_rest(rest: &str) -> Result<Config, String> {
    rest.parse().map_err(|error| {
        if rest.contains("password") {
            return "it cannot be read; why is not said, since it holds a password, which stands in single quotes if it has \
                    a space"
                .to_owned();
        }
        describe_with_detail(&error)
    })
}

//! The side that is connected to: what it shows, and what it demands of clients.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::server::{StoresServerSessions, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::authorities::Authorities;
use crate::certificate::About;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::provider::provider;
use crate::stream::Stream;

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    None,
    /// One that is shown must be signed by one of these.
    Optional(Authorities),
    /// Nobody comes in without.
    Required(Authorities),
}

/// What a server of HTTP/1.1 shows and demands, from its next handshake on.
#[derive(Debug)]
pub struct Front {
    in_force: RwLock<Arc<ServerConfig>>,
}

/// A connection whose client has said hello.
#[derive(Debug)]
pub struct Handshake {
    /// What is sent on it.
    pub stream: Stream,
    /// Of the client's certificate, as in RFC 4514: `CN=shop,O=Example`.
    pub client_subject: Option<Arc<str>>,
}

impl Front {
    /// # Errors
    /// [`Fault`] when the library refuses it.
    pub fn new(identity: &Identity, clients: &ClientCertificates) -> Result<Self, Fault> {
        Ok(Self { in_force: RwLock::new(server(identity, clients)?) })
    }

    /// Connections that are open go on as they are.
    ///
    /// # Errors
    /// [`Fault`] when the library refuses it; then everything is as before.
    pub fn replace(&self, identity: &Identity, clients: &ClientCertificates) -> Result<(), Fault> {
        let changed = server(identity, clients)?;
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }

    /// Waits for `patience` at most.
    ///
    /// # Errors
    /// The client was too slow, spoke no TLS, or one of the two sides refused the other.
    pub async fn shake_hands(&self, stream: TcpStream, patience: Duration) -> io::Result<Handshake> {
        let config = Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner));
        let shaken = timeout(patience, TlsAcceptor::from(config).accept(stream)).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client did not finish the TLS handshake");
        let stream = shaken.map_err(late)??;
        let client_subject = client_subject(stream.get_ref().1);
        Ok(Handshake { stream: Stream::Tls(Box::new(stream.into())), client_subject })
    }
}

/// Takes every session, so that a ticket is sent for it, and knows none afterwards.
#[derive(Debug)]
struct Forgetful;

impl StoresServerSessions for Forgetful {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

fn client_subject(connection: &ServerConnection) -> Option<Arc<str>> {
    let certificate = connection.peer_certificates()?.first()?;
    Some(About::read(certificate).ok()?.subject.into())
}

fn server(identity: &Identity, clients: &ClientCertificates) -> Result<Arc<ServerConfig>, Fault> {
    let unfit = |error: &dyn std::error::Error| Fault::Unfit(error.to_string());
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?;
    let verifier = |authorities: &Authorities| {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities.roots), provider)
    };
    let builder = match clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Optional(authorities) => {
            let verifier = verifier(authorities).allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unfit(&error))?)
        }
        ClientCertificates::Required(authorities) => {
            let verifier = verifier(authorities).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unfit(&error))?)
        }
    };
    let shown = SingleCertAndKey::from(Arc::clone(&identity.certified));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would go on under certificates that were changed since. One ticket all the same: by it a client of
    // TLS 1.3 knows that its own certificate was taken (`connector.rs`).
    config.session_storage = Arc::new(Forgetful);
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

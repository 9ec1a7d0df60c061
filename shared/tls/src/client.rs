//! The side that connects: what it demands of a server, and what it shows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::authorities::Authorities;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::provider::provider;
use crate::stream::Stream;
use crate::trouble::describe;

/// What a client demands of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// That one of these authorities signed it, and that it is for the name that the client asked for.
    Name(Authorities),
    /// That one of these authorities signed it, whomever it is for.
    Authority(Authorities),
    /// Nothing: whoever is on the way can read and change everything.
    Nothing,
}

/// What gateways, nodes and operators show to nodes, and whom they believe: `[tls]` in `cluster.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who signs the certificates of nodes.
    pub authorities: Authorities,
    /// What the caller shows; without it, nodes that demand one refuse.
    pub identity: Option<Identity>,
}

impl Caller {
    /// For HTTP/1.1.
    ///
    /// # Errors
    /// [`Fault`] when the library refuses it.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Fault> {
        let check = Check::Name(self.authorities.clone());
        let mut config = client(&check, self.identity.as_ref())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would go on under a certificate that was changed since.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Makes one connection that was accepted into one over TLS, for a caller who has no pool.
    ///
    /// # Errors
    /// One of the two sides refused the other, or `patience` is over.
    pub async fn shake_hands(&self, name: &str, stream: TcpStream, patience: Duration) -> io::Result<Stream> {
        let connector = TlsConnector::from(self.client().map_err(io::Error::other)?);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake was not done in time");
        let shaken = timeout(patience, connector.connect(name, stream)).await.map_err(late)?;
        let stream = shaken.map_err(|error| io::Error::other(describe(&error)))?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

/// For PostgreSQL, which asks for its own protocol's name when TLS comes first.
///
/// # Errors
/// [`Fault`] when the library refuses it.
pub fn database_client(
    check: &Check,
    identity: Option<&Identity>,
    is_direct: bool,
) -> Result<ClientConfig, Fault> {
    let mut config = client(check, identity)?;
    if is_direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

fn client(check: &Check, identity: Option<&Identity>) -> Result<ClientConfig, Fault> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Unfit(error.to_string()))?;
    let builder = match check {
        Check::Name(authorities) => builder.with_root_certificates(Arc::clone(&authorities.roots)),
        Check::Authority(authorities) => {
            let verifier = Nameless { authorities: Some(authorities.clone()), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Check::Nothing => {
            let verifier = Nameless { authorities: None, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown(Arc::clone(&identity.certified)))),
        None => builder.with_no_client_auth(),
    })
}

/// Shows one certificate to whoever asks for any: the server says best why it does not take it.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Does not look at the name, and without authorities at nothing but that the server has the key of what it shows.
#[derive(Debug)]
struct Nameless {
    authorities: Option<Authorities>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Nameless {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let roots = &authorities.roots;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

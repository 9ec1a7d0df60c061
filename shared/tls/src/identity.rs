//! A certificate with its private key: what one side of a connection shows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::certificate::{About, read, read_all};
use crate::fault::Fault;
use crate::provider::provider;

/// A certificate with its chain, and the key that fits. Equal when the certificates are: the key is then the same.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    about: About,
}

impl Identity {
    /// Reads both files, which may be one. The server's own certificate comes first, then those between it and the
    /// authority.
    ///
    /// # Errors
    /// [`Fault`]: a file is missing or no PEM, the two do not fit, or the certificate has expired.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Fault> {
        let chain = read_all(certificate)?;
        let about = About::read(&chain[0]).map_err(|reason| Fault::BadCertificate {
            path: certificate.to_owned(),
            position: 1,
            reason,
        })?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| Fault::NoKey(key.to_owned()))?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Fault::KeyDoesNotFit { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            error => Fault::BadKey { path: key.to_owned(), reason: error.to_string() },
        })?;
        if about.is_over() {
            return Err(about.expired(certificate));
        }
        Ok(Self { certified: Arc::new(certified), about })
    }

    /// As in RFC 4514: `CN=shop,O=Example`.
    pub fn subject(&self) -> &str {
        &self.about.subject
    }

    /// From then on nobody accepts it.
    pub fn expires(&self) -> SystemTime {
        self.about.expires
    }

    fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain()
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("subject", &self.about.subject).finish_non_exhaustive()
    }
}

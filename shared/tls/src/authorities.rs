//! Whose signature counts.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::certificate::{About, read_all};
use crate::fault::Fault;

/// The certificates of authorities. Equal when they are the same ones in the same order.
#[derive(Debug, Clone)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    pub(crate) roots: Arc<RootCertStore>,
    expires: SystemTime,
}

impl Authorities {
    /// Reads a file with one or more authorities, which is how an old and a new one count at the same time.
    ///
    /// # Errors
    /// [`Fault`], also when the time of all of them is over.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let certificates = read_all(path)?;
        let unfit = |reason: String| Fault::BadCertificate { path: path.to_owned(), position: 1, reason };
        let about = certificates.iter().map(About::read).collect::<Result<Vec<_>, _>>().map_err(unfit)?;
        if let Some(over) = about.iter().find(|_| about.iter().all(About::is_over)) {
            return Err(over.expired(path));
        }
        let mut roots = RootCertStore::empty();
        for (before, certificate) in certificates.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| Fault::BadCertificate {
                path: path.to_owned(),
                position: before + 1,
                reason: error.to_string(),
            })?;
        }
        let valid = about.iter().filter(|about| !about.is_over());
        let expires = valid.map(|about| about.expires).max().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Self { certificates, roots: Arc::new(roots), expires })
    }

    /// The authorities that the system trusts.
    ///
    /// # Errors
    /// When there are none.
    pub fn of_system() -> Result<Self, Fault> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            let reason = found.errors.first().map_or("there are none".to_owned(), ToString::to_string);
            return Err(Fault::NoSystemAuthorities(reason));
        }
        // They are not read anew: a change of the system's own is taken at the next start.
        let expires = SystemTime::now() + std::time::Duration::from_hours(24 * 365);
        Ok(Self { certificates: Vec::new(), roots: Arc::new(roots), expires })
    }

    /// When the last of them expires.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Authorities {}

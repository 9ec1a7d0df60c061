//! Certificates in a file of PEM, and what one says of itself.

use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::fault::Fault;

/// All certificates of a file, at least one, each of which can be read.
pub fn read_all(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(path)?;
    let mut all = Vec::new();
    for (before, part) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let bad = |reason| Fault::BadCertificate { path: path.to_owned(), position: before + 1, reason };
        let certificate = part.map_err(|error| bad(error.to_string()))?;
        About::read(&certificate).map_err(bad)?;
        all.push(certificate);
    }
    if all.is_empty() { Err(Fault::NoCertificate(path.to_owned())) } else { Ok(all) }
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|cause| Fault::Unreadable { path: path.to_owned(), cause })
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// As in RFC 4514: `CN=shop,O=Example`.
    pub subject: String,
    pub expires: SystemTime,
    expires_text: String,
}

impl About {
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let read = Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let end = read.tbs_certificate.validity.not_after;
        Ok(Self {
            subject: read.tbs_certificate.subject.to_string(),
            expires: end.to_system_time(),
            expires_text: end.to_string(),
        })
    }

    pub fn is_over(&self) -> bool {
        self.expires <= SystemTime::now()
    }

    pub fn expired(&self, path: &Path) -> Fault {
        Fault::Expired { path: path.to_owned(), subject: self.subject.clone(), at: self.expires_text.clone() }
    }
}

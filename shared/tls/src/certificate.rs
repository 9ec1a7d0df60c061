//! Certificates in a file of PEM, and what one says of itself.

use std::path::Path;
use std::str::FromStr as _;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::name::Name;

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

/// A subject as `About::subject` writes it. Programs that show subjects differ in the names of attributes and in what
/// they escape. `None`: it is no subject.
pub fn subject_as_read(text: &str) -> Option<String> {
    let name = Name::from_str(text).ok()?;
    (!name.is_empty()).then(|| name.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_the_same_however_it_is_written() {
        for (text, read) in [
            ("CN=shop,O=Example", "CN=shop,O=Example"),
            // As `openssl x509 -nameopt RFC2253` prints what is neither plain nor among the attributes of RFC 4514.
            ("CN=sh\\C3\\B6p", "CN=shöp"),
            ("CN=shöp", "CN=shöp"),
            ("emailAddress=a@b.example,CN=shop", "EMAIL=a@b.example,CN=shop"),
            ("cn=shop,o=Example\\, Inc.,c=DE", "CN=shop,O=Example\\, Inc.,C=DE"),
        ] {
            assert_eq!(subject_as_read(text).as_deref(), Some(read), "{text}");
            assert_eq!(subject_as_read(read).as_deref(), Some(read), "{read}");
        }
        for text in ["", "shop", "CN", "nobody=shop", "CN=shop, O=Example", "CN=sh\\op"] {
            assert_eq!(subject_as_read(text), None, "{text}");
        }
    }
}

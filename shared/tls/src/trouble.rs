//! Why two sides did not come together, in the words of whoever has to put it right.

use std::error::Error as _;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// One line. What comes from TLS says which side refused and why.
pub fn describe(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner.or_else(|| error.source().and_then(|source| source.downcast_ref::<Error>())) {
        Some(error) => in_words(error),
        None => error.to_string(),
    }
}

fn in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(reason) => {
            let why = match reason {
                CertificateError::UnknownIssuer => {
                    "no authority that is trusted here signed it; compare the CA files of both sides"
                        .to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "it has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "it is not valid yet; compare the clocks".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("it is not for this name: {reason}")
                }
                other => other.to_string(),
            };
            format!("the other side's certificate is refused: {why}")
        }
        Error::NoCertificatesPresented => "the other side shows no certificate".to_owned(),
        Error::AlertReceived(alert) => {
            let why = match alert {
                AlertDescription::CertificateRequired => "it demands a certificate, and none was shown",
                AlertDescription::UnknownCA => "no authority that it trusts signed ours",
                AlertDescription::CertificateExpired => "ours has expired",
                AlertDescription::BadCertificate | AlertDescription::DecryptError => {
                    "it does not accept ours"
                }
                _ => return format!("the other side refused: {error}"),
            };
            format!("the other side refused the certificate: {why}")
        }
        Error::InvalidMessage(_) => format!("the other side does not speak TLS: {error}"),
        other => other.to_string(),
    }
}

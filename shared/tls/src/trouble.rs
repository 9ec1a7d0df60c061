//! Why two sides did not come together, in the words of whoever has to put it right.

use std::error::Error as _;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// One line. What comes from TLS says which side refused and why.
pub fn describe(error: &io::Error) -> String {
    tls_error(error).map_or_else(|| error.to_string(), in_words)
}

/// Says so if the other side did not take our certificate, wherever in the chain of causes that is.
///
/// It looks at a certificate before anything that comes after the handshake. So nothing that was sent has arrived.
pub fn refused_certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>().and_then(tls_error);
        if let Some(error @ Error::AlertReceived(alert)) = found
            && reason_of(*alert).is_some()
        {
            return Some(in_words(error));
        }
        cause = error.source();
    }
    None
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.or_else(|| error.source().and_then(|source| source.downcast_ref::<Error>()))
}

/// Of those alerts that speak of a certificate.
fn reason_of(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRequired => Some("it demands a certificate, and none was shown"),
        AlertDescription::UnknownCA => Some("no authority that it trusts signed ours"),
        AlertDescription::CertificateExpired => Some("ours has expired"),
        AlertDescription::BadCertificate | AlertDescription::DecryptError => Some("it does not accept ours"),
        _ => None,
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
        Error::AlertReceived(alert) => match reason_of(*alert) {
            Some(why) => format!("the other side refused the certificate: {why}"),
            None => format!("the other side refused: {error}"),
        },
        Error::InvalidMessage(_) => format!("the other side does not speak TLS: {error}"),
        other => other.to_string(),
    }
}

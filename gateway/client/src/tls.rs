//! For an `https` URL: whose signature the gateway's certificate must have, and what the client shows.

use std::path::PathBuf;

use picopay_tls::{Authorities, Caller, Fault, Identity};

/// Whom a client believes over `https`, and what it shows. By default it believes the authorities that the system
/// trusts, and shows nothing. The files are PEM, and are read once, when the [`Exchange`](crate::Exchange) is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    ca_file: Option<PathBuf>,
    shown: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Believes the authorities in this file, and no others.
    pub fn trusting(ca_file: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(ca_file.into()), shown: None }
    }

    /// Shows this certificate to a gateway that asks for one.
    #[must_use]
    pub fn showing(self, cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self { shown: Some((cert_file.into(), key_file.into())), ..self }
    }

    pub(crate) fn read(&self) -> Result<Caller, Fault> {
        let authorities = match &self.ca_file {
            Some(file) => Authorities::read(file)?,
            None => Authorities::of_system()?,
        };
        let identity = self.shown.as_ref().map(|(cert, key)| Identity::read(cert, key)).transpose()?;
        Ok(Caller { authorities, identity })
    }
}

//! `[tls]` of a server's own file, `gateway.toml` or `node.toml`: what it shows, and whom it lets in.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picopay_tls::{Authorities, ClientCertificates, Identity};
use serde::Deserialize;

use crate::cluster::read_identity;

/// The files, as they are named.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file")]
pub struct FrontEntry {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
}

/// What is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontTls {
    /// What the server shows.
    pub identity: Identity,
    /// Who signs the certificates of clients, where clients may or must show one.
    pub client_authorities: Option<Authorities>,
}

impl FrontEntry {
    /// Reads and checks the files, whose names are relative to `base`.
    ///
    /// # Errors
    /// What is wrong with which file, in one line.
    pub fn read(&self, base: &Path) -> Result<FrontTls, String> {
        let identity = read_identity(base, Some(&self.cert_file), Some(&self.key_file))?;
        let authorities = self.client_ca_file.as_ref().map(|file| Authorities::read(&base.join(file)));
        Ok(FrontTls {
            identity: identity.ok_or("cert_file and key_file are missing")?,
            client_authorities: authorities.transpose().map_err(|fault| fault.to_string())?,
        })
    }
}

impl FrontTls {
    /// A certificate is welcome, and needed by nobody.
    pub fn optional(&self) -> ClientCertificates {
        self.client_authorities.clone().map_or(ClientCertificates::None, ClientCertificates::Optional)
    }

    /// Nobody comes in without one, where there are authorities for it.
    pub fn required(&self) -> ClientCertificates {
        self.client_authorities.clone().map_or(ClientCertificates::None, ClientCertificates::Required)
    }

    /// Each file's key with when what is in it expires.
    pub fn expiries(&self) -> Vec<(String, SystemTime)> {
        let own = ("tls.cert_file".to_owned(), self.identity.expires());
        let clients = self.client_authorities.as_ref();
        let clients = clients.map(|read| ("tls.client_ca_file".to_owned(), read.expires()));
        std::iter::once(own).chain(clients).collect()
    }
}

/// Seconds from now until then, negative when it is over.
pub fn seconds_until(expires: SystemTime) -> i64 {
    let seconds = |left: std::time::Duration| i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    let now = SystemTime::now();
    match expires.duration_since(now) {
        Ok(left) => seconds(left),
        Err(over) => -seconds(over.duration()),
    }
}

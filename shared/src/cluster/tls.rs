//! Certificates that `cluster.toml` names, read and checked with it. So a changed certificate is a changed file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picopay_tls::{Authorities, Caller, Check, Identity};
use serde::Deserialize;

use crate::config::Secret;
use crate::tls_words::{CheckWord, TlsDemand, TlsWords};

/// `[tls]`: how gateways, nodes and operators call nodes whose URL begins with `https`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file")]
pub struct CallerEntry {
    ca_file: PathBuf,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl CallerEntry {
    /// Reads the files, whose names are relative to `base`.
    pub fn read(&self, base: &Path) -> Result<Caller, String> {
        Ok(Caller {
            authorities: Authorities::read(&base.join(&self.ca_file)).map_err(|fault| fault.to_string())?,
            identity: read_identity(base, self.cert_file.as_deref(), self.key_file.as_deref())?,
        })
    }
}

/// The identity of two files that are named or not, together.
///
/// # Errors
/// What is wrong, in one line.
pub fn read_identity(
    base: &Path,
    cert: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<Identity>, String> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            let read = Identity::read(&base.join(cert), &base.join(key));
            read.map(Some).map_err(|fault| fault.to_string())
        }
        _ => Err("cert_file and key_file go together".to_owned()),
    }
}

/// What the connection strings of a shard name: by the names as they are written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseCertificates {
    authorities: BTreeMap<String, Authorities>,
    identities: BTreeMap<(String, String), Identity>,
}

impl DatabaseCertificates {
    /// Reads what `connection_string` names, relative to `base`.
    ///
    /// # Errors
    /// What is wrong with its words or with which file.
    pub fn add(&mut self, connection_string: &str, base: &Path) -> Result<(), String> {
        let (words, _) = TlsWords::take_off(connection_string)?;
        let TlsDemand::On { check, identity, .. } = words.demand()? else { return Ok(()) };
        if let CheckWord::Name(file) | CheckWord::Authority(file) = check {
            let read =
                Authorities::read(&base.join(&file)).map_err(|fault| format!("sslrootcert: {fault}"))?;
            self.authorities.insert(file, read);
        }
        if let Some((cert, key)) = identity {
            let read = Identity::read(&base.join(&cert), &base.join(&key));
            self.identities.insert((cert, key), read.map_err(|fault| format!("sslcert, sslkey: {fault}"))?);
        }
        Ok(())
    }

    /// What a client demands for these words.
    ///
    /// # Errors
    /// When the file was not read, or the system has no authorities.
    pub fn check(&self, word: &CheckWord) -> Result<Check, String> {
        let known = |file: &String| {
            self.authorities.get(file).cloned().ok_or_else(|| format!("sslrootcert: {file} was not read"))
        };
        Ok(match word {
            CheckWord::Name(file) => Check::Name(known(file)?),
            CheckWord::NameBySystem => {
                Check::Name(Authorities::of_system().map_err(|fault| fault.to_string())?)
            }
            CheckWord::Authority(file) => Check::Authority(known(file)?),
            CheckWord::Nothing => Check::Nothing,
        })
    }

    /// The identity of these two files.
    ///
    /// # Errors
    /// When they were not read.
    pub fn identity(&self, files: &(String, String)) -> Result<&Identity, String> {
        self.identities.get(files).ok_or_else(|| format!("sslcert: {} was not read", files.0))
    }

    /// Each file's name with when it expires.
    pub fn expiries(&self) -> impl Iterator<Item = (&str, SystemTime)> {
        let authorities = self.authorities.iter().map(|(file, read)| (file.as_str(), read.expires()));
        authorities.chain(self.identities.iter().map(|((file, _), read)| (file.as_str(), read.expires())))
    }
}

/// How a node connects to Redis, beside the URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisAccess {
    /// Goes over the user in the URL.
    pub user: Option<String>,
    /// Goes over the password in the URL.
    pub password: Option<Secret>,
    /// In PEM: who signs its certificate. Without it, the authorities that the system trusts do.
    pub authorities: Option<Vec<u8>>,
    /// In PEM: what the node shows, certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Each file's name with when it expires.
    pub expiries: Vec<(String, SystemTime)>,
}

impl RedisAccess {
    /// Reads and checks the files, whose names are relative to `base`.
    pub(super) fn read(
        base: &Path,
        ca: Option<&Path>,
        cert: Option<&Path>,
        key: Option<&Path>,
    ) -> Result<Self, String> {
        let mut access = Self::default();
        let bytes = |file: &Path| std::fs::read(base.join(file)).map_err(|error| error.to_string());
        if let Some(ca) = ca {
            let read = Authorities::read(&base.join(ca)).map_err(|fault| fault.to_string())?;
            access.expiries.push((ca.display().to_string(), read.expires()));
            access.authorities = Some(bytes(ca)?);
        }
        if let (Some(read), Some(cert), Some(key)) = (read_identity(base, cert, key)?, cert, key) {
            access.expiries.push((cert.display().to_string(), read.expires()));
            access.identity = Some((bytes(cert)?, bytes(key)?));
        }
        Ok(access)
    }
}

impl fmt::Debug for RedisAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RedisAccess").field("user", &self.user).finish_non_exhaustive()
    }
}

//! The passwords of one cluster: made once, kept in files that only their owner may read.

use std::fs;

use rand::RngCore as _;

use crate::certificates::Certificates;
use crate::folder::{Folder, write_private};
use crate::{LocalError, http_call};

#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    pub superuser: String,
    pub picopay: String,
    pub replicator: String,
    pub internal: String,
    pub redis: String,
    /// `None` in a cluster that speaks plainly.
    pub certificates: Option<Certificates>,
}

pub(crate) const PICOPAY_FILE: &str = "secrets/picopay";

/// Asked for over TLS only.
pub(crate) const REDIS_FILE: &str = "secrets/redis";

pub(crate) const INTERNAL_FILE: &str = "secrets/internal";

impl Secrets {
    pub(crate) fn read_or_make(folder: &Folder, has_tls: bool) -> Result<Self, LocalError> {
        let certificates = if has_tls { Some(Certificates::read_or_make(folder)?) } else { None };
        if let Some(certificates) = &certificates {
            http_call::call_as(certificates.caller()?);
        }
        Ok(Self {
            certificates,
            superuser: read_or_make(folder, "secrets/superuser")?,
            picopay: read_or_make(folder, PICOPAY_FILE)?,
            replicator: read_or_make(folder, "secrets/replicator")?,
            redis: read_or_make(folder, REDIS_FILE)?,
            internal: read_or_make(folder, INTERNAL_FILE)?,
        })
    }
}

fn read_or_make(folder: &Folder, name: &str) -> Result<String, LocalError> {
    let path = folder.file(name);
    if let Ok(text) = fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    // 128 bits, in hexadecimal: no quoting in SQL, TOML or a connection string can go wrong with it.
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    let secret = hex::encode(bytes);
    write_private(&path, &format!("{secret}\n"))?;
    Ok(secret)
}

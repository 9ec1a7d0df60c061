//! The passwords of one cluster: made once, kept in files that only their owner may read.

use std::fs;

use rand::RngCore as _;

use crate::LocalError;
use crate::folder::{Folder, write_private};

#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    pub superuser: String,
    pub picopay: String,
    pub replicator: String,
    pub internal: String,
}

pub(crate) const PICOPAY_FILE: &str = "secrets/picopay";

pub(crate) const INTERNAL_FILE: &str = "secrets/internal";

impl Secrets {
    pub(crate) fn read_or_make(folder: &Folder) -> Result<Self, LocalError> {
        Ok(Self {
            superuser: read_or_make(folder, "secrets/superuser")?,
            picopay: read_or_make(folder, PICOPAY_FILE)?,
            replicator: read_or_make(folder, "secrets/replicator")?,
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

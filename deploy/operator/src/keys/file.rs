//! A `gateway.toml` that is changed as a whole: a reader, and a machine that loses power, sees the old or the new file.

use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;
use tempfile::NamedTempFile;

pub struct GatewayFile {
    path: PathBuf,
    /// Two changes at once would each lose the other's. The lock is on the folder, since the file is replaced.
    folder: File,
    text: String,
}

/// The part of `gateway.toml` that matters here; the gateway checks the rest.
#[derive(Deserialize)]
struct KeyNames {
    #[serde(default)]
    keys: Vec<KeyName>,
}

#[derive(Deserialize)]
struct KeyName {
    name: String,
}

/// The names of the keys in a `gateway.toml`; or, for people, why it is none.
pub fn names_in(text: &str) -> Result<Vec<String>, String> {
    let read: KeyNames =
        Figment::new().merge(Toml::string(text)).extract().map_err(|error| error.to_string())?;
    Ok(read.keys.into_iter().map(|key| key.name).collect())
}

impl GatewayFile {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        // A link stays a link: the file that it leads to is replaced.
        let path = path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))?;
        let folder = path.parent().context("a file is in a folder")?;
        let shown = folder.display();
        let folder = File::open(folder).with_context(|| format!("{shown} cannot be read"))?;
        folder.lock().with_context(|| format!("{shown} cannot be locked"))?;
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { path, folder, text })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        names_in(&self.text)
            .map_err(|error| anyhow::anyhow!("{} is no gateway.toml: {error}", self.path.display()))
    }

    pub fn replace(self, text: &str) -> anyhow::Result<()> {
        self.write(text).with_context(|| format!("{} cannot be replaced", self.path.display()))
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        let before: Metadata = std::fs::metadata(&self.path)?;
        let folder = self.path.parent().context("a file is in a folder")?;
        let mut temporary = NamedTempFile::with_prefix_in(".gateway-", folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().set_permissions(before.permissions())?;
        let after = temporary.as_file().metadata()?;
        if (before.uid(), before.gid()) != (after.uid(), after.gid()) {
            fchown(temporary.as_file(), Some(before.uid()), Some(before.gid()))
                .context("its owner cannot be kept")?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.path)?;
        self.folder.sync_all()?;
        Ok(())
    }
}

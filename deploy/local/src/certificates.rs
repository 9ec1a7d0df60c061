//! The certificates of one cluster: made once, kept in its folder. There are none where the cluster speaks plainly.

use std::path::PathBuf;

use picopay_certs::{Authority, CA_FILE, Leaf, in_days};
use picopay_tls::{Authorities, Caller, Identity};

use crate::LocalError;
use crate::folder::{Folder, make_private};
use crate::services_database::ROLE;

/// As long as a cluster on one machine lives; `picopay certs issue` renews one that lives longer.
const DAYS: u32 = 365;

/// What is reached by name or address, all on this machine.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// For gateways: what clients see.
pub(crate) const GATEWAY: &str = "gateway";
/// For nodes: what their callers see.
pub(crate) const NODE: &str = "node";
/// For all who call nodes.
pub(crate) const CALLER: &str = "caller";
pub(crate) const POSTGRES: &str = "postgres";
pub(crate) const REDIS: &str = "redis";
/// For standbys: PostgreSQL compares it with the role.
pub(crate) const REPLICATOR: &str = "replicator";

#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    pub(crate) fn read_or_make(folder: &Folder) -> Result<Self, LocalError> {
        let place = folder.file("certs");
        make_private(&place)?;
        let failed = |error: picopay_certs::CertsError| LocalError::Unfit(error.to_string());
        if !place.join(CA_FILE).exists() {
            Authority::make(in_days(DAYS)).and_then(|made| made.save(&place)).map_err(failed)?;
        }
        let authority = Authority::read(&place).map_err(failed)?;
        let own = Self { folder: place };
        for (name, hosts) in [
            (GATEWAY, &HOSTS[..]),
            (NODE, &HOSTS),
            (POSTGRES, &HOSTS),
            (REDIS, &HOSTS),
            (CALLER, &[]),
            (ROLE, &[]),
            (REPLICATOR, &[]),
        ] {
            if !own.certificate(name).exists() {
                let pair = authority.issue(&Leaf { name, hosts, expires: in_days(DAYS) }).map_err(failed)?;
                pair.save(&own.certificate(name), &own.key(name)).map_err(failed)?;
            }
        }
        Ok(own)
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join(CA_FILE)
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The names of the three files as a configuration has them: authority, certificate and key.
    pub(crate) fn names(&self, name: &str) -> [String; 3] {
        [self.authority(), self.certificate(name), self.key(name)].map(|path| path.display().to_string())
    }

    /// What this program shows to services, and whom it believes.
    pub(crate) fn caller(&self) -> Result<Caller, LocalError> {
        let failed = |fault: picopay_tls::Fault| LocalError::Unfit(fault.to_string());
        let identity = Identity::read(&self.certificate(CALLER), &self.key(CALLER)).map_err(failed)?;
        let authorities = Authorities::read(&self.authority()).map_err(failed)?;
        Ok(Caller { authorities, identity: Some(identity) })
    }

    /// The end of a connection string for this role, in libpq's words.
    pub(crate) fn words(&self, role: &str) -> String {
        let (root, cert, key) = (self.authority(), self.certificate(role), self.key(role));
        // A folder of a test may have any name.
        let quoted = |path: PathBuf| path.display().to_string().replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            " sslmode=verify-full sslrootcert='{}' sslcert='{}' sslkey='{}' channel_binding=require",
            quoted(root),
            quoted(cert),
            quoted(key)
        )
    }
}

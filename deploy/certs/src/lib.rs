//! An authority of one's own, and the certificates that it signs, as files: for `picopay certs`, for clusters on one
//! machine, and for tests.
//!
//! Keys are ECDSA P-256 and stand in files that only their owner may read. No file is overwritten unless that is asked for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use picopay_tls::{Fault, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The file of the authority's certificate, which everybody may have.
pub const CA_FILE: &str = "ca.pem";
/// The file of its key. Whoever has it can pass for every part of the cluster.
pub const CA_KEY_FILE: &str = "ca.key";

const DAY: Duration = Duration::from_hours(24);

/// Clocks differ: a certificate is good from a while ago on.
const BACKDATED: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    #[error("{} is there already: it is not overwritten", .0.display())]
    Exists(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("there is no authority to sign with: {0}")]
    NoAuthority(#[source] Fault),
    #[error("the certificate of {name} cannot be made: {source}")]
    Unfit { name: String, source: rcgen::Error },
}

/// What a certificate is for.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// Its common name; for PostgreSQL's `clientcert=verify-full` the user's.
    pub name: &'a str,
    /// Names and IP addresses by which it is reached; none for one that only calls.
    pub hosts: &'a [&'a str],
    pub expires: SystemTime,
}

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    name: String,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

pub fn in_days(days: u32) -> SystemTime {
    SystemTime::now() + DAY * days
}

impl Authority {
    /// A new one. Its name has a random part, so that an old and a new one can be told apart.
    pub fn make(expires: SystemTime) -> Result<Self, CertsError> {
        let name = format!("PicoPay authority {}", hex::encode(rand::random::<[u8; 4]>()));
        let unfit = |source| CertsError::Unfit { name: name.clone(), source };
        let key = KeyPair::generate().map_err(unfit)?;
        let params = authority_params(&name, expires).map_err(unfit)?;
        let pem = params.self_signed(&key).map_err(unfit)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, name })
    }

    /// The one whose files are in this folder.
    pub fn read(folder: &Path) -> Result<Self, CertsError> {
        let (certificate, key) = (folder.join(CA_FILE), folder.join(CA_KEY_FILE));
        let known = Identity::read(&certificate, &key).map_err(CertsError::NoAuthority)?;
        let name = known.subject().trim_start_matches("CN=").to_owned();
        let unfit = |source| CertsError::Unfit { name: name.clone(), source };
        let read = |path: &Path| fs::read_to_string(path).map_err(at(path));
        let params = authority_params(&name, known.expires()).map_err(unfit)?;
        let key = KeyPair::from_pem(&read(&key)?).map_err(unfit)?;
        Ok(Self { issuer: Issuer::new(params, key), pem: read(&certificate)?, name })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes its certificate and its key into a folder.
    ///
    /// # Errors
    /// When one is there already, nothing is changed.
    pub fn save(&self, folder: &Path) -> Result<(), CertsError> {
        let pair = Pair { certificate: self.pem.clone(), key: self.issuer.key().serialize_pem() };
        pair.save(&folder.join(CA_FILE), &folder.join(CA_KEY_FILE))
    }

    pub fn issue(&self, leaf: &Leaf<'_>) -> Result<Pair, CertsError> {
        let unfit = |source| CertsError::Unfit { name: leaf.name.to_owned(), source };
        let hosts: Vec<String> = leaf.hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).map_err(unfit)?;
        name_and_times(&mut params, leaf.name, leaf.expires);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Each part of a cluster calls, and most are called.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(unfit)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unfit)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn authority_params(name: &str, expires: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    name_and_times(&mut params, name, expires);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn name_and_times(params: &mut CertificateParams, name: &str, expires: SystemTime) {
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    // An expired one is of use in tests only, and must begin before it ends.
    params.not_before = (SystemTime::now().min(expires) - BACKDATED).into();
    params.not_after = expires.into();
}

impl Pair {
    /// Writes both files, the key readable by its owner only.
    ///
    /// # Errors
    /// When one is there already, nothing is changed.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), CertsError> {
        if let Some(there) = [certificate, key].into_iter().find(|path| path.exists()) {
            return Err(CertsError::Exists(there.to_owned()));
        }
        write_new(key, &self.key)?;
        write_new(certificate, &self.certificate)
    }

    /// Puts both in the place of others, each in one step. Who reads between the two finds that they do not fit, and reads
    /// again.
    pub fn replace(&self, certificate: &Path, key: &Path) -> Result<(), CertsError> {
        for (path, text) in [(key, &self.key), (certificate, &self.certificate)] {
            let mut next = path.as_os_str().to_owned();
            next.push(".next");
            let next = PathBuf::from(next);
            let _ = fs::remove_file(&next);
            write_new(&next, text)?;
            fs::rename(&next, path).map_err(at(path))?;
        }
        Ok(())
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), CertsError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => CertsError::File { path: path.to_owned(), source },
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> CertsError {
    let path = path.to_owned();
    move |source| CertsError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use picopay_tls::Authorities;

    use super::*;

    #[test]
    fn an_authority_that_was_read_again_signs_for_the_same_certificate_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        Authority::make(in_days(2)).unwrap().save(folder.path()).unwrap();
        let again = Authority::read(folder.path()).unwrap();
        let leaf = Leaf { name: "node", hosts: &["localhost", "127.0.0.1"], expires: in_days(1) };
        let pair = again.issue(&leaf).unwrap();
        pair.save(&path("node.pem"), &path("node.key")).unwrap();
        assert_eq!(Identity::read(&path("node.pem"), &path("node.key")).unwrap().subject(), "CN=node");
        Authorities::read(&path(CA_FILE)).unwrap();
        for file in [CA_KEY_FILE, "node.key"] {
            assert_eq!(fs::metadata(path(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        let before = fs::read_to_string(path("node.pem")).unwrap();
        let refused = pair.save(&path("node.pem"), &path("other.key")).unwrap_err();
        assert!(refused.to_string().contains("not overwritten") && !path("other.key").exists(), "{refused}");
        assert!(Authority::make(in_days(2)).unwrap().save(folder.path()).is_err());
        again.issue(&leaf).unwrap().replace(&path("node.pem"), &path("node.key")).unwrap();
        assert_ne!(fs::read_to_string(path("node.pem")).unwrap(), before);
        Identity::read(&path("node.pem"), &path("node.key")).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::make(in_days(2)).unwrap();
        let save = |name: &str, expires| {
            let pair = authority.issue(&Leaf { name, hosts: &[], expires }).unwrap();
            pair.save(&path(&format!("{name}.pem")), &path(&format!("{name}.key"))).unwrap();
        };
        save("one", in_days(1));
        save("two", in_days(1));
        save("over", SystemTime::now() - DAY);
        fs::write(path("text"), "no PEM").unwrap();
        fs::write(path("broken"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for (certificate, key, needle) in [
            ("missing", "one.key", "missing: cannot be read"),
            ("text", "one.key", "holds no certificate"),
            ("broken", "one.key", "1. certificate cannot be read"),
            ("one.pem", "text", "holds no private key"),
            ("one.pem", "two.key", "does not fit the first certificate"),
            ("over.pem", "over.key", "CN=over expired at"),
        ] {
            let refused = Identity::read(&path(certificate), &path(key)).unwrap_err().to_string();
            assert!(refused.contains(needle) && refused.contains('/'), "{refused}");
        }
        assert!(Authorities::read(&path("over.pem")).unwrap_err().to_string().contains("expired"));
    }
}

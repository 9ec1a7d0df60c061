//! What is wrong with a file of certificates or keys, in one line that says which file and what to do.

use std::io;
use std::path::PathBuf;

/// Why a file cannot be used. No message holds a part of a key.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is missing, or may not be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file with the fault, as it was named.
        path: PathBuf,
        /// What the system said when it was opened. It is in the message already, so it is no source of its own.
        cause: io::Error,
    },
    /// It holds no certificate.
    #[error("{}: holds no certificate in PEM: it must have a part that begins with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// A part of it is no certificate.
    #[error("{}: its {position}. certificate cannot be read: {reason}", path.display())]
    BadCertificate {
        /// The file with the fault, as it was named.
        path: PathBuf,
        /// Its place in the file, counted from 1.
        position: usize,
        /// What the parser says.
        reason: String,
    },
    /// It holds no private key, or an encrypted one.
    #[error("{}: holds no private key in PEM that can be used; a key with a passphrase must be decrypted first", .0.display())]
    NoKey(PathBuf),
    /// It is of a kind that is not supported.
    #[error("{}: the private key cannot be used: {reason}; ECDSA P-256 or RSA of 2048 bits or more can", path.display())]
    BadKey {
        /// The file with the fault, as it was named.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// Certificate and key are of two pairs.
    #[error("{}: the private key does not fit the first certificate of {}", key.display(), certificate.display())]
    KeyDoesNotFit {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("{}: the certificate of {subject} expired at {at}", path.display())]
    Expired {
        /// The file with the fault, as it was named.
        path: PathBuf,
        /// Whose certificate it is, as in RFC 4514.
        subject: String,
        /// When its time was over, in UTC.
        at: String,
    },
    /// The system has no certificates of authorities.
    #[error("the system's own authorities cannot be read: {0}")]
    NoSystemAuthorities(String),
    /// The library refuses what the files say.
    #[error("the certificates cannot be used: {0}")]
    Unfit(String),
}

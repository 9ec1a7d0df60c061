//! What a connection string says of TLS, in libpq's words: pure text, no file is opened here.
//!
//! The driver knows few of these words and refuses a string with any other. So they are taken off first, from both forms
//! of a string. What they mean is libpq's meaning (PostgreSQL, "SSL Support"), and what could be read on the way without
//! anybody noticing is refused with the reason.

use std::fmt::Write as _;

/// The words about TLS of one connection string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsWords {
    mode: Option<String>,
    root_certificate: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    negotiation: Option<String>,
}

/// What they demand. Names of files are as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsDemand {
    /// Connections are made without TLS.
    Off,
    /// TLS, or no connection.
    On {
        /// What the server has to show.
        check: CheckWord,
        /// The files of the client's certificate and of its key.
        identity: Option<(String, String)>,
        /// TLS comes first, without asking for it in PostgreSQL's own protocol.
        is_direct: bool,
    },
}

/// What a server has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckWord {
    /// A certificate for the host's name, of an authority of this file.
    Name(String),
    /// The same, of an authority that the system trusts.
    NameBySystem,
    /// A certificate of an authority of this file, for whatever name.
    Authority(String),
    /// Anything: the file says so.
    Nothing,
}

/// As `sslrootcert`: the authorities that the system trusts.
const SYSTEM: &str = "system";
/// As `sslrootcert`, with `sslmode=require`: encrypted, and whoever is on the way can pass for the server. Not libpq's.
const UNVERIFIED: &str = "unverified";

const WRITE_VERIFY_FULL: &str = "write sslmode=verify-full and sslrootcert=FILE (or sslrootcert=system)";

impl TlsWords {
    /// Takes the words off, and returns the rest of the string. A string that cannot be read stays as it is: the driver
    /// says best what is wrong with it.
    ///
    /// # Errors
    /// A word about TLS that would mean something, and is not supported.
    pub fn take_off(text: &str) -> Result<(Self, String), String> {
        let mut words = Self::default();
        let rest = match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => words.take_off_url(text)?,
            _ => words.take_off_pairs(text)?,
        };
        Ok((words, rest))
    }

    /// What all the words together demand.
    ///
    /// # Errors
    /// Why they cannot be done as they stand, and what to write instead.
    pub fn demand(&self) -> Result<TlsDemand, String> {
        let root = self.root_certificate.as_deref();
        let mode = match (self.mode.as_deref(), root) {
            // As in libpq since 16.
            (None, Some(SYSTEM)) => "verify-full",
            (None, None)
                if self.certificate.is_none() && self.key.is_none() && self.negotiation.is_none() =>
            {
                return Ok(TlsDemand::Off);
            }
            (None, _) => {
                return Err(format!("words about TLS mean nothing without sslmode: {WRITE_VERIFY_FULL}"));
            }
            (Some(mode), _) => mode,
        };
        let check = match (mode, root) {
            ("disable", _) => return Ok(TlsDemand::Off),
            ("allow" | "prefer", _) => {
                return Err(format!(
                    "sslmode={mode} goes on without TLS when anybody on the way says that there is none: \
                     {WRITE_VERIFY_FULL}, or sslmode=disable"
                ));
            }
            ("require", None) => {
                return Err(format!(
                    "sslmode=require without sslrootcert encrypts and does not look who the server is: \
                     {WRITE_VERIFY_FULL}; or sslrootcert={UNVERIFIED}, if that is what you want"
                ));
            }
            ("require", Some(UNVERIFIED)) => CheckWord::Nothing,
            (_, Some(UNVERIFIED)) => {
                return Err(format!("sslrootcert={UNVERIFIED} goes with sslmode=require only"));
            }
            ("require" | "verify-ca", Some(SYSTEM)) => {
                return Err(format!(
                    "sslmode={mode} would take the server of anybody who has a certificate of a public authority: with \
                     sslrootcert=system write sslmode=verify-full"
                ));
            }
            ("verify-full", Some(SYSTEM)) => CheckWord::NameBySystem,
            ("verify-ca" | "verify-full", None) => {
                return Err(format!(
                    "sslmode={mode} needs sslrootcert=FILE, or sslrootcert=system with verify-full"
                ));
            }
            // libpq: with a file of authorities, `require` means `verify-ca`.
            ("require" | "verify-ca", Some(file)) => CheckWord::Authority(file.to_owned()),
            ("verify-full", Some(file)) => CheckWord::Name(file.to_owned()),
            (other, _) => {
                return Err(format!("sslmode={other:?} is none of disable, require, verify-ca, verify-full"));
            }
        };
        let identity = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            _ => return Err("sslcert and sslkey go together".to_owned()),
        };
        let is_direct = match self.negotiation.as_deref() {
            None | Some("postgres") => false,
            Some("direct") => true,
            Some(other) => return Err(format!("sslnegotiation={other:?} is neither postgres nor direct")),
        };
        Ok(TlsDemand::On { check, identity, is_direct })
    }

    /// Returns whether the word was one about TLS.
    fn take(&mut self, word: &str, value: &str) -> Result<bool, String> {
        let place = match word {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root_certificate,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            "sslnegotiation" => &mut self.negotiation,
            "requiressl" => return Err(format!("requiressl is out of use: {WRITE_VERIFY_FULL}")),
            "sslpassword" => {
                return Err("sslpassword is not supported: take the passphrase off the key".to_owned());
            }
            "sslcrl" | "sslcrldir" => return Err(format!("{word} is not supported: no lists are read")),
            "sslcompression"
            | "sslsni"
            | "sslcertmode"
            | "ssl_min_protocol_version"
            | "ssl_max_protocol_version" => {
                return Err(format!(
                    "{word} is not supported: take it away; it is TLS 1.2 or 1.3, with the name sent"
                ));
            }
            _ => return Ok(false),
        };
        *place = (!value.is_empty()).then(|| value.to_owned());
        Ok(true)
    }

    fn take_off_url(&mut self, text: &str) -> Result<String, String> {
        // A `?` before it is part of a password.
        let after_user = text.find('@').map_or(0, |at| at + 1);
        let Some(mark) = text[after_user..].find('?').map(|mark| mark + after_user) else {
            return Ok(text.to_owned());
        };
        let mut rest = text[..mark].to_owned();
        let mut separator = '?';
        for parameter in text[mark + 1..].split('&') {
            let (word, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decode(value).ok_or("a % in it is not followed by two hexadecimal digits")?;
            if !self.take(word, &value)? {
                let _ = write!(rest, "{separator}{parameter}");
                separator = '&';
            }
        }
        Ok(rest)
    }

    fn take_off_pairs(&mut self, text: &str) -> Result<String, String> {
        let mut rest = String::new();
        let mut left = text;
        while let Some((word, value, after)) = next_pair(left) {
            if !self.take(word, &value)? {
                rest.push_str(&left[..left.len() - after.len()]);
            }
            left = after;
        }
        rest.push_str(left);
        Ok(rest.trim().to_owned())
    }
}

/// The next `word = value`, and what comes behind it; `None` where there is none.
fn next_pair(text: &str) -> Option<(&str, String, &str)> {
    let (word, after) = text.split_once('=')?;
    let after = after.trim_start();
    let is_quoted = after.starts_with('\'');
    let mut letters = after.char_indices().skip(usize::from(is_quoted));
    let mut value = String::new();
    let end = loop {
        match letters.next() {
            Some((_, '\\')) => value.push(letters.next()?.1),
            Some((position, '\'')) if is_quoted => break position + 1,
            Some((position, letter)) if !is_quoted && letter.is_whitespace() => break position,
            Some((_, letter)) => value.push(letter),
            None if is_quoted => return None,
            None => break after.len(),
        }
    };
    Some((word.trim(), value, &after[end..]))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let digits = [left.next()?, left.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(text: &str) -> Result<(TlsDemand, String), String> {
        let (words, rest) = TlsWords::take_off(text)?;
        Ok((words.demand()?, rest))
    }

    fn on(check: CheckWord) -> TlsDemand {
        TlsDemand::On { check, identity: None, is_direct: false }
    }

    #[test]
    fn the_words_are_taken_off_both_forms_and_all_else_stays() {
        let full = on(CheckWord::Name("/etc/ca file.pem".to_owned()));
        for (text, rest) in [
            (
                "host=a,b port=1,2 sslmode=verify-full password='it\\'s' sslrootcert='/etc/ca file.pem' dbname=d",
                "",
            ),
            ("host = a sslmode = verify-full  user=u sslrootcert=/etc/ca\\ file.pem", "host = a  user=u"),
            (
                "sslmode=verify-full sslrootcert='/etc/ca file.pem' host=a password='p sslmode=disable'",
                "host=a password='p sslmode=disable'",
            ),
            (
                "postgresql://u:p@a:1,b:2/d?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fetc%2Fca%20file.pem",
                "postgresql://u:p@a:1,b:2/d?connect_timeout=3",
            ),
            (
                "postgres://u:p?w@a/d?sslrootcert=/etc/ca%20file.pem&sslmode=verify-full",
                "postgres://u:p?w@a/d",
            ),
        ] {
            let (found, left) = demand(text).unwrap();
            assert_eq!(found, full, "{text}");
            if !rest.is_empty() {
                assert_eq!(left, rest, "{text}");
            }
        }
        let plain = "host=a dbname=d channel_binding=require";
        assert_eq!(demand(plain), Ok((TlsDemand::Off, plain.to_owned())));
    }

    #[test]
    fn each_mode_means_what_libpq_says_or_is_refused_with_what_to_write() {
        let file = || "f".to_owned();
        for (text, expected) in [
            ("", TlsDemand::Off),
            ("sslmode=disable sslrootcert=f", TlsDemand::Off),
            ("sslmode=require sslrootcert=f", on(CheckWord::Authority(file()))),
            ("sslmode=require sslrootcert=unverified", on(CheckWord::Nothing)),
            ("sslmode=verify-ca sslrootcert=f", on(CheckWord::Authority(file()))),
            ("sslmode=verify-full sslrootcert=f", on(CheckWord::Name(file()))),
            ("sslmode=verify-full sslrootcert=system", on(CheckWord::NameBySystem)),
            ("sslrootcert=system", on(CheckWord::NameBySystem)),
            (
                "sslmode=verify-full sslrootcert=f sslcert=c sslkey=k sslnegotiation=direct",
                TlsDemand::On {
                    check: CheckWord::Name(file()),
                    identity: Some(("c".to_owned(), "k".to_owned())),
                    is_direct: true,
                },
            ),
        ] {
            assert_eq!(demand(&format!("host=a {text}")).map(|(found, _)| found), Ok(expected), "{text}");
        }
        for (text, needle) in [
            ("sslmode=prefer", "goes on without TLS"),
            ("sslmode=allow", "goes on without TLS"),
            ("sslmode=require", "does not look who the server is"),
            ("sslmode=verify-full", "needs sslrootcert"),
            ("sslmode=verify-ca sslrootcert=system", "verify-full"),
            ("sslmode=verify-full sslrootcert=unverified", "require only"),
            ("sslrootcert=f", "without sslmode"),
            ("sslcert=c sslkey=k", "without sslmode"),
            ("sslmode=verify-full sslrootcert=f sslcert=c", "go together"),
            ("sslmode=verify-full sslrootcert=f sslnegotiation=first", "neither"),
            ("sslmode=on", "is none of"),
            ("sslpassword=x", "passphrase"),
            ("sslcrl=x", "no lists"),
            ("sslsni=0", "take it away"),
        ] {
            let refused = demand(&format!("host=a {text}")).unwrap_err();
            assert!(refused.contains(needle), "{text} gave {refused}");
        }
    }
}

//! Configuration: a TOML file, overridden by the environment. Unknown fields are refused, secrets redacted.
//!
//! Every number of a component has its default and its reason in that component's own configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;

/// Why a configuration cannot be used: one line a problem, with the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist or cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file that was wanted.
        path: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// The file or an environment variable has wrong content.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// Reads `file`, overridden by `{prefix}SECTION__KEY` from the environment.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read, is no TOML, has an unknown field, or a value has
/// the wrong type.
pub fn load<T: DeserializeOwned>(file: &Path, env_prefix: &str) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Unreadable { path: file.to_owned(), source })?;
    // Figment names the key of a wrong value, but toml's own message has the line of a syntax error.
    let toml = Toml::string(&text);
    let env = Env::prefixed(env_prefix).split("__").lowercase(true);
    let mut figment = Figment::new().merge(toml).merge(env.clone());
    let is_secret = |key: &str| key.ends_with("secret") || key.ends_with("password");
    for (key, value) in env.iter().filter(|(key, _)| is_secret(key.as_str())) {
        // Figment would read `0123` as a number and lose its zero.
        figment = figment.merge(Serialized::default(key.as_str(), value));
    }
    figment.extract().map_err(|error| {
        let problems = error.into_iter().map(|problem| describe(&problem, file, env_prefix)).collect();
        ConfigError::Invalid(problems)
    })
}

fn describe(problem: &figment::Error, file: &Path, env_prefix: &str) -> String {
    let from_environment =
        problem.metadata.as_ref().is_some_and(|metadata| metadata.name.contains("environment"));
    let place = if from_environment {
        format!("{env_prefix}{}", problem.path.join("__").to_uppercase())
    } else if problem.path.is_empty() {
        file.display().to_string()
    } else {
        format!("{}: {}", file.display(), problem.path.join("."))
    };
    format!("{place}: {}", without_values(&problem.kind))
}

/// What is wrong, without the value: it may be a connection string under the wrong key, with its password.
fn without_values(kind: &Kind) -> String {
    let found = |actual: &Actual| match actual {
        Actual::Str(_) => "a text".to_owned(),
        Actual::Char(_) => "a letter".to_owned(),
        Actual::Other(_) | Actual::Bytes(_) => "something else".to_owned(),
        plain => plain.to_string(),
    };
    match kind {
        Kind::InvalidType(actual, expected) => {
            format!("invalid type: found {}, expected {expected}", found(actual))
        }
        Kind::InvalidValue(actual, expected) => {
            format!("invalid value: found {}, expected {expected}", found(actual))
        }
        // A mistyped word helps; a connection string must not be shown.
        Kind::UnknownVariant(word, expected) if word.contains(['=', '@', ':']) => {
            format!("unknown word, expected one of {}", expected.join(", "))
        }
        Kind::Message(message) => without_quoted_lines(message),
        other => other.to_string(),
    }
}

/// The message of a syntax error without the quoted lines of the file: `3 | password = …`, and the mark
/// below.
fn without_quoted_lines(message: &str) -> String {
    let is_quoted = |line: &&str| {
        let line = line.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit());
        line.trim_start().starts_with('|')
    };
    message.lines().filter(|line| !is_quoted(line)).collect::<Vec<_>>().join("\n")
}

/// A secret in the file. Takes any scalar, since TOML reads `12345` as a number; never printed.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text, which may be empty.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Whether `shown` is equal, in constant time for a text of its length.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.expose().as_bytes().ct_eq(shown).into()
    }

    /// The secret, for the code that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The secret itself, or the first line of the file named instead; `None` when neither is there.
    ///
    /// # Errors
    /// [`ConfigError`] when both are there, or the file cannot be read or is empty.
    pub fn resolve(
        key: &str,
        given: Option<&Secret>,
        file: Option<&Path>,
        base: &Path,
    ) -> Result<Option<Secret>, ConfigError> {
        let invalid = |text: String| ConfigError::Invalid(vec![text]);
        match (given, file) {
            (Some(_), Some(_)) => Err(invalid(format!("{key} and {key}_file are both given: keep one"))),
            (Some(secret), None) => Ok(Some(secret.clone())),
            (None, None) => Ok(None),
            (None, Some(file)) => {
                let path = base.join(file);
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
                match text.lines().next().map(str::trim_end) {
                    Some(line) if !line.is_empty() => Ok(Some(Secret::new(line))),
                    _ => Err(invalid(format!("{key}_file: {} is empty", path.display()))),
                }
            }
        }
    }
}

/// Compares in constant time like [`Secret::is`], because its callers are not known here.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text; or use the key with _file")]
        enum Scalar {
            Text(String),
            Flag(bool),
            Unsigned(u64),
            Signed(i64),
        }
        Ok(match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Self::new(text),
            Scalar::Flag(flag) => Self::new(flag.to_string()),
            Scalar::Unsigned(number) => Self::new(number.to_string()),
            Scalar::Signed(number) => Self::new(number.to_string()),
        })
    }
}

/// A duration as people write it: `"250ms"`, `"2s"`, `"1m"`, `"24h"`.
pub mod human_duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer};

    /// For `#[serde(with = …)]` and `deserialize_with`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no duration: write for example \"250ms\", \"2s\", \"1m\", \"24h\""
            ))
        })
    }

    /// The duration in `text`; `None` when it is none.
    pub fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let unit_ms: u64 = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(unit_ms).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        port: u16,
        secret: Option<Secret>,
        #[serde(with = "human_duration")]
        wait: Duration,
    }

    fn example(text: &str) -> Result<Example, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load::<Example>(file.path(), "PICOPAY_TEST_NOTHING__")
            .map_err(|error| error.to_string().replace(file.path().to_str().unwrap(), "example.toml"))
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file_and_key() {
        for (text, needles) in [
            ("port = 1\nwait = \"2s\"\nprot = 2", ["example.toml", "prot"]),
            ("port = \"x\"\nwait = \"2s\"", ["example.toml: port", "u16"]),
            ("port = 1\nwait = \"soon\"", ["example.toml: wait", "250ms"]),
            ("port = 1", ["example.toml", "wait"]),
            ("port = = 1", ["example.toml", "line 1"]),
        ] {
            let message = example(text).unwrap_err();
            assert!(needles.iter().all(|needle| message.contains(needle)), "{text:?} gave {message:?}");
        }
    }

    #[test]
    fn a_secret_takes_any_scalar_and_is_never_printed() {
        for (value, expected) in [("\"abc\"", "abc"), ("12345", "12345"), ("true", "true")] {
            let read = example(&format!("port = 1\nwait = \"2s\"\nsecret = {value}")).unwrap();
            assert_eq!((read.port, read.wait), (1, Duration::from_secs(2)));
            assert_eq!(read.secret.as_ref().unwrap().expose(), expected);
            assert!(!format!("{read:?}").contains(expected));
        }
    }

    #[test]
    fn durations_are_written_for_people() {
        assert_eq!(human_duration::parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(human_duration::parse("24h"), Some(Duration::from_hours(24)));
        for text in ["", "5", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(human_duration::parse(text), None, "{text:?}");
        }
    }
}

//! The scopes of an API key.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    TopUp,
    /// Take money for a service, or hold it.
    Charge,
    Refund,
    /// Move it to another user.
    Transfer,
    /// All four scopes above, together.
    Write,
    Read,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 7] =
        [Self::TopUp, Self::Charge, Self::Refund, Self::Transfer, Self::Write, Self::Read, Self::Admin];

    /// Scopes that move money. `write` is all of them, and each of them may create users.
    pub const MOVING: [Self; 4] = [Self::TopUp, Self::Charge, Self::Refund, Self::Transfer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopUp => "topup",
            Self::Charge => "charge",
            Self::Refund => "refund",
            Self::Transfer => "transfer",
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    pub fn words() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Whether a key with this scope may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self == needed || self == Self::Admin || (self == Self::Write && Self::MOVING.contains(&needed))
    }
}

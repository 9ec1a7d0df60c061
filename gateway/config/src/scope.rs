//! What a key may do.

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Bring money in.
    TopUp,
    /// Take money for a service; holds too.
    Charge,
    /// Give it back.
    Refund,
    /// Move it to another user.
    Transfer,
    /// The four before, together.
    Write,
    /// Look.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::TopUp, Self::Charge, Self::Refund, Self::Transfer, Self::Write, Self::Read, Self::Admin];

    /// Those that move money: `write` is all of them, and who has one of them may make users.
    pub const MOVING: [Self; 4] = [Self::TopUp, Self::Charge, Self::Refund, Self::Transfer];

    /// The word in `gateway.toml` and in answers.
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

    /// The scope with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    /// All words, for people who wrote another one.
    pub fn words() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Whether who has this may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self == needed || self == Self::Admin || (self == Self::Write && Self::MOVING.contains(&needed))
    }
}

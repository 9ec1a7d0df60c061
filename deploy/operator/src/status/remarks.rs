//! What the parts of a report add to its last lines.

/// What is wrong, in words, collected while the report is made.
#[derive(Default)]
pub struct Remarks {
    /// What is not as it should be.
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

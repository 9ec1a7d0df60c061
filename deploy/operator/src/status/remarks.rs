//! What the parts of a report add to its last lines.

#[derive(Default)]
pub struct Remarks {
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

//! Checks of the sources themselves, not of what they do.

mod circles;
mod doc_comments;
mod documents;
mod one_way;
mod sources;

use sources::SourceFile;

/// A file that is longer has a second topic.
const LINES_MAX: usize = 600;

#[test]
fn no_file_is_longer_than_one_topic() {
    let long: Vec<String> = (SourceFile::all().iter())
        .map(|source| (source.text.lines().count(), source))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, source)| format!("{} has {lines} lines", source.path))
        .collect();
    assert!(long.is_empty(), "split by noun, each at most {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn no_test_sleeps_without_a_reason_beside_it() {
    let bare: Vec<String> = SourceFile::all()
        .iter()
        .filter(|source| source.is_rust())
        .flat_map(SourceFile::bare_sleeps)
        .collect();
    assert!(bare.is_empty(), "say why, in a comment on the line or right above it:\n{}", bare.join("\n"));
}

//! Checks of doc comments: one that is very short repeats the name below it.

use super::sources::SourceFile;

/// A doc comment has more words than this, or is left out.
const WORDS_TOO_FEW: usize = 3;

#[test]
fn no_doc_comment_only_repeats_a_name() {
    let short: Vec<String> =
        SourceFile::all().iter().filter(|source| source.is_rust()).flat_map(short_docs).collect();
    assert!(
        short.is_empty(),
        "{} doc comments have at most {WORDS_TOO_FEW} words, say more or leave them out:\n{}",
        short.len(),
        short.join("\n"),
    );
}

#[test]
fn a_short_doc_comment_is_found_and_a_long_block_is_not() {
    let text = "/// The user.\nuser: i64,\n/// Of the\n/// user.\n#[serde(default)]\nname: String,\n\n    /// Which shard it is.\n\n\
                /// One line,\n///\n/// and another.\n// A note.\n//// No doc.\nlet a = \"/// no\";\n    /// At the end.";
    let source = SourceFile { path: "x.rs".to_owned(), text: text.to_owned() };
    assert_eq!(short_docs(&source), ["x.rs:1: The user.", "x.rs:3: Of the user.", "x.rs:16: At the end."]);
}

fn short_docs(source: &SourceFile) -> Vec<String> {
    let mut short = Vec::new();
    let mut block: Option<(usize, Vec<&str>)> = None;
    // One more line, so that a block at the end of the file ends too.
    for (number, line) in source.text.lines().chain([""]).enumerate() {
        let doc = line.trim_start().strip_prefix("///").filter(|doc| !doc.starts_with('/'));
        if let Some(doc) = doc {
            block.get_or_insert((number + 1, Vec::new())).1.extend(doc.split_whitespace());
        } else if let Some((first, words)) = block.take().filter(|(_, words)| words.len() <= WORDS_TOO_FEW) {
            short.push(format!("{}:{first}: {}", source.path, words.join(" ")));
        }
    }
    short
}

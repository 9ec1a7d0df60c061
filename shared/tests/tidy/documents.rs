//! What the documents say is there, is there; and they say it in sentences that one can follow.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources::{SourceFile, root};

/// A sentence that is longer wants to be two.
const WORDS_MAX: usize = 30;
/// How the name of a file ends that somebody wrote. Others are made while a cluster runs.
const ENDS: [&str; 6] = [".rs", ".sql", ".sh", ".py", ".md", ".yaml"];

#[test]
fn every_file_that_a_document_or_a_comment_names_is_there() {
    let sources = SourceFile::all();
    let known: BTreeSet<&str> = sources.iter().filter_map(|source| source.path.rsplit('/').next()).collect();
    let mut missing = Vec::new();
    for source in &sources {
        let folder = Path::new(&source.path).parent().expect("a file is in a folder");
        for name in named_files(source) {
            let is_there = root().join(&name).exists()
                || root().join(folder).join(&name).exists()
                || (!name.contains('/') && known.contains(name.as_str()))
                || sources.iter().any(|other| other.path.ends_with(&format!("/{name}")));
            if !is_there {
                missing.push(format!("{} names {name}", source.path));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn no_sentence_of_a_document_is_too_long_to_follow() {
    let long: Vec<String> = (SourceFile::all().iter())
        .filter(|source| {
            ["README.md", "ARCHITECTURE.md"].contains(&source.path.as_str())
                || source.path.starts_with("docs/")
        })
        .flat_map(|source| {
            let sentences = sentences(&source.text);
            sentences.into_iter().map(|sentence| (source.path.clone(), sentence)).collect::<Vec<_>>()
        })
        .filter(|(_, sentence)| sentence.split_whitespace().count() > WORDS_MAX)
        .map(|(path, sentence)| format!("{path}: {sentence}"))
        .collect();
    assert!(long.is_empty(), "at most {WORDS_MAX} words each:\n{}", long.join("\n"));
}

#[test]
fn a_sentence_ends_at_a_full_stop_and_a_list_is_no_sentence() {
    let text = "# Title\n\nOne `a.b` two.\nThree:\n\n- four\n- five. Six\n\n| a table | no |\n\n```\ncode here\n```\n";
    assert_eq!(sentences(text), ["Title", "One `a.b` two", "Three:", "four", "five", "Six"]);
}

/// What looks like the name of a file: in a document what stands in backticks or is linked, in a source what a comment says.
fn named_files(source: &SourceFile) -> Vec<String> {
    let text = &source.text;
    let tokens: Vec<&str> = if source.is_document() {
        let without_code = outside_fences(text);
        let quoted = without_code.iter().flat_map(|line| line.split('`').skip(1).step_by(2));
        let linked = (without_code.iter())
            .flat_map(|line| line.split("](").skip(1))
            .filter_map(|rest| rest.split([')', '#']).next());
        quoted.chain(linked).collect()
    } else if source.is_rust() {
        (text.lines())
            .filter_map(|line| line.trim_start().strip_prefix("//"))
            .flat_map(|comment| comment.split([' ', '`', '(', ')', ',', ';', ':', '"', '[', ']', '!', '/']))
            .collect()
    } else {
        Vec::new()
    };
    (tokens.into_iter())
        .map(|token| token.trim_end_matches('.'))
        .filter(|token| ENDS.iter().any(|end| token.len() > end.len() && token.ends_with(end)))
        .filter(|token| {
            token.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
                && !token.starts_with("http")
        })
        .map(str::to_owned)
        .collect()
}

fn outside_fences(text: &str) -> Vec<&str> {
    let mut is_code = false;
    text.lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
        .collect()
}

/// The sentences of the prose: no code, no tables; each point of a list begins anew.
fn sentences(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in outside_fences(text) {
        let line = line.trim();
        let point = ["- ", "* ", "# ", "## ", "### "].iter().find_map(|mark| line.strip_prefix(mark));
        let numbered =
            line.split_once(". ").filter(|(number, _)| number.parse::<u32>().is_ok()).map(|(_, rest)| rest);
        if line.is_empty() || line.starts_with('|') {
            blocks.push(String::new());
        } else if let Some(begun) = point.or(numbered) {
            blocks.push(begun.to_owned());
        } else {
            let block = blocks.last_mut().expect("there is always one");
            block.push(' ');
            block.push_str(line);
        }
    }
    (blocks.iter())
        .flat_map(|block| block.split_inclusive(['.', '!', '?']).fold(Vec::<String>::new(), join_abbreviated))
        .map(|sentence| sentence.trim().trim_end_matches(['.', '!', '?']).to_owned())
        .filter(|sentence| !sentence.is_empty())
        .collect()
}

/// A full stop ends a sentence only where a space follows.
fn join_abbreviated(mut sentences: Vec<String>, piece: &str) -> Vec<String> {
    match sentences.last_mut() {
        Some(last) if !piece.starts_with(' ') => last.push_str(piece),
        _ => sentences.push(piece.to_owned()),
    }
    sentences
}

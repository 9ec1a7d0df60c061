//! Arrows between files point down: no file imports itself through others.
//!
//! A module and its inner modules are one noun, so their imports from each other do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::SourceFile;

type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_files_import_each_other() {
    let circles = circles(&arrows(&SourceFile::all()));
    let names: Vec<String> = circles.iter().map(|circle| circle.join("\n  ")).collect();
    assert!(circles.is_empty(), "{} circles:\n  {}", circles.len(), names.join("\n\n  "));
}

#[test]
fn a_circle_is_found_and_a_module_with_its_parts_is_none() {
    let source = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let files = [
        source("x/src/lib.rs", "mod a; mod b; mod c;"),
        source("x/src/a.rs", "mod part;\nuse crate::b::B;\nuse self::part::Part;"),
        source("x/src/a/part.rs", "use super::A;\nuse crate::a::A;"),
        source("x/src/b.rs", "use crate::{\n    c::{C, D},\n};"),
        source("x/src/c.rs", "fn f() { crate::a::part::g() }"),
    ];
    let circle = vec![
        "x/src/a.rs".to_owned(),
        "x/src/a/part.rs".to_owned(),
        "x/src/b.rs".to_owned(),
        "x/src/c.rs".to_owned(),
    ];
    assert_eq!(circles(&arrows(&files)), [circle]);
    assert!(circles(&arrows(&files[..4])).is_empty());
}

fn arrows(sources: &[SourceFile]) -> Arrows {
    let files: BTreeMap<(String, Vec<String>), &str> = (sources.iter())
        .filter_map(|source| module_of(&source.path).map(|module| (module, source.path.as_str())))
        .collect();
    let mut arrows = Arrows::new();
    for source in sources {
        let Some((root, module)) = module_of(&source.path) else { continue };
        for path in imports(&source.text, &module) {
            // The deepest file on the path; an item without its own file is in the one above.
            let target = (0..=path.len()).rev().find_map(|length| {
                files.get(&(root.clone(), path[..length].to_vec())).map(|file| (length, *file))
            });
            let Some((length, file)) = target else { continue };
            let is_part = length >= module.len() && path[..module.len()] == module[..];
            if !is_part {
                arrows.entry(source.path.clone()).or_default().insert(file.to_owned());
            }
        }
    }
    arrows
}

fn module_of(path: &str) -> Option<(String, Vec<String>)> {
    let inside = path.strip_suffix(".rs")?;
    let (root, module) = if let Some((before, module)) = inside.split_once("/src/") {
        (format!("{before}/src"), module)
    } else {
        let (before, module) = inside.split_once("/tests/")?;
        let (folder, module) = module.split_once('/')?;
        (format!("{before}/tests/{folder}"), module)
    };
    let mut module: Vec<String> = module.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        module.pop();
    }
    Some((root, module))
}

fn imports(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // Not `some_crate::`, and not the `$crate::` of a macro.
        if !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            found.extend(expand(&code[at + "crate::".len()..], &[]));
        }
    }
    let above = module.split_last().map_or(&[][..], |(_, above)| above);
    for (opening, base) in [("use super::", above), ("use self::", module)] {
        for (at, _) in code.match_indices(opening) {
            // An indented one belongs to an inner module.
            if at == 0 || code[..at].ends_with('\n') || code[..at].ends_with("\npub ") {
                found.extend(expand(&code[at + opening.len()..], base));
            }
        }
    }
    found
}

/// `a::{b::C, d}` as the paths `a::b::C` and `a::d`.
fn expand(text: &str, base: &[String]) -> Vec<Vec<String>> {
    let mut path = base.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            let mut depth = 1;
            let end = inside
                .find(|c| {
                    depth += match c {
                        '{' => 1,
                        '}' => -1,
                        _ => 0,
                    };
                    depth == 0
                })
                .unwrap_or(inside.len());
            return split_at_top(&inside[..end]).iter().flat_map(|part| expand(part, &path)).collect();
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        rest = rest[name.len()..].trim_start();
        if name == "super" {
            path.pop();
        } else if !name.is_empty() {
            path.push(name);
        }
        match rest.strip_prefix("::") {
            Some(further) => rest = further.trim_start(),
            None => return vec![path],
        }
    }
}

fn split_at_top(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (file.as_str(), reach(file, arrows))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (file, others) in &reached {
        if !others.contains(file) || circles.iter().flatten().any(|known| known == file) {
            continue;
        }
        let circle =
            others.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        circles.push(circle.map(|member| (*member).to_owned()).collect());
    }
    circles
}

fn reach<'a>(from: &str, arrows: &'a Arrows) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for target in arrows.get(file).into_iter().flatten() {
            if seen.insert(target.as_str()) {
                next.push(target);
            }
        }
    }
    seen
}

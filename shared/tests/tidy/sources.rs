//! The files of the repository, as text.

use std::fs;
use std::path::{Path, PathBuf};

pub struct SourceFile {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        collect(&root(), &mut found);
        assert!(found.len() > 100, "only {} files were found", found.len());
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }

    fn ends_with(&self, end: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == end)
    }

    pub fn is_rust(&self) -> bool {
        self.ends_with("rs")
    }

    pub fn is_document(&self) -> bool {
        self.ends_with("md")
    }

    /// The lines of tests that sleep and do not say why.
    pub fn bare_sleeps(&self) -> Vec<String> {
        let is_test_file = self.path.split('/').any(|part| part == "tests");
        let mut is_test = is_test_file;
        let mut before = "";
        let mut bare = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            is_test |= line.trim_start().starts_with("#[cfg(test)]");
            let code = line.split("//").next().unwrap_or(line);
            let sleeps = code.contains("sleep(") && !code.contains("fn sleep(");
            let is_explained = line.contains("// ") || before.trim_start().starts_with("//");
            if is_test && sleeps && !is_explained {
                bare.push(format!("{}:{}", self.path, number + 1));
            }
            before = line;
        }
        bare
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate has a folder above it").to_owned()
}

fn collect(folder: &Path, found: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // What is built or downloaded, and what begins with a dot, nobody here wrote.
        if name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if ["rs", "sql", "sh", "py", "md"].iter().any(|end| name.ends_with(&format!(".{end}"))) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let path =
                path.strip_prefix(root()).expect("it is below the root").to_string_lossy().into_owned();
            found.push(SourceFile { path, text });
        }
    }
}

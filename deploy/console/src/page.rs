//! The files of the page, inside the program.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "page"]
struct Files;

pub async fn serve(uri: Uri) -> Response {
    let name = file_name(uri.path());
    let Some(file) = Files::get(name) else {
        return (StatusCode::NOT_FOUND, "there is no such page: the console is at /\n").into_response();
    };
    ([(header::CONTENT_TYPE, content_type(name))], file.data).into_response()
}

/// Whether this path is one of the files, which are the same for everybody.
pub fn is_file(path: &str) -> bool {
    Files::get(file_name(path)).is_some()
}

fn file_name(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn text(name: &str) -> String {
        String::from_utf8(Files::get(name).unwrap_or_else(|| panic!("{name}")).data.into_owned()).unwrap()
    }

    #[test]
    fn uplot_is_the_release_whose_checksum_was_written_down() {
        let sums = text("uplot/SHA256SUMS");
        let mut checked = 0;
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let file = Files::get(&format!("uplot/{name}")).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&file.data)), sum, "{name}");
            checked += 1;
        }
        assert_eq!(checked, 3, "script, style and licence: {sums}");
        assert!(text("uplot/uPlot.iife.min.js").contains("(v1.6.31)"));
        assert!(text("uplot/LICENSE").contains("Permission is hereby granted, free of charge"));
    }

    #[test]
    fn the_page_has_no_script_or_style_in_its_text_and_names_only_files_that_are_there() {
        let html = text("index.html");
        for forbidden in ["style=", "<style", "onclick", "onload", "javascript:", "http://", "https://"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        let mut named = 0;
        for attribute in ["src=\"/", "href=\"/"] {
            for rest in html.split(attribute).skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(is_file(name), "{name}");
                named += 1;
            }
        }
        assert!(named >= 5, "{named}");
        for script in html.split("<script").skip(1) {
            assert!(script.split('>').nth(1).unwrap().starts_with("</script"), "{script}");
        }
        for file in Files::iter().filter(|name| name.starts_with("app/")) {
            let script = text(&file);
            for import in script.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(is_file(&format!("app/{name}")), "{file} imports {name}");
            }
            for forbidden in ["innerHTML", "eval(", "http://", "https://"] {
                assert!(!script.contains(forbidden), "{file} has {forbidden}");
            }
        }
    }
}

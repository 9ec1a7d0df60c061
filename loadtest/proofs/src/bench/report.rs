//! The bench's page. It looks as the load test's does, and draws with the same functions: they are cut out of that page, so
//! that there is one of each.

use picopay_loadtest::report::PAGE as LOAD_TEST_PAGE;

use super::summary::Summary;

const PAGE: &str = include_str!("report.html");

/// Where the load test's page has its style, and what draws.
const STYLE: (&str, &str) = ("<style>", "</style>");
const DRAWING: (&str, &str) = ("\"use strict\";", "const seconds = report.seconds");

/// The page with its data. A database's text could hold `</script>`; in JSON, `<` may be written otherwise.
///
/// # Errors
/// When a figure is no number.
pub fn page(summary: &Summary) -> anyhow::Result<String> {
    Ok(fill(&serde_json::to_string(summary)?))
}

fn fill(json: &str) -> String {
    // The data comes last: it could hold the other places' names.
    PAGE.replacen("/*STYLE*/", cut(STYLE), 1)
        .replacen("/*DRAWING*/", &format!("{}{}", DRAWING.0, cut(DRAWING)), 1)
        .replacen("/*DATA*/null", &json.replace('<', "\\u003c"), 1)
}

fn cut((begin, end): (&str, &str)) -> &'static str {
    let (_, rest) = LOAD_TEST_PAGE.split_once(begin).expect("a test looks that it is there");
    let (part, _) = rest.split_once(end).expect("a test looks that it is there");
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_style_and_drawing_and_asks_no_other_host() {
        let page = fill(r#"{"title": "</script><script>alert(1) /*STYLE*/"}"#);
        assert!(page.contains(r#"{"title": "\u003c/script>"#));
        for needed in
            ["--page:", ".card", "function frame(", "function hover(", "function table(", "function flatten("]
        {
            assert!(page.contains(needed), "{needed}");
        }
        assert!(!page.contains("/*DRAWING*/"));
        for outside in ["src=", "href=", "@import", "url(", "https://", "http://"] {
            let allowed = page.matches("http://www.w3.org/2000/svg").count();
            let found = page.matches(outside).count() - if outside == "http://" { allowed } else { 0 };
            assert_eq!(found, 0, "{outside}");
        }
    }
}

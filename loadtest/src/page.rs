//! The page on which people read a report, of a run or of a bench: one file, which draws the JSON that it holds.

const PAGE: &str = include_str!("page.html");
const PLACE_OF_DATA: &str = "/*DATA*/null";

/// A gateway's text could hold `</script>`; in JSON, `<` may be written otherwise.
pub fn fill(json: &str) -> String {
    PAGE.replacen(PLACE_OF_DATA, &json.replace('<', "\\u003c"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_its_data_and_asks_no_other_host() {
        assert_eq!(PAGE.matches(PLACE_OF_DATA).count(), 1);
        let page = fill(r#"{"title": "</script><script>alert(1)"}"#);
        assert!(page.contains(r#"{"title": "\u003c/script>"#));
        for outside in ["src=", "href=", "@import", "url(", "https://", "http://"] {
            let allowed = page.matches("http://www.w3.org/2000/svg").count();
            let found = page.matches(outside).count() - if outside == "http://" { allowed } else { 0 };
            assert_eq!(found, 0, "{outside}");
        }
    }
}

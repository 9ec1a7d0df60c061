//! `/problems/{suffix}`: the page at the `type` of a problem.

use axum::extract::RawQuery;
use axum::response::{Html, IntoResponse, Response};

use crate::parameters::{Parameters, PathParameters};
use crate::problem::{Code, Problem};

pub async fn get_problem_page(path: PathParameters, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let code = Code::parse(path.get("suffix").unwrap_or_default()).ok_or_else(Problem::not_found)?;
    Parameters::refuse_all(query.as_deref())?;
    let (title, status, meaning, suffix) =
        (code.title(), code.status().as_u16(), code.meaning(), code.suffix());
    // Every part is a constant of `problem.rs` that needs no HTML escaping.
    Ok(Html(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}</style>\n\
         <h1>{title}</h1>\n<p><code>{suffix}</code>, status {status}</p>\n<p>{meaning}</p>\n<p><a href=\"../docs\">All of the API</a></p>\n</html>\n"
    ))
    .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_need_no_escaping() {
        for code in Code::ALL {
            for text in [code.title(), code.meaning(), code.suffix()] {
                assert!(!text.contains(['<', '>', '&', '"']), "{text}");
            }
        }
    }
}

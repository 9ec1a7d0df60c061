//! The specification and its page: complete, and from this gateway alone.

use crate::gateway_process::{GatewayProcess, cluster_of};

#[tokio::test]
async fn the_page_and_the_specification_come_from_the_gateway_alone() {
    let gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), "").await;
    let api = gateway.api.with_key("");
    for prefix in ["", "/v1"] {
        let page = api.get(&format!("{prefix}/docs")).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
        let loaded: Vec<&str> =
            page.body.split(['"', '\'']).filter(|text| text.starts_with("docs/")).collect();
        assert_eq!(loaded.len(), 4, "{}", page.body);
        for file in loaded {
            let answer = api.get(&format!("{prefix}/{file}")).await;
            assert_eq!(answer.status, 200, "{file}");
            assert!(!answer.body.is_empty(), "{file}");
        }
        assert!(!page.body.contains("http:") && !page.body.contains("https:"), "{}", page.body);
        let specification = api.get(&format!("{prefix}/openapi.json")).await;
        assert_eq!(specification.header("content-type"), Some("application/json"));
        let specification = specification.json();
        assert!(specification["openapi"].as_str().unwrap().starts_with("3.1"));
        let example = &specification["paths"]["/charge"]["post"]["responses"]["402"]["content"]["application/problem+json"]
            ["examples"]["insufficient-balance"]["value"];
        assert_eq!(example["type"], format!("{}/problems/insufficient-balance", api.url));
        let suffixes = problem_suffixes(&specification);
        assert!(suffixes.len() >= 15, "{suffixes:?}");
        for suffix in suffixes {
            let page = api.get(&format!("{prefix}/problems/{suffix}")).await;
            assert_eq!(page.status, 200, "{suffix}");
            assert!(page.header("content-type").unwrap().starts_with("text/html"));
            assert!(page.body.contains(&suffix));
        }
    }
}

fn problem_suffixes(specification: &serde_json::Value) -> std::collections::BTreeSet<String> {
    let mut suffixes = std::collections::BTreeSet::new();
    for operations in specification["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            for response in operation["responses"].as_object().unwrap().values() {
                let examples = response["content"]["application/problem+json"]["examples"].as_object();
                suffixes.extend(examples.into_iter().flat_map(serde_json::Map::keys).cloned());
            }
        }
    }
    suffixes
}

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use picopay_shard_client::ShardClientConfig;
use picopay_shared::cluster::Cluster;
use prometheus::Registry;
use tower::ServiceExt as _;

use super::*;

/// A cluster whose parts are all down: nobody listens on port 1.
fn console() -> (Router, Arc<Board>, CancellationToken) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let text = "internal_secret = \"0123456789abcdef0123456789abcdef\"\n[[shards]]\nname = \"shard-1\"\n\
                nodes = [\"http://127.0.0.1:1\"]\nprimary = \"host=127.0.0.1 port=1\"\n";
    std::fs::write(&file, text).unwrap();
    let cluster = Cluster::load(&file).unwrap();
    let closing = CancellationToken::new();
    let board = Arc::new(Board::default());
    let shown = Shown {
        board: Arc::clone(&board),
        traffic: Arc::default(),
        shards: ShardClient::start(&cluster, &ShardClientConfig::default(), &Registry::new()),
        closing: closing.clone(),
    };
    (router(shown), board, closing)
}

async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let request =
        headers.iter().fold(Request::builder().method(method).uri(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text_of(answer: Response) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

const HERE: (&str, &str) = ("host", "localhost:8090");

#[tokio::test]
async fn only_the_page_itself_may_ask_by_this_machines_own_name() {
    let (router, ..) = console();
    let foreign_site = |site| ("sec-fetch-site", site);
    for (method, path, headers, status) in [
        ("GET", "/", vec![HERE], 200),
        ("HEAD", "/", vec![HERE], 200),
        ("GET", "/console.css", vec![("host", "127.0.0.1:9")], 200),
        ("GET", "/", vec![("host", "[::1]:8090")], 200),
        ("GET", "/", vec![("host", "LOCALHOST")], 200),
        // A name of somebody else that leads here.
        ("GET", "/", vec![("host", "rebound.example:8090")], 421),
        ("GET", "/api/users/0", vec![("host", "localhost.example")], 421),
        ("GET", "/", vec![("host", "10.0.0.1:8090")], 421),
        ("GET", "/", vec![], 421),
        ("GET", "/", vec![HERE, ("host", "rebound.example")], 421),
        // A page of somebody else that asks by this machine's name. Another port of it is another page.
        ("GET", "/api/users/0", vec![HERE, foreign_site("cross-site")], 403),
        ("GET", "/api/transactions/0", vec![HERE, foreign_site("same-site")], 403),
        ("GET", "/events", vec![HERE, foreign_site("cross-site")], 403),
        // A link may lead to the page, which then asks by itself.
        ("GET", "/", vec![HERE, foreign_site("cross-site")], 200),
        ("GET", "/api/users/0", vec![HERE, foreign_site("same-origin")], 400),
        ("GET", "/api/users/0", vec![HERE], 400),
        ("POST", "/api/users/1", vec![HERE], 405),
        ("DELETE", "/", vec![HERE], 405),
        ("GET", "/nothing", vec![HERE], 404),
        ("GET", "/../Cargo.toml", vec![HERE], 404),
    ] {
        let answer = ask(&router, method, path, &headers).await;
        assert_eq!(answer.status().as_u16(), status, "{method} {path} {headers:?}");
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        assert_eq!(header(header::CONTENT_SECURITY_POLICY), "default-src 'self'", "{path}");
        assert_eq!((header(header::CACHE_CONTROL), header(header::X_FRAME_OPTIONS)), ("no-store", "DENY"));
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        if status == 405 {
            assert_eq!(header(header::ALLOW), "GET, HEAD");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_shown_is_said_in_words() {
    let (router, ..) = console();
    for (path, status, needle) in [
        ("/api/users/0", 400, "a number from 1 to"),
        ("/api/users/one", 400, "a number from 1 to"),
        ("/api/transactions/7", 400, "a UUID"),
        ("/api/transactions/550e8400-e29b-41d4-a716-446655440000", 404, "there is no transaction 550e8400"),
        ("/api/users/1?after=1", 400, "unknown field"),
        ("/api/users/1", 503, "shard-1 does not answer"),
    ] {
        let answer = ask(&router, "GET", path, &[HERE]).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let text = text_of(answer).await;
        assert!(text.contains(needle), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_page_is_told_what_is_known_then_what_changes_and_its_stream_ends_with_the_console() {
    let (router, board, closing) = console();
    board.post("slots", &json!({ "runs": [] }));
    let answer = ask(&router, "GET", "/events", &[HERE]).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    board.post("slots", &json!({ "runs": [1] }));
    // What was told before is still sent: the end takes what is there already.
    let mut body = answer.into_body();
    let mut text = String::new();
    while !text.contains("[1]") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
    assert!(at("event: traffic-so-far") < at("{\"runs\":[]}") && at("{\"runs\":[]}") < at("{\"runs\":[1]}"));
    closing.cancel();
    assert!(body.frame().await.is_none());
}

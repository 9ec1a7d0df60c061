//! A probe by the command's exit code.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::command::{bare_picopay, run};

/// Answers each connection with this text, or with nothing at all.
async fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = vec![0; 1024];
                let length = stream.read(&mut head).await.unwrap();
                assert!(head[..length].starts_with(b"GET /health "), "without a path it asks for this one");
                if answer.is_empty() {
                    // Longer than the probe waits.
                    tokio::time::sleep(Duration::from_mins(1)).await;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn the_exit_code_says_whether_a_service_answers() {
    let alive = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let said = run(bare_picopay(["health", &alive])).await.success();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""), "nothing to say");
    let ending =
        server("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 24\r\n\r\n{\"code\":\"shutting-down\"}")
            .await;
    run(bare_picopay(["health", &ending])).await.failure("answers 503, shutting-down");
    let silent = server("").await;
    run(bare_picopay(["health", &silent, "--timeout", "300ms"]))
        .await
        .failure("does not answer within 300 ms");
    run(bare_picopay(["health", "http://127.0.0.1:1"])).await.failure("does not answer");
    for address in ["here", "127.0.0.1:8080", "ftp://127.0.0.1"] {
        let said = run(bare_picopay(["health", address])).await;
        assert!(said.code == Some(2) && said.err.contains("write for example"), "{said:?}");
    }
}

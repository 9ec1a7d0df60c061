//! Over `https`: whom the client believes, what it shows, and one clear error for each reason why not.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_client::{Client, Error, Exchange, Lost, Patience, Payment, Tls};
use picopay_tls::{Authorities, ClientCertificates, Front, Identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

struct Files {
    folder: tempfile::TempDir,
    own: Authority,
    other: Authority,
}

impl Files {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] = [(); 2].map(|()| Authority::make(in_days(1)).unwrap());
        std::fs::write(folder.path().join("own.pem"), own.pem()).unwrap();
        std::fs::write(folder.path().join("other.pem"), other.pem()).unwrap();
        Self { folder, own, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn identity(&self, authority: &Authority, name: &str, hosts: &[&str], expires: SystemTime) -> Identity {
        let [cert, key] = ["crt", "key"].map(|end| self.path(&format!("{name}.{end}")));
        authority.issue(&Leaf { name, hosts, expires }).unwrap().save(&cert, &key).unwrap();
        Identity::read(&cert, &key).unwrap()
    }

    fn shown(&self, tls: Tls, name: &str) -> Tls {
        tls.showing(self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")))
    }
}

/// A server that shows this and demands that, and answers every request with `{}`. Returns its URL.
async fn serve(identity: &Identity, clients: &ClientCertificates) -> String {
    let front = Front::new(identity, clients).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(shaken) = front.shake_hands(stream, Duration::from_secs(20)).await else { continue };
            let (mut stream, mut request) = (shaken.stream, Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut chunk = [0; 1024];
                match stream.read(&mut chunk).await {
                    Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
                    _ => break,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

async fn ask(url: &str, tls: &Tls) -> Result<u16, Lost> {
    let exchange = Exchange::with_tls(url, "key", tls).unwrap();
    let asked = Instant::now();
    let answer = exchange.get("/health", None).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "nothing hangs: {:?}", asked.elapsed());
    answer.map(|answer| answer.status)
}

#[tokio::test]
async fn a_gateway_that_cannot_be_believed_gets_no_request_and_the_reason_is_one_line() {
    let files = Files::make();
    let over = SystemTime::now() + Duration::from_secs(2);
    let expired = files.identity(&files.own, "expired", &HOSTS, over);
    let good = files.identity(&files.own, "gateway", &HOSTS, in_days(1));
    let named = files.identity(&files.own, "named", &["pay.example"], in_days(1));
    let (own, other) = (Tls::trusting(files.path("own.pem")), Tls::trusting(files.path("other.pem")));
    let url = serve(&good, &ClientCertificates::None).await;
    assert_eq!(ask(&url, &own).await.unwrap(), 200);
    assert_eq!(ask(&url.replace("127.0.0.1", "localhost"), &own).await.unwrap(), 200);
    if let Ok(left) = over.duration_since(SystemTime::now()) {
        // It is good until then.
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
    for (shown, tls, line) in [
        (&good, &other, "no authority that is trusted here signed it"),
        (&good, &Tls::default(), "no authority that is trusted here signed it"),
        (&named, &own, "it is not for this name"),
        (&expired, &own, "it has expired"),
    ] {
        let url = serve(shown, &ClientCertificates::None).await;
        let lost = ask(&url, tls).await.unwrap_err();
        assert!(matches!(lost, Lost::NotSent(_)), "{line}: {lost:?}");
        let told = lost.to_string();
        assert!(told.contains(line) && !told.contains('\n'), "{line}: {told}");
        // The typed client says the same, and that nothing happened.
        let client = Client::with_tls(&url, "key", tls).unwrap().with_patience(Patience::none());
        let error = client.charge(&Payment::new(1, "1", "USD").unwrap()).await.unwrap_err();
        assert!(matches!(&error, Error::NotDone { last, .. } if last.contains(line)), "{error:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_demands_a_certificate_gets_the_one_that_it_knows() {
    let files = Files::make();
    let good = files.identity(&files.own, "gateway", &HOSTS, in_days(1));
    files.identity(&files.own, "shop", &[], in_days(1));
    files.identity(&files.other, "stranger", &[], in_days(1));
    let known = Authorities::read(&files.path("own.pem")).unwrap();
    let url = serve(&good, &ClientCertificates::Required(known)).await;
    let trusting = Tls::trusting(files.path("own.pem"));
    assert_eq!(ask(&url, &files.shown(trusting.clone(), "shop")).await.unwrap(), 200);
    for (tls, line) in [
        (trusting.clone(), "none was shown"),
        (files.shown(trusting, "stranger"), "no authority that it trusts signed ours"),
    ] {
        // A request that was under way may meet a reset before the reason, which says less and is no lie.
        let mut told = Vec::new();
        while told.len() < 20 && !told.iter().any(|told: &String| told.contains(line)) {
            told.push(ask(&url, &tls).await.unwrap_err().to_string());
        }
        assert!(told.last().unwrap().contains(line), "{line}: {told:?}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_said_before_anything_is_asked() {
    let files = Files::make();
    files.identity(&files.own, "shop", &[], in_days(1));
    std::fs::write(files.path("empty.pem"), "").unwrap();
    let url = "https://127.0.0.1:1";
    let own = || Tls::trusting(files.path("own.pem"));
    for (tls, needle) in [
        (Tls::trusting("/nowhere/ca.pem"), "/nowhere/ca.pem: cannot be read"),
        (Tls::trusting(files.path("empty.pem")), "holds no certificate"),
        (own().showing(files.path("shop.crt"), files.path("own.pem")), "holds no private key"),
        (own().showing(files.path("own.pem"), files.path("shop.key")), "does not fit"),
    ] {
        let error = Exchange::with_tls(url, "key", &tls).unwrap_err().to_string();
        assert!(error.contains(needle) && !error.contains('\n'), "{needle}: {error}");
    }
    // Without https nothing of it is looked at.
    assert!(Exchange::with_tls("http://127.0.0.1:1", "key", &Tls::trusting("/nowhere")).is_ok());
}

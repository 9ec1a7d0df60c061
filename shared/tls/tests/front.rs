//! What a server takes and refuses, as a client of another make sees it: versions, protocol, certificates of clients.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_tls::{Authorities, ClientCertificates, Front, Identity, subject_as_read};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(20);

/// Certificate and key, in PEM.
type Shown = (String, String);

struct Place {
    folder: tempfile::TempDir,
    own: Authority,
}

impl Place {
    fn make() -> Self {
        let (folder, own) = (tempfile::tempdir().unwrap(), Authority::make(in_days(1)).unwrap());
        own.save(folder.path()).unwrap();
        Self { folder, own }
    }

    fn authorities(&self) -> Authorities {
        Authorities::read(&self.folder.path().join("ca.pem")).unwrap()
    }

    fn front(&self, clients: &ClientCertificates) -> Front {
        let file = |end: &str| self.folder.path().join(format!("server.{end}"));
        let (certificate, key): (&Path, &Path) = (&file("pem"), &file("key"));
        let leaf = Leaf { name: "server", hosts: &["localhost"], expires: in_days(1) };
        self.own.issue(&leaf).unwrap().replace(certificate, key).unwrap();
        Front::new(&Identity::read(certificate, key).unwrap(), clients).unwrap()
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        protocols: &[&str],
        shown: Option<&Shown>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.own.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(picopay_tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// What was agreed on: the version, the protocol, and whom the server sees. An error of either side is one.
async fn meet(
    front: &Front,
    client: ClientConfig,
) -> Result<(ProtocolVersion, Option<Vec<u8>>, Option<Arc<str>>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let asking = async {
        let stream = connector.connect(name, stream).await?;
        let agreed = stream.get_ref().1;
        let agreed = (agreed.protocol_version().unwrap(), agreed.alpn_protocol().map(<[u8]>::to_vec));
        Ok::<_, std::io::Error>((stream, agreed))
    };
    let (server, client) = tokio::join!(front.shake_hands(accepted, PATIENCE), asking);
    let subject = match server {
        Ok(mut shaken) => {
            let (mut kept, agreed) = client.map_err(|error| error.to_string())?;
            // What is sent after it can be read.
            tokio::io::AsyncWriteExt::write_all(&mut shaken.stream, b"x").await.unwrap();
            assert_eq!(kept.read_u8().await.unwrap(), b'x');
            (agreed.0, agreed.1, shaken.client_subject)
        }
        Err(error) => return Err(error.to_string()),
    };
    Ok(subject)
}

#[tokio::test]
async fn both_versions_are_taken_and_http_1_1_is_what_is_spoken() {
    let place = Place::make();
    let front = place.front(&ClientCertificates::None);
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"]] {
            let agreed = meet(&front, place.client(version, protocols, None)).await;
            assert_eq!(agreed, Ok((number, Some(b"http/1.1".to_vec()), None)), "{protocols:?}");
        }
        // Older clients do not say what they speak.
        let agreed = meet(&front, place.client(version, &[], None)).await;
        assert_eq!(agreed, Ok((number, None, None)));
        let refused = meet(&front, place.client(version, &["h2"], None)).await.unwrap_err();
        assert!(refused.contains("protocol"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_that_expired_or_is_another_authoritys_opens_nothing_even_where_none_is_needed() {
    let place = Place::make();
    let other = Authority::make(in_days(1)).unwrap();
    let over = SystemTime::now() - Duration::from_mins(1);
    let shown = |authority: &Authority, expires| {
        let pair = authority.issue(&Leaf { name: "shöp", hosts: &[], expires }).unwrap();
        (pair.certificate, pair.key)
    };
    let (good, expired, strange) =
        (shown(&place.own, in_days(1)), shown(&place.own, over), shown(&other, in_days(1)));
    let optional = place.front(&ClientCertificates::Optional(place.authorities()));
    let required = place.front(&ClientCertificates::Required(place.authorities()));
    for version in [&TLS12, &TLS13] {
        for front in [&optional, &required] {
            let ask = async |shown: &Shown| meet(front, place.client(version, &[], Some(shown))).await;
            let (_, _, subject) = ask(&good).await.unwrap();
            assert_eq!(subject.as_deref(), subject_as_read("CN=sh\\C3\\B6p").as_deref());
            let refused = ask(&expired).await.unwrap_err();
            assert!(refused.contains("xpired"), "{refused}");
            let refused = ask(&strange).await.unwrap_err();
            assert!(refused.contains("UnknownIssuer"), "{refused}");
        }
        let nobody = place.client(version, &[], None);
        assert_eq!(meet(&optional, nobody.clone()).await.unwrap().2, None);
        let refused = meet(&required, nobody).await.unwrap_err();
        assert!(refused.contains("no certificates"), "{refused}");
    }
}

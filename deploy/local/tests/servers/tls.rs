//! A PostgreSQL that insists on TLS and on certificates: who comes in, and what is said to everybody else.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_postgres::{Connection, Endpoint};
use picopay_shared::cluster::DatabaseCertificates;

const PATIENCE: Duration = Duration::from_secs(5);

async fn enter(text: &str, password: &str) -> Result<Connection, String> {
    let mut files = DatabaseCertificates::default();
    files.add(text, Path::new(""))?;
    let mut endpoint = Endpoint::parse(text, &files)?;
    endpoint.config.password(password);
    Connection::open(&endpoint, PATIENCE).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_postgresql_that_insists_on_tls_is_entered_in_libpqs_words_and_by_nobody_else() {
    let cluster = LocalCluster::start_databases(ClusterSpec::one_shard().with_tls()).await.unwrap();
    let folder = cluster.authority_file().unwrap().parent().unwrap().to_owned();
    let password = std::fs::read_to_string(cluster.folder().join("secrets/picopay")).unwrap();
    let password = password.trim();
    let port = cluster.shard(0).primary_port();
    let (own, other) = (Authority::read(&folder).unwrap(), Authority::make(in_days(1)).unwrap());
    let file = |name: &str| folder.join(name).display().to_string();
    std::fs::write(file("other-ca.pem"), other.pem()).unwrap();
    let save = |authority: &Authority, file_name: &str, name: &str| {
        let pair = authority.issue(&Leaf { name, hosts: &[], expires: in_days(1) }).unwrap();
        pair.save(&folder.join(format!("{file_name}.pem")), &folder.join(format!("{file_name}.key")))
            .unwrap();
    };
    save(&own, "someone", "someone");
    save(&other, "stranger", "picopay");
    let (ca, other_ca) = (file("ca.pem"), file("other-ca.pem"));
    let shown = |name: &str| {
        format!("sslcert='{}' sslkey='{}'", file(&format!("{name}.pem")), file(&format!("{name}.key")))
    };
    let (mine, someone, stranger) = (shown("picopay"), shown("someone"), shown("stranger"));
    let at = format!("host=127.0.0.1 port={port} user=picopay dbname=picopay");

    let full = format!("sslmode=verify-full sslrootcert='{ca}'");
    for (words, what) in [
        (format!("{full} {mine} channel_binding=require"), "all of it"),
        (format!("sslmode=verify-ca sslrootcert='{ca}' {mine}"), "verify-ca"),
        (format!("sslmode=require sslrootcert='{ca}' {mine}"), "require with a file"),
        (format!("sslmode=require sslrootcert=unverified {mine}"), "unverified, in words"),
    ] {
        let connection =
            enter(&format!("{at} {words}"), password).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let sql = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = connection.client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("TLSv1.3", "/CN=picopay"), "{what}");
    }
    let url = format!(
        "postgresql://picopay@localhost:{port}/picopay?sslmode=verify-full&sslrootcert={ca}&sslcert={}&sslkey={}",
        file("picopay.pem"),
        file("picopay.key")
    );
    enter(&url, password).await.unwrap();
    enter(&format!("{at} hostaddr=127.0.0.1 {full} {mine}"), password).await.unwrap();
    // Another name of the same server, which its certificate does not have.
    let named = format!("host=db.example hostaddr=127.0.0.1 port={port} user=picopay dbname=picopay");
    enter(&format!("{named} sslmode=verify-ca sslrootcert='{ca}' {mine}"), password).await.unwrap();

    for (text, password, needle) in [
        (at.clone(), password, "no encryption"),
        (format!("{at} sslmode=disable"), password, "no encryption"),
        (format!("{at} sslmode=prefer"), password, "goes on without TLS"),
        (format!("{at} sslmode=require"), password, "does not look who the server is"),
        (format!("{at} {full}"), password, "certificate"),
        // Its log says which names do not match.
        (format!("{at} {full} {someone}"), password, "authentication failed"),
        (format!("{at} {full} {stranger}"), password, "no authority that it trusts signed ours"),
        (
            format!("{at} sslmode=verify-full sslrootcert='{other_ca}' {mine}"),
            password,
            "no authority that is trusted here signed it",
        ),
        (
            format!("{at} sslmode=verify-full sslrootcert=system {mine}"),
            password,
            "no authority that is trusted here signed it",
        ),
        (format!("{named} {full} {mine}"), password, "it is not for this name"),
        (format!("{at} {full} {mine}"), "wrong", "password authentication failed"),
        (format!("{at} {full} {mine} sslpassword=x"), password, "sslpassword"),
        (
            format!("{at} sslmode=verify-full sslrootcert='/nowhere/ca.pem'"),
            password,
            "/nowhere/ca.pem: cannot be read",
        ),
    ] {
        let asked = Instant::now();
        let refused = enter(&text, password).await.err().unwrap_or_else(|| panic!("{text} comes in"));
        assert!(refused.contains(needle) && !refused.contains('\n'), "{text}: {refused}");
        assert!(asked.elapsed() < PATIENCE, "{text} took {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn a_server_whose_certificate_has_expired_is_refused() {
    let cluster = LocalCluster::start_databases(ClusterSpec::one_shard().with_tls()).await.unwrap();
    let folder = cluster.authority_file().unwrap().parent().unwrap().to_owned();
    let over = SystemTime::now() - Duration::from_mins(1);
    let leaf = Leaf { name: "postgres", hosts: &["127.0.0.1"], expires: over };
    let pair = Authority::read(&folder).unwrap().issue(&leaf).unwrap();
    let superuser = cluster.connect_as_superuser(0).await.unwrap();
    let data: String = superuser.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    // Written into the files as they are, which belong to the server's user.
    std::fs::write(Path::new(&data).join("server.pem"), &pair.certificate).unwrap();
    std::fs::write(Path::new(&data).join("server.key"), &pair.key).unwrap();
    superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    let port = cluster.shard(0).primary_port();
    let file = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "host=127.0.0.1 port={port} user=picopay dbname=picopay sslmode=verify-full sslrootcert='{}' sslcert='{}' sslkey='{}'",
        file("ca.pem"),
        file("picopay.pem"),
        file("picopay.key")
    );
    picopay_local::eventually("it is refused", async || {
        enter(&text, "").await.err().is_some_and(|error| error.contains("it has expired"))
    })
    .await;
}

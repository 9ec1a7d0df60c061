//! A wire between two parts of the cluster that can be cut: reset, silent, or slow.
//!
//! It cannot refuse a connection or leave it unanswered, since the kernel accepts for it. A connection to a dead server
//! is reset, and one to a silent server hears nothing. To the caller both are requests that may have arrived, which is
//! the harder case.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::LocalError;
use crate::ports::Ports;

/// At most this is on its way when the wire falls silent, the kernel's buffers aside.
const CHUNK_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Clear,
    /// What was sent arrives when the wire is clear again, as after a partition.
    Silent,
    /// Requests arrive, and their answers do not until it clears up.
    AnswersSilent,
    Slow(Duration),
}

/// What went over a wire, both ways, in the order in which it was read.
type Record = Arc<Mutex<Vec<u8>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// A clone is another handle; with the last one the wire and its connections are gone.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Listening>);

#[derive(Debug)]
struct Listening {
    port: u16,
    switches: watch::Sender<Switches>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Switches {
    record: Option<Record>,
    weather: Weather,
    resets: u64,
    servers: Arc<Vec<u16>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The connections end with the switches.
        self.accepting.abort();
    }
}

impl Proxy {
    /// A wire to this port of the loopback, beside those that a cluster has by itself.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(server: u16) -> Result<Self, LocalError> {
        Self::start(&Ports::default(), server).await
    }

    pub(crate) async fn start(ports: &Ports, server: u16) -> Result<Self, LocalError> {
        let listener = listen(ports).await?;
        let port = listener.local_addr().map_err(LocalError::system("ask a proxy for its port"))?.port();
        let servers = Arc::new(vec![server]);
        let (switches, watched) =
            watch::channel(Switches { record: None, weather: Weather::Clear, resets: 0, servers });
        let accepting = tokio::spawn(accept(listener, watched));
        Ok(Self(Arc::new(Listening { port, switches, accepting })))
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.switches.send_modify(|switches| switches.weather = weather);
    }

    /// Ends all its connections at once, on both sides by RST. New ones are taken.
    pub fn reset(&self) {
        self.0.switches.send_modify(|switches| switches.resets += 1);
    }

    /// Keeps what goes over it from now on.
    pub fn record(&self) {
        self.0.switches.send_modify(|switches| switches.record = Some(Record::default()));
    }

    pub fn recorded(&self) -> Vec<u8> {
        let record = self.0.switches.borrow().record.clone().unwrap_or_default();
        record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn lead_to(&self, servers: &[u16]) {
        assert!(!servers.is_empty(), "a wire leads somewhere");
        self.0.switches.send_modify(|switches| switches.servers = Arc::new(servers.to_vec()));
    }
}

async fn listen(ports: &Ports) -> Result<TcpListener, LocalError> {
    // Ports are reserved among clusters: to lose twice against other programs is already unheard of.
    let mut tries_left = 3;
    loop {
        tries_left -= 1;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, ports.take()?)).await {
            Ok(listener) => return Ok(listener),
            Err(_) if tries_left > 0 => {}
            Err(error) => return Err(LocalError::system("listen for a proxy")(error)),
        }
    }
}

async fn accept(listener: TcpListener, switches: watch::Receiver<Switches>) {
    let turn = AtomicUsize::new(0);
    loop {
        // It fails when there are no descriptors left, which passes.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let servers = Arc::clone(&switches.borrow().servers);
        let server = servers[turn.fetch_add(1, Ordering::Relaxed) % servers.len()];
        tokio::spawn(carry(client, server, switches.clone()));
    }
}

async fn carry(mut client: TcpStream, server: u16, mut switches: watch::Receiver<Switches>) {
    let resets = switches.borrow().resets;
    let mut far = None;
    let was_cut = {
        let relayed = relay(&mut client, &mut far, server, switches.clone());
        tokio::select! {
            ended = relayed => ended.is_err(),
            // An error means that the proxy is gone.
            _ = switches.wait_for(|switches| switches.resets != resets) => true,
        }
    };
    if was_cut {
        for stream in std::iter::once(&client).chain(&far) {
            // Without lingering, closing sends RST. It fails on a socket that is gone, which is as good.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn relay(
    client: &mut TcpStream,
    far: &mut Option<TcpStream>,
    server: u16,
    switches: watch::Receiver<Switches>,
) -> io::Result<()> {
    let far = far.insert(TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?);
    // Whoever put a piece on the wire has decided when; to collect more of them would be a delay of the proxy's own.
    client.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = far.split();
    tokio::try_join!(
        pump(from_client, to_server, Way::Request, switches.clone()),
        pump(from_server, to_client, Way::Answer, switches),
    )?;
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut switches: watch::Receiver<Switches>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        if let Some(record) = &switches.borrow().record {
            record.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
        }
        let passes = |switches: &Switches| match switches.weather {
            Weather::Clear | Weather::Slow(_) => true,
            Weather::Silent => false,
            Weather::AnswersSilent => way == Way::Request,
        };
        let weather = switches.wait_for(passes).await.map_err(|_| io::ErrorKind::ConnectionReset)?.weather;
        if let Weather::Slow(delay) = weather {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;

    /// Far longer than anything here takes that happens at all.
    const EVENTUALLY: Duration = Duration::from_secs(10);

    /// Long enough to see that something does not come; it can only be too kind.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A server that sends back what it gets, with its own letter in front, and a wire to it.
    async fn echo(letter: u8) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut byte = [0];
                    while let Ok(1) = stream.read(&mut byte).await {
                        stream.write_all(&[letter, byte[0]]).await.unwrap();
                    }
                });
            }
        });
        port
    }

    async fn wire() -> (Proxy, TcpStream) {
        let proxy = Proxy::start(&Ports::default(), echo(b'a').await).await.unwrap();
        let client = connect(&proxy).await;
        (proxy, client)
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
    }

    async fn answer(client: &mut TcpStream) -> io::Result<[u8; 2]> {
        let mut answer = [0; 2];
        timeout(EVENTUALLY, client.read_exact(&mut answer)).await.expect("an answer or an end")?;
        Ok(answer)
    }

    async fn hears_nothing(client: &mut TcpStream) -> bool {
        timeout(A_WHILE, client.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn a_clear_wire_carries_both_ways_and_the_end_too() {
        let (_proxy, mut client) = wire().await;
        client.write_all(b"1").await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap(), *b"a1");
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reset_wire_ends_every_connection_and_takes_new_ones() {
        let (proxy, mut client) = wire().await;
        client.write_all(b"1").await.unwrap();
        answer(&mut client).await.unwrap();
        proxy.reset();
        assert_eq!(answer(&mut client).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut again = connect(&proxy).await;
        again.write_all(b"2").await.unwrap();
        assert_eq!(answer(&mut again).await.unwrap(), *b"a2");
    }

    #[tokio::test]
    async fn what_is_sent_over_a_silent_wire_arrives_when_it_clears_up() {
        for weather in [Weather::Silent, Weather::AnswersSilent] {
            let (proxy, mut client) = wire().await;
            proxy.set_weather(weather);
            client.write_all(b"1").await.unwrap();
            assert!(hears_nothing(&mut client).await, "{weather:?}");
            proxy.set_weather(Weather::Clear);
            assert_eq!(answer(&mut client).await.unwrap(), *b"a1", "{weather:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_wire_keeps_the_end_of_a_connection_to_itself() {
        let (proxy, mut client) = wire().await;
        client.write_all(b"1").await.unwrap();
        answer(&mut client).await.unwrap();
        proxy.set_weather(Weather::Silent);
        client.shutdown().await.unwrap();
        assert!(hears_nothing(&mut client).await);
        proxy.set_weather(Weather::Clear);
        let end = timeout(EVENTUALLY, client.read(&mut [0])).await.expect("the end");
        assert_eq!(end.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_slow_wire_is_late_in_both_directions() {
        let (proxy, mut client) = wire().await;
        let delay = Duration::from_millis(50);
        proxy.set_weather(Weather::Slow(delay));
        let sent = Instant::now();
        client.write_all(b"1").await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap(), *b"a1");
        assert!(sent.elapsed() >= delay * 2);
    }

    #[tokio::test]
    async fn new_connections_lead_to_the_servers_in_turn_and_open_ones_stay() {
        let (proxy, mut first) = wire().await;
        first.write_all(b"0").await.unwrap();
        answer(&mut first).await.unwrap();
        let (a, b) = (echo(b'A').await, echo(b'b').await);
        proxy.lead_to(&[a, b]);
        let mut letters = Vec::new();
        for _ in 0..4 {
            let mut client = connect(&proxy).await;
            client.write_all(b"1").await.unwrap();
            letters.push(answer(&mut client).await.unwrap()[0]);
        }
        letters.sort_unstable();
        assert_eq!(letters, b"AAbb");
        first.write_all(b"1").await.unwrap();
        assert_eq!(answer(&mut first).await.unwrap(), *b"a1");
    }

    #[tokio::test]
    async fn a_connection_to_a_dead_server_is_reset() {
        let dead = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let proxy = Proxy::start(&Ports::default(), dead).await.unwrap();
        let mut client = connect(&proxy).await;
        assert!(answer(&mut client).await.is_err());
    }

    #[tokio::test]
    async fn with_the_last_handle_the_wire_and_its_connections_are_gone() {
        let (proxy, mut client) = wire().await;
        client.write_all(b"1").await.unwrap();
        answer(&mut client).await.unwrap();
        drop(proxy);
        assert!(answer(&mut client).await.is_err());
    }
}

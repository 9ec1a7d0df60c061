//! The other side in tests of the load test itself: answers at once, decides nothing, keeps nothing.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX - 1);

#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub line: &'a str,
    pub idempotency_key: &'a str,
    pub body: &'a [u8],
}

#[derive(Debug)]
pub struct Responder {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Responder {
    /// On a free port of this machine. `answer` writes the whole answer to each request; when it writes nothing, there is none.
    pub fn start(answer: impl FnMut(Seen<'_>, &mut Vec<u8>) + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("responder".to_owned())
            .spawn(move || serve(listener, answer, &stopped))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

pub fn answer_as_a_gateway(seen: Seen<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(512);
    if seen.line.starts_with("POST /v1/users") {
        body.extend_from_slice(seen.body);
    } else if seen.line.starts_with("POST /v1/batch") {
        write_results(&seen, &mut body);
    } else if seen.line.starts_with("POST") {
        write_transaction(&seen, &mut body);
    } else if seen.line.contains("/balance") {
        let user = seen.line.split('/').nth(3).unwrap_or("1");
        body.extend_from_slice(format!("{{\"user_id\":{user},\"balances\":[]}}").as_bytes());
    } else {
        body.extend_from_slice(b"{\"data\":[],\"next_cursor\":null}");
    }
    write_answer(out, "200 OK", "", &body);
}

pub fn write_answer(out: &mut Vec<u8>, status: &str, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: 0199a1b2c3d4\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// The answer to a write that was booked, made of the request alone: a repeat gets the same.
pub fn write_transaction(seen: &Seen<'_>, body: &mut Vec<u8>) {
    #[derive(Default, serde::Deserialize)]
    struct Posted<'a> {
        user_id: Option<i64>,
        from_user_id: Option<i64>,
        to_user_id: Option<i64>,
        amount: Option<&'a str>,
        currency: Option<&'a str>,
        transaction_id: Option<&'a str>,
        hold_id: Option<&'a str>,
    }
    let posted: Posted<'_> = serde_json::from_slice(seen.body).unwrap_or_default();
    let path = seen.line.split(' ').nth(1).unwrap_or_default();
    let mut parts = path.rsplit('/');
    let (word, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // A batch names the hold in the body, its own route in the path.
    let hold = posted.hold_id.unwrap_or(before);
    let (user, amount) = (posted.user_id.unwrap_or(1), posted.amount.unwrap_or("0.01"));
    let currency = posted.currency.unwrap_or("USD");
    let key = seen.idempotency_key;
    let step = match word {
        "hold" | "holds" => Some((key, "open")),
        "void" => Some((hold, "voided")),
        _ => None,
    };
    let text = if let Some((from, to)) = posted.from_user_id.zip(posted.to_user_id) {
        format!(
            "{{\"transfer\":{{\"id\":\"{key}\",\"from_user_id\":{from},\"to_user_id\":{to},\"status\":\"completed\",\"amount\":\"{amount}\",\
             \"currency\":\"{currency}\",\"idempotency_key\":\"{key}\",\"created_at\":\"2026-11-22T12:00:00.123Z\",\
             \"completed_at\":\"2026-11-22T12:00:00.131Z\"}},\"new_balance\":\"950.00\"}}"
        )
    } else if let Some((id, status)) = step {
        format!(
            "{{\"hold\":{{\"id\":\"{id}\",\"user_id\":{user},\"status\":\"{status}\",\"amount\":\"{amount}\",\"captured\":\"0.00\",\
             \"currency\":\"{currency}\",\"expires_at\":\"2026-11-29T12:00:00.123Z\",\"idempotency_key\":\"{key}\",\
             \"created_at\":\"2026-11-22T12:00:00.123Z\"}},\"available\":\"950.00\"}}"
        )
    } else {
        let kind = if word == "capture" { "charge" } else { word };
        let of = match (posted.transaction_id, word) {
            (Some(charge), _) => format!("\"charge_id\":\"{charge}\","),
            (None, "capture") => format!("\"hold_id\":\"{hold}\","),
            (None, _) => String::new(),
        };
        format!(
            "{{\"transaction\":{{\"id\":\"{key}\",\"user_id\":{user},\"kind\":\"{kind}\",\"status\":\"completed\",\"amount\":\"{amount}\",\
             \"currency\":\"{currency}\",\"balance_after\":\"950.00\",{of}\"idempotency_key\":\"{key}\",\
             \"created_at\":\"2026-11-22T12:00:00.123Z\"}},\"new_balance\":\"950.00\"}}"
        )
    };
    body.extend_from_slice(text.as_bytes());
}

/// The answer to a batch: each operation as if it had been sent alone.
pub fn write_results(seen: &Seen<'_>, body: &mut Vec<u8>) {
    #[derive(serde::Deserialize)]
    struct Posted<'a> {
        #[serde(borrow)]
        operations: Vec<Operation<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Operation<'a> {
        #[serde(rename = "operation")]
        word: &'a str,
        idempotency_key: &'a str,
        #[serde(borrow)]
        body: &'a serde_json::value::RawValue,
    }
    let posted: Posted<'_> = serde_json::from_slice(seen.body).unwrap_or(Posted { operations: Vec::new() });
    body.extend_from_slice(b"{\"results\":[");
    for (position, Operation { word, idempotency_key, body: of }) in posted.operations.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        let head = format!(
            "{{\"status\":200,\"replayed\":false,\"idempotency_key\":\"{idempotency_key}\",\"body\":"
        );
        body.extend_from_slice(head.as_bytes());
        let line = format!("POST /v1/{word} HTTP/1.1");
        write_transaction(&Seen { line: &line, idempotency_key, body: of.get().as_bytes() }, body);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

fn serve(
    mut listener: TcpListener,
    mut answer: impl FnMut(Seen<'_>, &mut Vec<u8>),
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = Events::with_capacity(1_024);
    let (mut chunk, mut output) = (vec![0; 64 * 1024], Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(Duration::from_millis(20))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let place = clients.iter().position(Option::is_none).unwrap_or(clients.len());
                    poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
                    stream.set_nodelay(true)?;
                    let client = Some(Client { stream, input: Vec::new() });
                    if place < clients.len() { clients[place] = client } else { clients.push(client) }
                }
                continue;
            }
            let Token(place) = event.token();
            let Some(Some(client)) = clients.get_mut(place) else { continue };
            if exchange(client, &mut chunk, &mut output, &mut answer).is_err() {
                clients[place] = None;
            }
        }
    }
    Ok(())
}

fn exchange(
    client: &mut Client,
    chunk: &mut [u8],
    output: &mut Vec<u8>,
    answer: &mut impl FnMut(Seen<'_>, &mut Vec<u8>),
) -> io::Result<()> {
    loop {
        let count = match client.stream.read(chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        client.input.extend_from_slice(&chunk[..count]);
        output.clear();
        while let Some(length) = answer_first(&client.input, output, answer) {
            client.input.drain(..length);
        }
        // Answers are far smaller than a socket's buffer: what does not fit at once is a client that does not read.
        if client.stream.write(output)? < output.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if count < chunk.len() {
            return Ok(());
        }
    }
}

fn answer_first(
    input: &[u8],
    output: &mut Vec<u8>,
    answer: &mut impl FnMut(Seen<'_>, &mut Vec<u8>),
) -> Option<usize> {
    let end = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&input[..end]).ok()?;
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default()
    };
    let length: usize = header("content-length: ").parse().unwrap_or(0);
    let body = input.get(end..end + length)?;
    let line = head.lines().next()?;
    answer(Seen { line, idempotency_key: header("idempotency-key: "), body }, output);
    Some(end + length)
}

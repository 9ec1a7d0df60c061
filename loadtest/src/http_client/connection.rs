//! One kept-alive connection that never waits: it does what it can now and says how far it got.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, StreamOwned};

use super::response::{self, Head, Malformed};
use super::target::{Target, Tls};

/// An answer to a charge fits several times; a page of history makes it grow once.
const INPUT_START: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nobody took the connection. The request was not sent.
    ConnectFailed,
    /// The connection ended first. Whether the request was carried out is unknown.
    ConnectionClosed,
    /// The outcome is unknown.
    NoAnswer,
    BadResponse,
}

impl Lost {
    pub fn code(self) -> &'static str {
        match self {
            Self::ConnectFailed => "client:connect-failed",
            Self::ConnectionClosed => "client:connection-closed",
            Self::NoAnswer => "client:no-answer",
            Self::BadResponse => "client:bad-response",
        }
    }
}

#[derive(Debug)]
pub enum Progress {
    Pending,
    Connected,
    Answered(Head),
    /// It is gone, with the request if there was one; connect again.
    Gone(Lost, Option<Malformed>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Connecting,
    Idle,
    Busy,
}

#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    tls: Option<Tls>,
    stream: Option<Wire>,
    state: State,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
}

/// The handshake is part of the first write: the library does it between the pieces that the socket takes and gives.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
}

impl Connection {
    pub fn new(target: &Target) -> Self {
        let (address, tls) = (target.address(), target.tls().cloned());
        let input = vec![0; INPUT_START];
        Self {
            address,
            tls,
            stream: None,
            state: State::Closed,
            output: Vec::new(),
            written: 0,
            input,
            filled: 0,
        }
    }

    pub fn connect(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.close();
        let mut stream = TcpStream::connect(self.address)?;
        // Edge-triggered: registered once, for good, and no system call for it ever after.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(match &self.tls {
            None => Wire::Plain(stream),
            Some(tls) => Wire::Tls(Box::new(StreamOwned::new(tls.begin()?, stream))),
        });
        self.state = State::Connecting;
        Ok(())
    }

    pub fn close(&mut self) {
        self.stream = None;
        self.state = State::Closed;
        self.filled = 0;
    }

    pub fn is_busy(&self) -> bool {
        self.state == State::Busy
    }

    /// Where the next request is to be written, empty; then [`send`](Self::send).
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.output.clear();
        &mut self.output
    }

    pub fn send(&mut self) -> Result<(), Lost> {
        debug_assert_eq!(self.state, State::Idle, "one request at a time");
        self.state = State::Busy;
        self.written = 0;
        self.filled = 0;
        self.flush().inspect_err(|_| self.close())
    }

    pub fn advance(&mut self, has_ended: bool) -> Progress {
        match self.state {
            State::Closed => Progress::Pending,
            State::Connecting => self.finish_connect(),
            State::Idle => self.notice_end(),
            State::Busy => match self.exchange() {
                Ok(Some(head)) => {
                    if head.closes || has_ended {
                        // The answer counts; the connection is made anew by whoever sees it closed.
                        self.stream = None;
                        self.state = State::Closed;
                    } else {
                        self.state = State::Idle;
                    }
                    Progress::Answered(head)
                }
                Ok(None) => Progress::Pending,
                Err((lost, malformed)) => {
                    self.close();
                    Progress::Gone(lost, malformed)
                }
            },
        }
    }

    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub fn body(&self, head: &Head) -> &[u8] {
        &self.input[head.body.clone()]
    }

    pub fn session(&self, head: &Head) -> Option<&[u8]> {
        head.session.clone().map(|place| &self.input[place])
    }

    fn finish_connect(&mut self) -> Progress {
        let Some(stream) = self.stream.as_ref().map(Wire::socket) else { return Progress::Pending };
        let failure = stream.take_error().ok().flatten();
        if failure.is_none() {
            match stream.peer_addr() {
                Ok(_) => {
                    // Without it the kernel may hold the second half of a request back for 40 ms.
                    if stream.set_nodelay(true).is_ok() {
                        self.state = State::Idle;
                        return Progress::Connected;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Progress::Pending,
                Err(_) => {}
            }
        }
        self.close();
        Progress::Gone(Lost::ConnectFailed, None)
    }

    fn notice_end(&mut self) -> Progress {
        let Some(stream) = &mut self.stream else { return Progress::Pending };
        match stream.read(&mut self.input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Pending,
            Ok(0) | Err(_) => {
                self.close();
                Progress::Gone(Lost::ConnectionClosed, None)
            }
            Ok(_) => {
                self.close();
                Progress::Gone(Lost::BadResponse, Some(Malformed::TooLong))
            }
        }
    }

    fn exchange(&mut self) -> Result<Option<Head>, (Lost, Option<Malformed>)> {
        if self.written < self.output.len() {
            self.flush().map_err(|lost| (lost, None))?;
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            if self.filled == self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
            match stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err((Lost::ConnectionClosed, None)),
                Ok(count) => {
                    self.filled += count;
                    match response::read(&self.input[..self.filled]) {
                        Ok(response::Read::Complete(head)) => return Ok(Some(head)),
                        // Read on until the kernel has no more: only then it tells of more to come.
                        Ok(response::Read::Partial) => {}
                        Err(malformed) => return Err((Lost::BadResponse, Some(malformed))),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err((Lost::ConnectionClosed, None)),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Lost> {
        let Some(stream) = &mut self.stream else { return Err(Lost::ConnectionClosed) };
        while self.written < self.output.len() {
            match stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::ConnectionClosed),
            }
        }
        Ok(())
    }
}

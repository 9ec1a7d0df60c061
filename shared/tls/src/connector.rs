//! Connections to nodes and gateways, over TLS where the URL says `https`.
//!
//! In TLS 1.3 a client is done before the server has looked at its certificate. A request that is sent then may have
//! arrived or not. So a caller of nodes waits for the server's ticket, which comes only after that look: a refusal ends
//! the connect, and nothing was sent. A node that sends no tickets cannot be called. Gateways may be behind a balancer
//! that sends none, so their clients do not wait: see [`refused_certificate`](crate::refused_certificate).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::client::Caller;
use crate::fault::Fault;
use crate::stream::Stream;
use crate::trouble::describe;

/// Connects to nodes or gateways. All clones take a change.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector,
    patience: Duration,
    waits_for_ticket: bool,
    tls: Arc<RwLock<Option<Arc<ClientConfig>>>>,
}

impl Connector {
    /// `patience` is for the TCP connection, and again for the handshake. Without a `caller`, `https` is refused.
    ///
    /// # Errors
    /// [`Fault`] when the library refuses it.
    pub fn to_nodes(caller: Option<&Caller>, patience: Duration) -> Result<Self, Fault> {
        Self::new(caller, patience, true)
    }

    /// The same for gateways, and for a probe of whatever it is.
    ///
    /// # Errors
    /// [`Fault`] when the library refuses it.
    pub fn to_gateways(caller: Option<&Caller>, patience: Duration) -> Result<Self, Fault> {
        Self::new(caller, patience, false)
    }

    fn new(caller: Option<&Caller>, patience: Duration, waits_for_ticket: bool) -> Result<Self, Fault> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(patience));
        tcp.enforce_http(false);
        let tls = Arc::new(RwLock::new(caller.map(Caller::client).transpose()?));
        Ok(Self { tcp, patience, waits_for_ticket, tls })
    }

    /// From the next connection on.
    ///
    /// # Errors
    /// [`Fault`] when the library refuses it; then everything is as before.
    pub fn replace(&self, caller: Option<&Caller>) -> Result<(), Fault> {
        let changed = caller.map(Caller::client).transpose()?;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }
}

impl Service<Uri> for Connector {
    type Response = CallStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<CallStream>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(context).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        // An IPv6 address stands in brackets in a URL, and not in a certificate.
        let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (connecting, patience, waits) = (self.tcp.call(uri), self.patience, self.waits_for_ticket);
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?.into_inner();
            if !is_tls {
                return Ok(CallStream(TokioIo::new(Stream::Plain(stream))));
            }
            let tls = tls.ok_or_else(|| io::Error::other("https needs [tls] ca_file in cluster.toml"))?;
            let shaken = timeout(patience, shake_hands(tls, name, stream, waits)).await;
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake was not done in time");
            let stream = shaken.map_err(late)?.map_err(|error| io::Error::other(describe(&error)))?;
            Ok(CallStream(TokioIo::new(Stream::Tls(Box::new(stream.into())))))
        })
    }
}

async fn shake_hands(
    tls: Arc<ClientConfig>,
    name: String,
    stream: TcpStream,
    waits_for_ticket: bool,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
    if waits_for_ticket && stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        wait_for_ticket(&mut stream).await?;
    }
    Ok(stream)
}

async fn wait_for_ticket(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    poll_fn(|context| {
        if stream.get_ref().1.tls13_tickets_received() > 0 {
            return Poll::Ready(Ok(()));
        }
        let mut byte = [0];
        match Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                Poll::Ready(Err(io::Error::other("the server ended the connection or spoke first")))
            }
        }
    })
    .await
}

/// A connection to a node or a gateway.
#[derive(Debug)]
pub struct CallStream(TokioIo<Stream>);

impl Connection for CallStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for CallStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for CallStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

//! Connections from gateways, nodes and operators, over TLS where `node.toml` has `[tls]`.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use picopay_shared::front_tls::FrontTls;
use picopay_tls::{Fault, Front, Stream, describe};
use tokio::net::TcpStream;

/// Callers are near, and done within milliseconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

const SAY_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Acceptor {
    front: Option<Arc<Front>>,
    said: Arc<Mutex<Option<(Instant, IpAddr, String)>>>,
}

impl Acceptor {
    /// # Errors
    /// [`Fault`], when the certificates cannot be used.
    pub fn new(tls: Option<&FrontTls>) -> Result<Self, Fault> {
        let front = tls.map(|tls| Front::new(&tls.identity, &tls.required())).transpose()?;
        Ok(Self { front: front.map(Arc::new), said: Arc::default() })
    }

    /// Uses changed certificates from the next handshake on.
    ///
    /// # Errors
    /// Why it does not.
    pub fn take_over(&self, changed: Option<&FrontTls>) -> Result<(), String> {
        match (&self.front, changed) {
            (None, None) => Ok(()),
            (Some(front), Some(tls)) => {
                front.replace(&tls.identity, &tls.required()).map_err(|fault| fault.to_string())
            }
            _ => Err("[tls] came or went: that is taken at the next start only".to_owned()),
        }
    }
}

/// The same of the same machine is said again after a while: gateways try several times a second.
fn is_news(said: &Mutex<Option<(Instant, IpAddr, String)>>, peer: IpAddr, reason: &str) -> bool {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = said
        .as_ref()
        .is_some_and(|(at, of, what)| at.elapsed() < SAY_AGAIN && *of == peer && what.as_str() == reason);
    if !is_known {
        *said = Some((Instant::now(), peer, reason.to_owned()));
    }
    !is_known
}

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Stream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Stream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (front, said) = (self.front.clone(), Arc::clone(&self.said));
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let Some(front) = front else { return Ok((Stream::Plain(stream), service)) };
            let peer = stream.peer_addr()?;
            match front.shake_hands(stream, HANDSHAKE_TIMEOUT).await {
                Ok(shaken) => Ok((shaken.stream, service)),
                Err(error) => {
                    let reason = describe(&error);
                    if is_news(&said, peer.ip(), &reason) {
                        tracing::warn!(%peer, reason, "no TLS connection with a caller");
                    }
                    Err(error)
                }
            }
        })
    }
}

//! The way from an accepted connection to one that speaks HTTP: nothing, or a TLS handshake.
//!
//! Each handshake is in its connection's own task, with a time limit. How many are under way is bounded too, and with one
//! too many the oldest goes: clients who say nothing crowd each other out, and nobody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use picopay_shared::front_tls::FrontTls;
use picopay_tls::{Fault, Front, Handshake, Stream, describe};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::metrics::Open;
use crate::state::GatewayState;

#[derive(Debug, Clone)]
pub struct Door {
    pub(super) gateway: Arc<GatewayState>,
    /// `None` for plain HTTP.
    front: Option<Arc<Front>>,
    under_way: Arc<Mutex<UnderWay>>,
}

/// Handshakes in the order in which they began, each with what ends it.
#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Door {
    /// # Errors
    /// [`Fault`], when the certificates cannot be used.
    pub fn new(gateway: &Arc<GatewayState>) -> Result<Self, Fault> {
        let front = gateway.config.tls.as_ref().map(|tls| Front::new(&tls.identity, &tls.optional()));
        let front = front.transpose()?.map(Arc::new);
        Ok(Self { gateway: Arc::clone(gateway), front, under_way: Arc::default() })
    }

    /// Uses changed certificates from the next handshake on.
    ///
    /// # Errors
    /// Why it does not.
    pub fn take_over(&self, changed: Option<&FrontTls>) -> Result<(), String> {
        match (&self.front, changed) {
            (None, None) => Ok(()),
            (Some(front), Some(tls)) => {
                front.replace(&tls.identity, &tls.optional()).map_err(|fault| fault.to_string())
            }
            (None, Some(_)) => Err("[tls] is new: it is taken at the next start only".to_owned()),
            (Some(_), None) => Err("[tls] is gone: that is taken at the next start only".to_owned()),
        }
    }

    /// The connection, and the subject of the certificate that its client showed, if it did.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        stop: &CancellationToken,
    ) -> Result<(Stream, Option<Arc<str>>), String> {
        let Some(front) = &self.front else { return Ok((Stream::Plain(stream), None)) };
        let _open = Open::count(&self.gateway.metrics.handshakes.under_way);
        let live = Arc::clone(&self.gateway.live());
        let (turn, crowded_out) = self.begin(live.server.handshakes_max);
        let patience = live.server.handshake_timeout.min(live.server.header_read_timeout);
        let shaken = tokio::select! {
            shaken = front.shake_hands(stream, patience) => shaken.map_err(|error| describe(&error)),
            _ = crowded_out => Err("too many handshakes at once, and this was the oldest".to_owned()),
            () = stop.cancelled() => Err("the gateway is stopping".to_owned()),
        };
        self.lock().by_age.remove(&turn);
        let Handshake { stream, client_subject } = shaken?;
        Ok((stream, client_subject))
    }

    fn begin(&self, most: usize) -> (u64, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let mut under_way = self.lock();
        under_way.begun += 1;
        let turn = under_way.begun;
        under_way.by_age.insert(turn, end);
        if under_way.by_age.len() > most {
            // To drop it tells its connection.
            under_way.by_age.pop_first();
        }
        (turn, ended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

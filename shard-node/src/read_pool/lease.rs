//! A pooled connection in use.

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::{Client, Object};
use picopay_postgres::Tls;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a server may take to accept a cancellation.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// A connection of a pool. A user with all answers gives it back. A dropped one was given up in the middle of
/// a statement, for which the next user would wait. So it is closed, and the statement cancelled at the
/// server.
pub struct Lease {
    client: Option<Client>,
    tls: Tls,
}

impl Lease {
    pub fn of(client: Client, tls: &Tls) -> Self {
        Self { client: Some(client), tls: tls.clone() }
    }

    pub fn give_back(mut self) {
        self.client = None;
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is there until it is given back")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let (cancel, tls) = (client.cancel_token(), self.tls.clone());
        // Out of the pool, which may open another one.
        drop(Object::take(client));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // A server that does not hear it has ended the statement, or does so by its own limit.
                let _ = timeout(CANCEL_WAIT, tls.cancel(&cancel)).await;
            });
        }
    }
}

//! A pooled connection in use.

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::{Client, Object};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

/// How long a server may take to accept a cancellation.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// A connection of a pool. A user with all answers gives it back. A dropped one was given up in the middle of
/// a statement, for which the next user would wait. So it is closed, and the statement cancelled at the
/// server.
pub struct Lease(Option<Client>);

impl Lease {
    pub fn of(client: Client) -> Self {
        Self(Some(client))
    }

    pub fn give_back(mut self) {
        self.0 = None;
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is given back")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.0.take() else { return };
        let cancel = client.cancel_token();
        // Out of the pool, which may open another one.
        drop(Object::take(client));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // A server that does not hear it has ended the statement, or does so by its own limit.
                let _ = timeout(CANCEL_WAIT, cancel.cancel_query(NoTls)).await;
            });
        }
    }
}

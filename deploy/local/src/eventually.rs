//! How a test waits for something: it asks repeatedly, and fails when that takes too long.

use std::time::{Duration, Instant};

/// Longer than a breaker's longest pause (10 s) and the start of a server after it, on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(40);

/// Next to no load, and no test notices it.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What a question may be answered with: yes or no, what was looked for, or why that is not there yet.
pub trait Answered {
    type Found;

    fn found(self) -> Result<Self::Found, String>;
}

impl Answered for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Answered for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T> Answered for Result<T, String> {
    type Found = T;

    fn found(self) -> Self {
        self
    }
}

/// Asks until the answer is yes, or is something.
///
/// # Panics
/// When it is neither for too long; the message names `what`, and the last answer if it gave a reason.
pub async fn eventually<A: Answered, F: Future<Output = A>>(what: &str, ask: impl FnMut() -> F) -> A::Found {
    eventually_within(WAIT_MAX, what, ask).await
}

/// The same with a limit of the test's own: one that is promised, or one for what takes longer than anything else.
///
/// # Panics
/// When the limit is over.
pub async fn eventually_within<A: Answered, F: Future<Output = A>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> A::Found {
    let deadline = Instant::now() + limit;
    loop {
        match ask().await.found() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {limit:?}: {last}"),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

//! How a test waits for something: it asks repeatedly, and fails when that takes too long.

use std::time::{Duration, Instant};

/// Longer than a breaker's longest pause (10 s) and the start of a server after it, on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(40);

/// Next to no load, and no test notices it.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What a question may be answered with: yes or no, or what was looked for.
pub trait Answered {
    type Found;

    fn found(self) -> Option<Self::Found>;
}

impl Answered for bool {
    type Found = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answered for Option<T> {
    type Found = T;

    fn found(self) -> Option<T> {
        self
    }
}

/// Asks until the answer is yes, or is something.
pub async fn eventually<A: Answered, F: Future<Output = A>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> A::Found {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = ask().await.found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", WAIT_MAX.as_secs());
        tokio::time::sleep(ASK_EVERY).await;
    }
}

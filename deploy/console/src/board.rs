//! What is known now, and who is told of changes: the latest of each kind, and a line to every page that is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, broadcast};

/// Pages that may be open at once. A browser opens six connections to one address; more than this is a mistake.
pub const PAGES_MAX: usize = 32;

/// A page that is this far behind is asleep. Its stream ends, and it begins anew when it wakes up.
const BEHIND_MAX: usize = 256;

/// One kind of news, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub kind: &'static str,
    pub json: Arc<str>,
}

#[derive(Debug)]
pub struct Board {
    latest: Mutex<BTreeMap<&'static str, Arc<str>>>,
    lines: broadcast::Sender<News>,
    opened: Notify,
}

impl Default for Board {
    fn default() -> Self {
        let (lines, _) = broadcast::channel(BEHIND_MAX);
        Self { latest: Mutex::default(), lines, opened: Notify::new() }
    }
}

impl Board {
    /// Keeps the latest of a kind. Pages are told when it is another than before.
    pub fn post(&self, kind: &'static str, latest: &impl Serialize) {
        let news = News { kind, json: to_json(latest) };
        let mut kept = self.lock();
        if kept.get(kind) != Some(&news.json) {
            kept.insert(kind, Arc::clone(&news.json));
            self.tell(news);
        }
    }

    /// Tells pages something of the moment, which is not kept.
    pub fn pass_on(&self, kind: &'static str, moment: &impl Serialize) {
        self.tell(News { kind, json: to_json(moment) });
    }

    /// Everything that is known, and a line on which what changes after it comes. `None` when too many pages are open.
    pub fn open(&self) -> Option<(Vec<News>, broadcast::Receiver<News>)> {
        // Under the lock, so that nothing is told twice or lost in between.
        let kept = self.lock();
        if self.lines.receiver_count() >= PAGES_MAX {
            return None;
        }
        let line = self.lines.subscribe();
        self.opened.notify_waiters();
        Some((kept.iter().map(|(&kind, json)| News { kind, json: Arc::clone(json) }).collect(), line))
    }

    /// Waits until a page is open: databases are asked nothing that nobody looks at.
    pub async fn is_looked_at(&self) {
        loop {
            let opened = self.opened.notified();
            if self.lines.receiver_count() > 0 {
                return;
            }
            opened.await;
        }
    }

    fn tell(&self, news: News) {
        // It fails when no page is open.
        let _ = self.lines.send(news);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<str>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_json(news: &impl Serialize) -> Arc<str> {
    serde_json::to_string(news).expect("news are plain structs with text keys").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gets_what_is_known_and_then_only_what_changes() {
        let board = Board::default();
        board.post("slots", &1);
        board.pass_on("traffic", &"nobody looks");
        let (known, mut line) = board.open().unwrap();
        assert_eq!(known, [News { kind: "slots", json: "1".into() }]);
        board.post("slots", &1);
        board.post("slots", &2);
        board.pass_on("traffic", &3);
        let told: Vec<String> = std::iter::from_fn(|| line.try_recv().ok())
            .map(|news| format!("{} {}", news.kind, news.json))
            .collect();
        assert_eq!(told, ["slots 2", "traffic 3"]);
    }

    #[test]
    fn no_more_pages_are_open_than_there_is_room_for() {
        let board = Board::default();
        let open: Vec<_> = (0..PAGES_MAX).map(|_| board.open().unwrap()).collect();
        assert!(board.open().is_none());
        drop(open);
        assert!(board.open().is_some());
    }
}

//! Which of a shard's servers is its primary.
//!
//! All servers in the connection string are asked at the same time, each on a new connection, because a name
//! may lead elsewhere now. The one that takes writes on the highest timeline is the primary. There is one
//! exception: a server that was promoted without what this shard has acknowledged is not taken while the
//! previous one still has its standby.

use std::sync::Arc;

use futures_util::future;
use picopay_postgres::{Answer, Connection, Standing, ask_all};
use tokio::time::timeout;

use crate::db::Primary;
use crate::floor::{self, Acknowledged};
use crate::identity::{self, Unfit};
use crate::server_id::ServerId;
use crate::standby;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Writes {
        server: ServerId,
        has_floor: bool,
        has_standby: bool,
    },
    /// It said that it takes none, or nobody listens there.
    WritesNot,
    /// It takes writes, and its database is another shard's or another cluster's.
    IsAnothers(String),
    Unknown(String),
}

impl Said {
    pub fn wrong_database(&self) -> Option<String> {
        match self {
            Self::IsAnothers(reason) => Some(reason.clone()),
            Self::Writes { .. } | Self::WritesNot | Self::Unknown(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Use(ServerId),
    /// Two servers take writes on one timeline: the other one lacks whatever is written to one.
    TwoWriters {
        timeline: u32,
    },
    None(String),
}

pub fn choose(said: &[Said]) -> Choice {
    let mut writers: Vec<(ServerId, bool, bool)> = Vec::new();
    for one in said {
        if let Said::Writes { server, has_floor, has_standby } = one
            // Not two names of one server.
            && writers.iter().all(|(other, ..)| other.started_us != server.started_us)
        {
            writers.push((*server, *has_floor, *has_standby));
        }
    }
    writers.sort_by_key(|(server, ..)| std::cmp::Reverse(server.timeline));
    let Some((highest, ..)) = writers.first().copied() else { return Choice::None(reasons(said)) };
    if writers.iter().filter(|(server, ..)| server.timeline == highest.timeline).count() > 1 {
        return Choice::TwoWriters { timeline: highest.timeline };
    }
    let has_all = |(_, has_floor, has_standby): &&(ServerId, bool, bool)| *has_floor && *has_standby;
    match writers.first().filter(|(_, has_floor, _)| *has_floor) {
        Some((server, ..)) => Choice::Use(*server),
        // None has all of it: take the highest one, and the gate stays shut.
        None => Choice::Use(writers.iter().find(has_all).map_or(highest, |(server, ..)| *server)),
    }
}

/// Whether every other server says that it takes no writes. Silence does not count.
pub fn are_others_quiet(said: &[Said], in_use: ServerId) -> bool {
    said.iter().enumerate().all(|(position, one)| match one {
        Said::Writes { server, .. } => server.started_us == in_use.started_us,
        Said::WritesNot | Said::IsAnothers(_) => true,
        Said::Unknown(_) => position == in_use.position,
    })
}

fn reasons(said: &[Said]) -> String {
    let reasons: Vec<&str> = said
        .iter()
        .map(|one| match one {
            Said::Unknown(reason) | Said::IsAnothers(reason) => reason.as_str(),
            Said::Writes { .. } | Said::WritesNot => "no server that takes writes",
        })
        .collect();
    reasons.join("; ")
}

/// Asks all servers. `floor` is what one must have.
pub async fn look_around(primary: &Primary, floor: Arc<Vec<Acknowledged>>) -> Vec<Said> {
    let patience = primary.patience();
    let answers = ask_all(&primary.candidates(), patience).await;
    let said = answers.into_iter().enumerate().map(|(position, answer)| {
        let floor = Arc::clone(&floor);
        async move {
            match answer {
                Answer::Stands(connection, standing) => {
                    look_at(position, &connection, standing, primary, &floor).await
                }
                Answer::Refused(_) => Said::WritesNot,
                Answer::Unknown(reason) => Said::Unknown(reason),
            }
        }
    });
    future::join_all(said).await
}

async fn look_at(
    position: usize,
    connection: &Connection,
    standing: Standing,
    primary: &Primary,
    floor: &[Acknowledged],
) -> Said {
    let patience = primary.patience();
    let Some(timeline) = standing.writes_on() else { return Said::WritesNot };
    let server = ServerId { position, timeline, started_us: standing.started_us };
    let looked = async {
        let missing = match identity::check(&connection.client, primary.expected()).await {
            Ok(found) => floor::find_missing(&connection.client, floor, found.generation).await?,
            // The gate reports what is wrong with a database that is ours.
            Err(Unfit::NoCluster | Unfit::Schema(_)) => None,
            Err(Unfit::WrongDatabase(reason)) => return Ok(Said::IsAnothers(reason)),
            Err(Unfit::Lost(error)) => return Err(error),
        };
        let standby = standby::read(&connection.client).await?;
        Ok::<_, tokio_postgres::Error>(Said::Writes {
            server,
            has_floor: missing.is_none(),
            has_standby: standby.follows,
        })
    };
    match timeout(patience, looked).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => Said::Unknown(picopay_postgres::describe(&error)),
        Err(_) => Said::Unknown(format!("no answer within {patience:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(position: usize, timeline: u32) -> ServerId {
        ServerId { position, timeline, started_us: 1000 + i64::try_from(position).unwrap() }
    }

    fn writes(position: usize, timeline: u32, has_floor: bool, has_standby: bool) -> Said {
        Said::Writes { server: server(position, timeline), has_floor, has_standby }
    }

    fn silent() -> Said {
        Said::Unknown("no answer".to_owned())
    }

    #[test]
    fn the_highest_timeline_is_the_primary_whoever_answered_first() {
        for (said, expected) in [
            (vec![writes(0, 1, true, true), writes(1, 2, true, false)], server(1, 2)),
            (vec![writes(0, 3, true, false), writes(1, 2, true, true)], server(0, 3)),
            (vec![silent(), writes(1, 2, true, true)], server(1, 2)),
            (vec![Said::WritesNot, Said::WritesNot, writes(2, 7, true, true)], server(2, 7)),
            // Promoted without what was acknowledged, while the previous one still has its standby.
            (vec![writes(0, 1, true, true), writes(1, 2, false, true)], server(0, 1)),
            // The previous one has no standby any more, so it acknowledges nothing either.
            (vec![writes(0, 1, true, false), writes(1, 2, false, true)], server(1, 2)),
            (vec![writes(0, 1, false, true), writes(1, 2, false, true)], server(1, 2)),
            (vec![writes(0, 1, false, false)], server(0, 1)),
        ] {
            assert_eq!(choose(&said), Choice::Use(expected), "{said:?}");
        }
    }

    #[test]
    fn two_writers_on_the_highest_timeline_are_none_and_two_names_of_one_server_are_one() {
        let two = [writes(0, 2, true, true), writes(1, 2, true, true)];
        assert_eq!(choose(&two), Choice::TwoWriters { timeline: 2 });
        let below = [writes(0, 1, true, true), writes(1, 1, true, true), writes(2, 2, true, true)];
        assert_eq!(choose(&below), Choice::Use(server(2, 2)));
        let same = Said::Writes {
            server: ServerId { position: 1, ..server(0, 2) },
            has_floor: true,
            has_standby: true,
        };
        assert_eq!(choose(&[writes(0, 2, true, true), same]), Choice::Use(server(0, 2)));
        assert!(matches!(choose(&[silent(), Said::WritesNot]), Choice::None(_)));
    }

    #[test]
    fn silence_of_another_server_is_no_word_that_it_takes_no_writes() {
        let mine = writes(0, 2, true, true);
        for (others, expected) in [
            (vec![], true),
            (vec![Said::WritesNot], true),
            (vec![silent()], false),
            (vec![writes(1, 1, true, false)], false),
        ] {
            let said = [vec![mine.clone()], others].concat();
            assert_eq!(are_others_quiet(&said, server(0, 2)), expected, "{said:?}");
        }
    }
}

//! What kind of cluster a seed breaks: how many nodes serve a shard, and how unusual its servers are.
//!
//! A charge must not depend on a server's language or on settings of the services' role. Half of the seeds have servers
//! that speak German, and each setting below has an even chance. Whoever sets `default_transaction_read_only` means it.

use std::collections::BTreeMap;

use picopay_local::{ClusterSpec, programs};
use serde::Serialize;

use picopay_loadtest::random::Random;

/// Clients and faults draw from other streams.
const STREAM: u64 = u64::MAX;

/// Speaks another language wherever PostgreSQL's messages are translated.
const GERMAN: &str = "de_DE.UTF-8";

/// Settings that operators give a role. A session that relies on one must set it.
const ODD_SETTINGS: [(&str, &str); 16] = [
    // Hides the one warning that says that a commit is on one machine only.
    ("client_min_messages", "error"),
    ("synchronous_commit", "off"),
    ("default_transaction_isolation", "'repeatable read'"),
    ("search_path", "odd, public"),
    ("standard_conforming_strings", "off"),
    ("bytea_output", "escape"),
    ("DateStyle", "'German'"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "'Pacific/Kiritimati'"),
    ("extra_float_digits", "-15"),
    ("array_nulls", "off"),
    // Shorter than a flight of a batch may take.
    ("idle_in_transaction_session_timeout", "'20ms'"),
    ("lock_timeout", "0"),
    ("statement_timeout", "0"),
    ("plan_cache_mode", "force_custom_plan"),
    ("enable_nestloop", "off"),
];

/// Which servers a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Servers {
    /// As `initdb` makes them.
    Plain,
    /// In another language, and with settings for the services' role.
    Odd,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conditions {
    pub nodes_per_shard: usize,
    pub lc_messages: &'static str,
    pub german_skipped: bool,
    pub role_settings: BTreeMap<&'static str, &'static str>,
}

impl Conditions {
    pub fn of(seed: u64, nodes_per_shard: Option<usize>, servers: Option<Servers>) -> Self {
        let mut random = Random::new(seed, STREAM);
        let (has_two, is_odd) = (random.chance(0.5), random.chance(0.5));
        let drawn = ODD_SETTINGS.into_iter().filter(|_| random.chance(0.5)).collect();
        let is_odd = servers.map_or(is_odd, |servers| servers == Servers::Odd);
        let has_german = is_odd && programs::has_locale(GERMAN);
        Self {
            nodes_per_shard: nodes_per_shard.unwrap_or(if has_two { 2 } else { 1 }),
            lc_messages: if has_german { GERMAN } else { "C" },
            german_skipped: is_odd && !has_german,
            role_settings: if is_odd { drawn } else { BTreeMap::new() },
        }
    }

    pub fn apply(&self, spec: ClusterSpec) -> ClusterSpec {
        let spec = spec
            .with_nodes_per_shard(self.nodes_per_shard)
            .with_server_setting("lc_messages", self.lc_messages);
        if self.role_settings.is_empty() {
            return spec;
        }
        // The first place of an odd search path.
        let spec = spec.with_founding_sql("CREATE SCHEMA odd AUTHORIZATION picopay");
        self.role_settings.iter().fold(spec, |spec, (name, value)| spec.with_role_setting(name, value))
    }

    pub fn words(&self) -> String {
        let nodes = if self.nodes_per_shard == 1 { "one node a shard" } else { "two nodes a shard" };
        let language = if self.german_skipped {
            format!("lc_messages C (skipped: this machine has no {GERMAN}, see deploy/german.sh)")
        } else {
            format!("lc_messages {}", self.lc_messages)
        };
        if self.role_settings.is_empty() {
            return format!("{nodes}; {language}; the role's settings are plain");
        }
        let settings: Vec<String> =
            self.role_settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!("{nodes}; {language}; the role has {}", settings.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_conditions_and_each_is_that_of_about_half_of_the_seeds() {
        let all: Vec<_> = (0..200).map(|seed| Conditions::of(seed, None, None)).collect();
        assert_eq!(all[7], Conditions::of(7, None, None));
        let share = |is_one: &dyn Fn(&Conditions) -> bool| all.iter().filter(|one| is_one(one)).count();
        assert!((70..130).contains(&share(&|one| one.nodes_per_shard == 2)));
        assert!((70..130).contains(&share(&|one| !one.role_settings.is_empty())));
        for (name, _) in ODD_SETTINGS {
            assert!((25..75).contains(&share(&|one| one.role_settings.contains_key(name))), "{name}");
        }
    }

    #[test]
    fn whoever_wants_other_conditions_gets_them() {
        for seed in 0..20 {
            let plain = Conditions::of(seed, Some(1), Some(Servers::Plain));
            assert_eq!((plain.nodes_per_shard, plain.lc_messages), (1, "C"));
            assert!(plain.role_settings.is_empty() && !plain.german_skipped);
            let odd = Conditions::of(seed, Some(2), Some(Servers::Odd));
            assert_eq!(odd.nodes_per_shard, 2);
            assert_eq!(odd.german_skipped, odd.lc_messages == "C");
        }
    }
}

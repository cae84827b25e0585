//! Topics by their names: which of them a source reads, those that are named or those that match a pattern, and which names can be
//! written to at all.

use std::fmt;

use laminar_core::{Code, Result};
use rdkafka::consumer::BaseConsumer;
use regex::Regex;

use super::client::{self, Cluster, Events, REACH};
use super::producer::marker;
use super::source::options::OnDataLoss;

/// Kafka's own topics, and ours, begin like this.
const INTERNAL: &str = "__";

/// A pattern is tried on the names of all topics again and again; one this large is a mistake.
const PATTERN_SIZE: usize = 1 << 20;

#[derive(Clone)]
pub(super) enum Topics {
    /// Sorted, distinct, at least one.
    Named(Vec<String>),
    /// As written, and anchored: the whole name must match.
    Matching(String, Regex),
}

impl Topics {
    /// The error says what is wrong with the pattern.
    pub fn matching(pattern: &str) -> std::result::Result<Self, String> {
        let compile = |text: &str| regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
        // As written first: an anchor must not make sense of a stray bracket, and messages are about the writer's text.
        compile(pattern).map_err(|error| error.to_string())?;
        let anchored = compile(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())?;
        Ok(Self::Matching(pattern.to_string(), anchored))
    }

    /// Those that are named; none of a pattern.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Named(names) => names,
            Self::Matching(..) => &[],
        }
    }

    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == topic),
            Self::Matching(_, regex) => !topic.starts_with(INTERNAL) && regex.is_match(topic),
        }
    }

    /// Those that exist now, by name, with the numbers of their partitions. Blocks.
    ///
    /// Errors: `unknown_topic` if one that is named is missing and `loss` does not let it be; `unreachable`,
    /// `authentication_failed`.
    pub fn find(
        &self,
        cluster: &Cluster,
        client: &BaseConsumer<Events>,
        loss: OnDataLoss,
    ) -> Result<Vec<(String, Vec<i32>)>> {
        match self {
            Self::Named(names) => {
                let of = |name: &String| match client::partitions(cluster, client, name, REACH) {
                    Ok(partitions) => Ok(Some((name.clone(), partitions))),
                    Err(error) if error.code() == Code::UnknownTopic && loss == OnDataLoss::Skip => Ok(None),
                    Err(error) => Err(error),
                };
                names.iter().filter_map(|name| of(name).transpose()).collect()
            }
            Self::Matching(..) => {
                let metadata = client::metadata(cluster, client, None, REACH)?;
                // One that is just being made, or deleted, has an error: it is found the next time.
                let there = metadata.topics().iter().filter(|t| t.error().is_none() && self.contains(t.name()));
                let of = |topic: &rdkafka::metadata::MetadataTopic| {
                    let mut partitions: Vec<i32> = topic.partitions().iter().map(|p| p.id()).collect();
                    partitions.sort_unstable();
                    (topic.name().to_string(), partitions)
                };
                let mut found: Vec<_> = there.map(of).collect();
                found.sort();
                Ok(found)
            }
        }
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => f.write_str(&names.join(", ")),
            Self::Matching(pattern, _) => write!(f, "topics that match '{pattern}'"),
        }
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error says what a name must be.
pub(super) fn check_topic_name(topic: &str) -> std::result::Result<(), &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || topic == "." || topic == ".." || !topic.chars().all(legal) {
        return Err("a topic's name has 1 to 249 letters, digits, '.', '_' or '-'");
    }
    Ok(())
}

/// Topics that hold what Kafka or Laminar need to work: no table writes to them.
pub(super) fn is_reserved(topic: &str) -> bool {
    let kafkas = ["__consumer_offsets", "__transaction_state", "__cluster_metadata", "__share_group_state"];
    topic == marker::TOPIC || topic.starts_with("__laminar") || kafkas.contains(&topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_no_internal_ones() {
        let topics = Topics::matching("events-.*|orders").unwrap();
        for (name, expected) in [
            ("events-", true),
            ("events-a.b", true),
            ("orders", true),
            ("my-events-a", false),
            ("orders2", false),
            ("events", false),
        ] {
            assert_eq!(topics.contains(name), expected, "{name}");
        }
        assert!(!Topics::matching(".*").unwrap().contains("__consumer_offsets"));
    }

    #[test]
    fn a_wrong_pattern_is_explained() {
        let error = Topics::matching("events-(").unwrap_err();
        assert!(error.contains("unclosed group"), "{error}");
        assert!(Topics::matching("a)|(b").is_err());
        assert!(Topics::matching("(((((a{100}){100}){100}){100}){100})").is_err(), "it would take gigabytes");
    }
}

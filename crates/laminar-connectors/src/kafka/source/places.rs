//! Where splits start: each place that one can have becomes an offset, which the brokers are asked for.
//!
//! ```text
//!  a position   it is the offset        the beginning, the end, a time, what a group has committed   the brokers say it
//! ```
//!
//! The rule that must stay true: an offset is found once, when the reader opens. `latest` that is looked up later would skip what
//! came in between.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::source::{SplitStart, StartAt};
use laminar_core::{Code, Error, Position, Result, SplitId};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::options::{OnDataLoss, Reset, Start};
use super::parse_split;
use crate::kafka::client::error::from_kafka;
use crate::kafka::client::{self, Cluster, Events};
use crate::kafka::native::position;

/// How long opening a reader waits for the brokers to say where the splits start.
const RESOLVE: Duration = Duration::from_secs(15);

/// A split with the topic and partition it names, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub split: SplitId,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Next record to read.
    pub next: Position,
    /// The broker said that there is none yet.
    pub at_end: bool,
}

/// How a split's place becomes an offset.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub cluster: Cluster,
    pub start: Start,
    pub loss: OnDataLoss,
}

impl Places {
    /// Where each split starts, in the order given. Blocks.
    ///
    /// Errors: `data_loss` if what a split stood in is gone and must not be missed; `unreachable`,
    /// `authentication_failed`, `unknown_topic`.
    pub fn stand(&self, consumer: &BaseConsumer<Events>, splits: &[SplitStart]) -> Result<Vec<Standing>> {
        let mut standings = Vec::with_capacity(splits.len());
        let (mut configured, mut beginning) = (Vec::new(), Vec::new());
        for (at, split) in splits.iter().enumerate() {
            let (topic, partition) = parse_split(&split.split)?;
            match split.at {
                StartAt::Configured => configured.push(at),
                StartAt::Beginning => beginning.push(at),
                StartAt::At(_) => {}
                StartAt::Replaced(position) => {
                    self.may_miss(&topic, partition, position)?;
                    beginning.push(at);
                }
            }
            let next = split.at.or_zero();
            standings.push(Standing {
                split: split.split.clone(),
                topic: topic.into(),
                partition,
                next,
                at_end: false,
            });
        }
        for (unknown, is_configured) in [(configured, true), (beginning, false)] {
            let asked: Vec<(&str, i32)> =
                unknown.iter().filter_map(|at| standings.get(*at)).map(|s| (s.topic.as_ref(), s.partition)).collect();
            let resolved = match is_configured {
                true => self.configured(consumer, &asked)?,
                false => offsets(&self.cluster, consumer, &asked, At::Beginning)?,
            };
            for (at, next) in unknown.into_iter().zip(resolved) {
                if let Some(standing) = standings.get_mut(at) {
                    standing.next = next;
                }
            }
        }
        Ok(standings)
    }

    /// Where the options say that partitions start.
    fn configured(&self, consumer: &BaseConsumer<Events>, partitions: &[(&str, i32)]) -> Result<Vec<Position>> {
        let at = match self.start {
            Start::Earliest => At::Beginning,
            Start::Latest => At::End,
            Start::AtMillis(millis) => At::Millis(millis),
            Start::Group(reset) => return group_offsets(&self.cluster, consumer, partitions, reset),
        };
        offsets(&self.cluster, consumer, partitions, at)
    }

    fn may_miss(&self, topic: &str, partition: i32, position: Position) -> Result<()> {
        let what = format!(
            "topic {topic} was deleted and created again: partition {partition} is not the one that was read up to offset {position}"
        );
        match self.loss {
            OnDataLoss::Skip => {
                tracing::warn!("{what}; it is read from its beginning");
                Ok(())
            }
            OnDataLoss::Fail => Err(Error::new(Code::DataLoss, what).with_hint(
                "on_data_loss = 'skip' reads the new one from its beginning; RESTART PIPELINE … IGNORING STATE starts anew",
            )),
        }
    }
}

/// A place that brokers can turn into an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Beginning,
    End,
    /// The first record that is not older.
    Millis(i64),
}

/// Where `at` is in each partition now, in the order asked. Blocks.
///
/// Errors: `unreachable`, `authentication_failed`, `unknown_topic`.
pub(crate) fn offsets(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    partitions: &[(&str, i32)],
    at: At,
) -> Result<Vec<Position>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    // The protocol's own numbers: -2 asks for the first offset, -1 for the end, others are times.
    let asked = match at {
        At::Beginning => Offset::Beginning,
        At::End => Offset::End,
        At::Millis(millis) => Offset::Offset(millis),
    };
    let list = ask(cluster, client, partitions, asked)?;
    let mut positions = Vec::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let what = || format!("cannot find where to start in partition {partition} of topic {topic}");
        let found = list.find_partition(topic, *partition);
        let found = found.ok_or_else(|| Error::new(Code::UnknownTopic, what()))?;
        found.error().map_err(|e| from_kafka(what(), &e))?;
        positions.push(match found.offset() {
            Offset::Offset(offset) => position(offset),
            // Nothing is as late as the time asked for.
            Offset::End if at != At::End => match offsets(cluster, client, &[(topic, *partition)], At::End)?.first() {
                Some(end) => *end,
                None => return Err(Error::internal(what())),
            },
            other => {
                return Err(Error::new(Code::ConnectorError, what()).with_detail(format!("the broker said {other:?}")));
            }
        });
    }
    Ok(positions)
}

/// Where the consumer group stands in each partition, in the order asked; where it never was, as `reset` says. Blocks.
///
/// Errors: `unreachable`, `authentication_failed`; `not_found` if it never was there and `reset` is `none`.
fn group_offsets(
    cluster: &Cluster,
    consumer: &BaseConsumer<Events>,
    partitions: &[(&str, i32)],
    reset: Reset,
) -> Result<Vec<Position>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let what = || format!("cannot ask kafka at {} for the group's offsets", cluster.name());
    let committed = consumer.committed_offsets(list, RESOLVE).map_err(|error| {
        client::drain_events(consumer);
        let mapped = from_kafka(what(), &error);
        if mapped.code() == Code::Unreachable { cluster.unreachable(consumer.context()) } else { mapped }
    })?;
    let of = |(topic, partition): &(&str, i32)| {
        let Some(found) = committed.find_partition(topic, *partition) else { return Ok(None) };
        found.error().map_err(|e| from_kafka(what(), &e))?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(position(offset)),
            _ => None,
        })
    };
    let found: Vec<Option<Position>> = partitions.iter().map(of).collect::<Result<_>>()?;
    let unknown: Vec<(&str, i32)> =
        partitions.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|(of, _)| *of).collect();
    let at = match (reset, unknown.first()) {
        (Reset::None, Some((topic, partition))) => {
            let message = format!("the consumer group has no offset for partition {partition} of topic {topic}");
            return Err(Error::new(Code::NotFound, message)
                .with_hint("'auto.offset.reset' = 'earliest' or 'latest' says where to start then")
                .with_field("auto.offset.reset"));
        }
        (Reset::Latest, _) => At::End,
        (Reset::Earliest | Reset::None, _) => At::Beginning,
    };
    let mut others = offsets(cluster, consumer, &unknown, at)?.into_iter();
    let all: Option<Vec<Position>> = found.into_iter().map(|at| at.or_else(|| others.next())).collect();
    all.ok_or_else(|| Error::internal(what()))
}

fn ask(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    partitions: &[(&str, i32)],
    asked: Offset,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let added = list.add_partition_offset(topic, *partition, asked);
        added.map_err(|e| from_kafka(format!("cannot ask for offsets of topic {topic}"), &e))?;
    }
    client.offsets_for_times(list, RESOLVE).map_err(|error| {
        client::drain_events(client);
        let mapped = from_kafka(format!("cannot ask kafka at {} for offsets", cluster.name()), &error);
        if mapped.code() == Code::Unreachable { cluster.unreachable(client.context()) } else { mapped }
    })
}

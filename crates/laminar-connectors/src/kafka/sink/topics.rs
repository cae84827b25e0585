//! The topics that a sink's writer has open, and how many partitions each has.
//!
//! Most sinks have one. Where a column names the topic, one is opened with its first row and stays open: librdkafka keeps what
//! it knows of a topic as long as the client lives, so their number is bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::{Code, Error, Result};
use tokio::time::Instant;

use super::options::SinkSettings;
use crate::kafka::admin::{self, CREATION};
use crate::kafka::client::REACH;
use crate::kafka::native::Topic;
use crate::kafka::producer::{Producer, partitions};
use crate::kafka::topics::{check_topic_name, is_reserved};

/// Topics that one writer may have open.
const MAX_TOPICS: usize = 5_000;

/// How long a sink that starts waits for the producer, before it asks in another way why there is no answer.
const AT_HAND: Duration = Duration::from_millis(1500);

/// Pause between two questions about a topic.
const AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Topics {
    producer: Arc<Producer>,
    settings: Arc<SinkSettings>,
    open: Vec<OpenTopic>,
    by_name: HashMap<String, usize>,
    /// A topic that is made is compacted.
    compacts: bool,
}

pub(crate) struct OpenTopic {
    pub name: String,
    pub handle: Topic,
    pub partitions: i32,
    counted: Instant,
    /// Whose turn it is.
    turn: i32,
}

impl Topics {
    pub fn new(producer: Arc<Producer>, settings: Arc<SinkSettings>, compacts: bool) -> Self {
        Self { producer, settings, open: Vec::new(), by_name: HashMap::new(), compacts }
    }

    pub fn get(&mut self, index: usize) -> Result<&mut OpenTopic> {
        self.open.get_mut(index).ok_or_else(|| Error::internal("no such open topic"))
    }

    pub fn partitions(&self) -> u64 {
        self.open.iter().map(|topic| u64::try_from(topic.partitions).unwrap_or(0)).sum()
    }

    /// The number of the open topic; opens it, and makes it where the options say so.
    ///
    /// Errors: `invalid_value` for what is no name of a topic or must not be written to, `unknown_topic`, `limit_exceeded`; what
    /// keeps us from a cluster that does not answer.
    pub async fn open(&mut self, name: &str) -> Result<usize> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(*index);
        }
        let handle = self.handle(name)?;
        let partitions = match self.find(name, AT_HAND).await {
            // A client of its own says why.
            Err(error) if error.code() == Code::Unreachable => {
                admin::ensure_sink_topic(&self.settings, name, self.compacts).await?
            }
            found => found?,
        };
        Ok(self.add(name, handle, partitions))
    }

    /// As [`Self::open`], for a topic that a row names: while no broker answers it waits, as rows of open topics do, at most
    /// `patience`.
    pub async fn open_for_rows(&mut self, name: &str, patience: Duration) -> Result<usize> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(*index);
        }
        let (handle, deadline) = (self.handle(name)?, Instant::now() + patience);
        loop {
            match self.find(name, REACH).await {
                Ok(partitions) => return Ok(self.add(name, handle, partitions)),
                Err(error) if error.code() == Code::Unreachable && Instant::now() < deadline => {
                    tracing::warn!(topic = name, %error, "rows wait until their topic can be looked up");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Made before anything is asked of the topic: librdkafka keeps the first settings that it hears of.
    fn handle(&self, name: &str) -> Result<Topic> {
        let refuse =
            |why: &str| Error::new(Code::InvalidValue, format!("no row can go to topic '{name}'")).with_detail(why);
        check_topic_name(name).map_err(refuse)?;
        if is_reserved(name) {
            return Err(refuse("the topic holds what Kafka or Laminar need to work"));
        }
        if self.open.len() >= MAX_TOPICS {
            let what = format!("a sink cannot write to more than {MAX_TOPICS} topics");
            return Err(Error::new(Code::LimitExceeded, what).with_hint("does the topic's column hold what it should?"));
        }
        self.producer.topic(name, &self.settings.topic_config())
    }

    /// The topic's partitions. The producer is asked, which is connected; only where there is no such topic a client is made that
    /// may create it.
    async fn find(&mut self, name: &str, limit: Duration) -> Result<i32> {
        match partitions(&self.producer, name, limit).await {
            Err(error) if error.code() == Code::UnknownTopic => {
                let made = admin::ensure_sink_topic(&self.settings, name, self.compacts).await?;
                // The producer heard that there is none.
                let deadline = Instant::now() + CREATION;
                while let Err(error) = partitions(&self.producer, name, REACH).await {
                    if error.code() != Code::UnknownTopic || Instant::now() > deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(made)
            }
            found => found,
        }
    }

    fn add(&mut self, name: &str, handle: Topic, partitions: i32) -> usize {
        let (counted, turn, index) = (Instant::now(), 0, self.open.len());
        self.open.push(OpenTopic { name: name.to_string(), handle, partitions, counted, turn });
        self.by_name.insert(name.to_string(), index);
        index
    }

    /// Counts the topic's partitions again if the last count is older than `age`.
    pub async fn count(&mut self, index: usize, age: Duration) -> Result<()> {
        let topic = self.get(index)?;
        if topic.counted.elapsed() < age {
            return Ok(());
        }
        topic.counted = Instant::now();
        let name = topic.name.clone();
        match partitions(&self.producer, &name, REACH).await {
            Ok(partitions) => self.get(index)?.partitions = partitions,
            // What we know is still good: partitions are never taken away.
            Err(error) => tracing::debug!(%error, "the partitions of a topic cannot be counted"),
        }
        Ok(())
    }
}

impl OpenTopic {
    /// The next partition, one after the other.
    pub fn next_turn(&mut self) -> i32 {
        let turn = self.turn;
        self.turn = if turn + 1 < self.partitions { turn + 1 } else { 0 };
        turn
    }

    /// Begins round robin where this task should, so that tasks do not all begin with the same partition.
    pub fn start_turns_at(&mut self, task: u32) {
        self.turn = i32::try_from(i64::from(task) % i64::from(self.partitions.max(1))).unwrap_or(0);
    }
}

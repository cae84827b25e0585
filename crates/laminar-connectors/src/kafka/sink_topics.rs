//! The topics that a sink's writer has open, and how many partitions each has.
//!
//! Most sinks have one. Where a column names the topic, one is opened with its first row and stays open: librdkafka keeps what
//! it knows of a topic as long as the client lives, so their number is bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::{Code, Error, Result};
use tokio::time::Instant;

use super::admin;
use super::client::{REACH, blocking};
use super::native::Topic;
use super::options::{SinkSettings, is_reserved, is_topic_name};
use super::producer::Producer;

/// Topics that one writer may have open.
const MAX_TOPICS: usize = 5_000;

pub(super) struct Topics {
    producer: Arc<Producer>,
    settings: Arc<SinkSettings>,
    open: Vec<OpenTopic>,
    by_name: HashMap<String, usize>,
    /// A topic that is made is compacted.
    compacts: bool,
}

pub(super) struct OpenTopic {
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
    /// Errors: `invalid_value` for what is no name of a topic or must not be written to, `unknown_topic`, `limit_exceeded`.
    pub async fn open(&mut self, name: &str) -> Result<usize> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(*index);
        }
        let refuse =
            |why: &str| Error::new(Code::InvalidValue, format!("no row can go to topic '{name}'")).with_detail(why);
        if !is_topic_name(name) {
            return Err(refuse("a topic's name has 1 to 249 letters, digits, '.', '_' or '-'"));
        }
        if is_reserved(name) {
            return Err(refuse("the topic holds what Kafka or Laminar need to work"));
        }
        if self.open.len() >= MAX_TOPICS {
            let what = format!("a sink cannot write to more than {MAX_TOPICS} topics");
            return Err(Error::new(Code::LimitExceeded, what).with_hint("does the topic's column hold what it should?"));
        }
        let partitions = admin::ensure_sink_topic(&self.settings, name, self.compacts).await?;
        let handle = self.producer.topic(name, &self.settings.topic_config())?;
        let (counted, turn) = (Instant::now(), 0);
        self.open.push(OpenTopic { name: name.to_string(), handle, partitions, counted, turn });
        self.by_name.insert(name.to_string(), self.open.len() - 1);
        Ok(self.open.len() - 1)
    }

    /// Counts the topic's partitions again if the last count is older than `age`.
    pub async fn count(&mut self, index: usize, age: Duration) -> Result<()> {
        let producer = Arc::clone(&self.producer);
        let topic = self.get(index)?;
        if topic.counted.elapsed() < age {
            return Ok(());
        }
        topic.counted = Instant::now();
        let name = topic.name.clone();
        let counted = blocking(move || producer.partitions(&name, REACH)).await;
        match counted {
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

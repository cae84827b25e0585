//! Asks what a source can read: which topics and partitions there are, and which topics these are.
//!
//! One client, made at the first question and kept for the next ones: a running pipeline asks again and again. After an
//! error it is thrown away, as what it heard (a refused login) may have changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laminar_core::connector::PartitionSet;
use laminar_core::{Code, Error, Result, SplitId};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::options::OnDataLoss;
use super::{parse_split, split_id, topics_of};
use crate::kafka::client::error::{from_code, passes};
use crate::kafka::client::{self, Cluster, Events, REACH, blocking, release};
use crate::kafka::native::{TopicId, topic_ids};
use crate::kafka::topics::Topics;

pub(crate) struct Inspector {
    cluster: Cluster,
    isolation: &'static str,
    client: Arc<Mutex<Option<Shared>>>,
}

type Shared = Arc<BaseConsumer<Events>>;

impl Inspector {
    pub fn new(cluster: Cluster, isolation: &'static str) -> Self {
        Self { cluster, isolation, client: Arc::default() }
    }

    /// Runs `ask` where it may wait.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Cluster, &BaseConsumer<Events>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (cluster, isolation, kept) = (self.cluster.clone(), self.isolation, Arc::clone(&self.client));
        blocking(move || {
            let locked = || kept.lock().unwrap_or_else(PoisonError::into_inner);
            let client = match locked().take() {
                Some(client) => client,
                None => Arc::new(cluster.inspector(isolation)?),
            };
            let answer = ask(&cluster, &client);
            if answer.is_ok() {
                locked().get_or_insert(client);
            }
            answer
        })
        .await
    }

    /// Partitions of the topics, in the order of their names and numbers; of those only that are `wanted`.
    ///
    /// Errors: `unknown_topic` if one that is named does not exist and must; `unreachable`, `authentication_failed`.
    pub async fn splits(&self, topics: Topics, wanted: Option<PartitionSet>, loss: OnDataLoss) -> Result<Vec<SplitId>> {
        self.ask(move |cluster, client| {
            let mut splits = Vec::new();
            for (topic, partitions) in topics.find(cluster, client, loss)? {
                let read = partitions.into_iter().filter(|p| wanted.as_ref().is_none_or(|wanted| wanted.contains(*p)));
                splits.extend(read.map(|partition| split_id(&topic, partition)));
            }
            Ok(splits)
        })
        .await
    }

    /// The ids of the splits' topics. Brokers that have none, or do not tell us, leave it out.
    ///
    /// Errors: `unknown_topic` if a topic is gone and its records must not be missed; `unreachable`.
    pub async fn topic_ids(&self, splits: &[SplitId], loss: OnDataLoss) -> Result<BTreeMap<SplitId, String>> {
        let topics: Vec<String> = topics_of(splits.iter())?.into_iter().collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids = match self.ask(move |cluster, client| describe(cluster, client, &topics)).await {
            Ok(ids) => ids,
            Err(error) if error.code() == Code::Unreachable => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "kafka does not tell the ids of topics");
                return Ok(BTreeMap::new());
            }
        };
        let missing = ids.iter().find(|(_, id)| **id == TopicId::Missing);
        if let (Some((topic, _)), OnDataLoss::Fail) = (missing, loss) {
            let what = format!("topic {topic} of kafka at {} was deleted", self.cluster.name());
            return Err(Error::new(Code::UnknownTopic, what).with_hint(GONE));
        }
        let of = |split: &SplitId| match ids.get(&parse_split(split).ok()?.0)? {
            TopicId::Known(id) => Some((split.clone(), id.clone())),
            TopicId::None | TopicId::Missing => None,
        };
        Ok(splits.iter().filter_map(of).collect())
    }
}

/// What to do about a topic that was deleted while it is read.
pub(crate) const GONE: &str =
    "the topic was deleted: create it again; on_data_loss = 'skip' goes on without what was not read of it";

/// Asks again about a topic that is missing: not every broker knows of a new one at once. Blocks.
fn describe(cluster: &Cluster, client: &BaseConsumer<Events>, topics: &[String]) -> Result<BTreeMap<String, TopicId>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match topic_ids(client.client(), topics, REACH) {
            Ok(ids) if tries < TRIES && ids.values().any(|id| *id == TopicId::Missing) => std::thread::sleep(AGAIN),
            Ok(ids) => return Ok(ids),
            Err((code, _)) if code == RDKafkaErrorCode::OperationTimedOut || passes(code) => {
                client::drain_events(client);
                return Err(cluster.unreachable(client.context()));
            }
            Err((code, text)) => return Err(from_code("topics cannot be described", code, &text)),
        }
    }
}

const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(300);

impl Drop for Inspector {
    fn drop(&mut self) {
        let kept = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.into_iter().for_each(release);
    }
}

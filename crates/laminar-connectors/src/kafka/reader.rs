//! Reads the partitions of one source task.
//!
//! ```text
//!  librdkafka's threads ─► one queue for all partitions ─► next(): all that is at hand, up to the limit
//!          ▲ stop fetching when 16 MB or 30,000 records wait           │ nothing at hand: sleep until told
//!          └───────────────── back-pressure ───────────────────────────┘
//! ```
//!
//! Records are taken by the task that decodes them, straight from librdkafka's queue: no thread of ours in between, no
//! second buffer, and dropping the future of `next` loses nothing because nothing is held across its only wait.
//!
//! Transactional topics hide positions: markers and aborted records take offsets and are never delivered. When librdkafka
//! says that a partition's end is reached, everything before it was delivered, so the position moves there; `next` then
//! returns a run of no records, so that whoever waits for an end sees it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use laminar_core::source::{BatchLimit, Fetched, FetchedRecords, RawRecords, Run, SourceReader};
use laminar_core::{Code, Error, Position, Result, SplitId};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::error::{from_code, from_kafka, passes};
use super::native::{FetchQueue, News, position};
use super::source::{Standing, offset_list};

/// How often an idle reader looks for events that are not records: errors, logs, answers to commits.
const EVENTS: Duration = Duration::from_millis(200);

pub(super) struct Reader {
    queue: Arc<FetchQueue>,
    standings: Vec<Standing>,
    /// Index into `standings`.
    by_partition: HashMap<(Arc<str>, i32), usize>,
    /// Something that `next` reports once what was read before it is handed over.
    failure: Option<Error>,
    commits: Option<GroupCommits>,
    paused: BTreeSet<SplitId>,
}

/// Offsets that are not committed to the group yet.
struct GroupCommits {
    interval: Duration,
    last: Option<Instant>,
    waiting: Vec<(SplitId, Position)>,
}

impl Reader {
    /// `commits`: least time between two commits to the group; `None`: nothing is committed.
    pub fn new(queue: Arc<FetchQueue>, standings: Vec<Standing>, commits: Option<Duration>) -> Self {
        let by_partition =
            standings.iter().enumerate().map(|(i, s)| ((Arc::clone(&s.topic), s.partition), i)).collect();
        let commits = commits.map(|interval| GroupCommits { interval, last: None, waiting: Vec::new() });
        Self { queue, standings, by_partition, failure: None, commits, paused: BTreeSet::new() }
    }

    fn standing(&mut self, topic: &str, partition: i32) -> Option<&mut Standing> {
        let index = *self.by_partition.get(&(Arc::from(topic), partition))?;
        self.standings.get_mut(index)
    }

    /// What is at hand; `None` if nothing is.
    fn take(&mut self, limit: BatchLimit) -> Option<FetchedRecords> {
        let taken = self.queue.take(limit.rows, limit.bytes);
        let mut runs = Vec::with_capacity(taken.messages.runs().len());
        let mut begin = 0;
        for run in taken.messages.runs() {
            let next = position(run.last.saturating_add(1));
            let count = run.end - begin;
            begin = run.end;
            match self
                .by_partition
                .get(&(Arc::clone(&run.topic), run.partition))
                .and_then(|i| self.standings.get_mut(*i))
            {
                Some(standing) => {
                    (standing.next, standing.at_end) = (next, false);
                    runs.push(Run { split: standing.split.clone(), count, next });
                }
                None => {
                    let what = format!(
                        "kafka delivered partition {} of topic {}, which was not asked for",
                        run.partition, run.topic
                    );
                    self.failure = Some(Error::internal(what));
                    return None;
                }
            }
        }
        for news in &taken.news {
            if let Some(run) = self.hear(news) {
                runs.push(run);
            }
        }
        if taken.messages.is_empty() && runs.is_empty() {
            return None;
        }
        Some(FetchedRecords { records: Box::new(taken.messages), runs, drained: taken.drained })
    }

    /// Returns a run of no records if the position moved past offsets that have none.
    fn hear(&mut self, news: &News) -> Option<Run> {
        if news.code == RDKafkaErrorCode::PartitionEOF {
            let end = position(news.offset);
            let standing = self.standing(&news.topic, news.partition)?;
            standing.at_end = end >= standing.next;
            if end <= standing.next {
                return None;
            }
            standing.next = end;
            return Some(Run { split: standing.split.clone(), count: 0, next: end });
        }
        if passes(news.code) {
            tracing::warn!(topic = news.topic, partition = news.partition, "{}", news.text);
            return None;
        }
        let (topic, partition) = (news.topic.as_str(), news.partition);
        let next = self.standing(topic, partition).map(|s| s.next).unwrap_or_default();
        let error = from_code(
            format!("cannot read partition {partition} of topic {topic} at offset {next}"),
            news.code,
            &news.text,
        );
        let error = match error.code() {
            Code::DataLoss => error.with_hint(
                "records that were not read yet are gone: the topic's retention or a new topic of the same name removed them; \
                 keep records longer, or start over with IGNORING STATE",
            ),
            _ => error,
        };
        self.failure.get_or_insert(error);
        None
    }

    /// Lets librdkafka log, and report answers and faults of the client as a whole.
    fn serve_events(&mut self) {
        let Some(consumer) = self.queue.consumer() else { return };
        // Records never come here: their queues are forwarded. Errors were logged and kept by the client's events.
        consumer.context().refresh_token(consumer.client());
        drop(consumer.poll(Duration::ZERO));
        if self.failure.is_none() {
            self.failure = consumer.context().fatal();
        }
    }

    fn commit_to_group(&mut self) {
        let (Some(commits), Some(consumer)) = (&mut self.commits, self.queue.consumer()) else { return };
        if commits.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut commits.waiting);
        commits.last = Some(Instant::now());
        let sent = offset_list(&waiting).map(|list| consumer.commit(&list, CommitMode::Async));
        if let Err(error) | Ok(Err(error)) = sent.map(|r| r.map_err(|e| from_kafka("cannot commit offsets", &e))) {
            tracing::warn!(%error, "offsets were not committed to the group; the checkpoint has them");
        }
    }
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched> {
        loop {
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            self.serve_events();
            if let Some(records) = self.take(limit) {
                return Ok(Fetched::Records(records));
            }
            if self.failure.is_none() {
                // Either is only a reason to look again, so nothing is lost if the wait is dropped.
                let _ = tokio::time::timeout(EVENTS, self.queue.filled()).await;
            }
        }
    }

    /// librdkafka drops what it has fetched of a paused partition, and goes on behind what was taken.
    fn pause(&mut self, splits: &BTreeSet<SplitId>) -> Result<()> {
        let Some(consumer) = self.queue.consumer() else { return Ok(()) };
        let failed = |e| from_kafka("partitions cannot be paused", &e);
        let list = |of: Vec<&SplitId>| {
            let mut list = TopicPartitionList::with_capacity(of.len());
            for standing in self.standings.iter().filter(|s| of.contains(&&s.split)) {
                list.add_partition(&standing.topic, standing.partition);
            }
            list
        };
        let (stop, go) = (splits.difference(&self.paused).collect(), self.paused.difference(splits).collect());
        consumer.pause(&list(stop)).map_err(failed)?;
        consumer.resume(&list(go)).map_err(failed)?;
        self.paused.clone_from(splits);
        Ok(())
    }

    fn positions(&self) -> Vec<(SplitId, Position)> {
        self.standings.iter().map(|s| (s.split.clone(), s.next)).collect()
    }

    fn behind(&self) -> BTreeSet<SplitId> {
        self.standings.iter().filter(|standing| !standing.at_end).map(|standing| standing.split.clone()).collect()
    }

    async fn checkpointed(&mut self, positions: &[(SplitId, Position)]) {
        let Some(commits) = &mut self.commits else { return };
        let ours = positions.iter().filter(|(split, _)| self.standings.iter().any(|s| s.split == *split));
        commits.waiting = ours.cloned().collect();
        let due = commits.last.is_none_or(|last| last.elapsed() >= commits.interval);
        if due {
            self.commit_to_group();
        }
    }
}

impl Drop for Reader {
    /// Commits what an interval held back; closing the client waits for the answer.
    fn drop(&mut self) {
        self.commit_to_group();
    }
}

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
//!
//! Records that are gone before they were read are an error, unless the table may miss some: then the partition *jumps* to
//! the oldest record that there is, and how many it missed goes with the next answer. Where a topic is gone with all that was not
//! read of it, its end is reached: see `gone`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use laminar_core::source::{
    BatchLimit, Fetched, FetchedRecords, OwnedRecords, RawRecords, Run, SourceReader, SplitStart,
};
use laminar_core::{Code, Error, Health, Position, Result, SplitId};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use tokio::task::JoinHandle;

use super::gone::GoneTopics;
use super::inspector::GONE;
use super::options::OnDataLoss;
use super::places::{At, Places, Standing, offsets};
use super::{assignment, offset_list, partitions_of, topics_of};
use crate::kafka::client::error::{from_code, from_kafka, passes};
use crate::kafka::client::{self, REACH, blocking};
use crate::kafka::native::{FetchQueue, News, position};

/// How often an idle reader looks for events that are not records: errors, logs, answers to commits.
const EVENTS: Duration = Duration::from_millis(200);

/// How long a broker that is away is given to answer whether it is there again.
const PROBE: Duration = Duration::from_secs(2);

pub(crate) struct Reader {
    queue: Arc<FetchQueue>,
    standings: Vec<Standing>,
    /// Index into `standings`.
    by_partition: HashMap<(Arc<str>, i32), usize>,
    /// Something that `next` reports once what was read before it is handed over.
    failure: Option<Error>,
    commits: Option<GroupCommits>,
    paused: BTreeSet<SplitId>,
    places: Places,
    /// Indices into `standings`: their next record is gone, and they may jump.
    overtaken: BTreeSet<usize>,
    /// The question where those can go on.
    jump: Option<Jump>,
    /// Partitions that jumped, and of which nothing came since.
    rejoining: BTreeSet<usize>,
    /// The question whether a broker that was away is there again.
    probe: Option<JoinHandle<()>>,
    /// `None`: no record may be missed, and a topic that is gone is an error where topics are looked for.
    gone: Option<GoneTopics>,
}

/// Asked while the reader goes on; `next` may be dropped meanwhile.
struct Jump {
    of: Vec<usize>,
    to: JoinHandle<Result<Vec<Position>>>,
}

/// Offsets that are not committed to the group yet.
struct GroupCommits {
    interval: Duration,
    last: Option<Instant>,
    waiting: Vec<(SplitId, Position)>,
}

impl Reader {
    /// `commits`: least time between two commits to the group; `None`: nothing is committed.
    pub fn new(queue: Arc<FetchQueue>, standings: Vec<Standing>, places: Places, commits: Option<Duration>) -> Self {
        let by_partition =
            standings.iter().enumerate().map(|(i, s)| ((Arc::clone(&s.topic), s.partition), i)).collect();
        let commits = commits.map(|interval| GroupCommits { interval, last: None, waiting: Vec::new() });
        Self {
            queue,
            standings,
            by_partition,
            failure: None,
            commits,
            paused: BTreeSet::new(),
            gone: (places.loss == OnDataLoss::Skip).then(GoneTopics::new),
            places,
            overtaken: BTreeSet::new(),
            jump: None,
            rejoining: BTreeSet::new(),
            probe: None,
        }
    }

    fn index(&self, topic: &str, partition: i32) -> Option<usize> {
        self.by_partition.get(&(Arc::from(topic), partition)).copied()
    }

    fn standing(&mut self, topic: &str, partition: i32) -> Option<&mut Standing> {
        let index = self.index(topic, partition)?;
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
            let index = self.by_partition.get(&(Arc::clone(&run.topic), run.partition)).copied();
            match index.and_then(|index| self.standings.get_mut(index)) {
                Some(standing) => {
                    self.rejoining.retain(|at| Some(*at) != index);
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
        Some(FetchedRecords { records: Box::new(taken.messages), runs, drained: taken.drained, lost: 0 })
    }

    /// Returns a run of no records if the position moved past offsets that have none.
    fn hear(&mut self, news: &News) -> Option<Run> {
        let index = self.index(&news.topic, news.partition);
        self.rejoining.retain(|at| Some(*at) != index);
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
        match (error.code(), self.places.loss) {
            (Code::DataLoss, OnDataLoss::Skip) => {
                self.overtaken.extend(self.index(topic, partition));
                return None;
            }
            // It may come again; what it was is told from what it is by its id, when that is looked for.
            (Code::UnknownTopic, OnDataLoss::Skip) => {
                tracing::warn!(topic, partition, %error, "a topic is gone, with all that was not read of it");
                // Nothing more comes: what waits for this split would wait for ever.
                self.standing(topic, partition)?.at_end = true;
                return None;
            }
            _ => {}
        }
        let error = match error.code() {
            Code::DataLoss => error.with_hint(
                "records that were not read yet are gone: the topic's retention or a new topic of the same name removed them; \
                 keep records longer, let on_data_loss = 'skip' go on without them, or start over with IGNORING STATE",
            ),
            Code::UnknownTopic => error.with_hint(GONE),
            _ => error,
        };
        self.failure.get_or_insert(error);
        None
    }

    /// Takes the partitions whose next record is gone to their first one. Returns what they missed, once that is known.
    async fn jump(&mut self) -> Result<Option<FetchedRecords>> {
        if self.jump.is_none() {
            let of: Vec<usize> = std::mem::take(&mut self.overtaken).into_iter().collect();
            let asked: Vec<Standing> = of.iter().filter_map(|at| self.standings.get(*at)).cloned().collect();
            let (queue, cluster) = (Arc::clone(&self.queue), self.places.cluster.clone());
            let ask = blocking(move || {
                let asked: Vec<(&str, i32)> = asked.iter().map(|s| (s.topic.as_ref(), s.partition)).collect();
                match queue.consumer() {
                    Some(consumer) => offsets(&cluster, consumer, &asked, At::Beginning),
                    None => Ok(Vec::new()),
                }
            });
            self.jump = Some(Jump { of, to: tokio::spawn(ask) });
        }
        let Some(jump) = &mut self.jump else { return Ok(None) };
        let answer = (&mut jump.to).await;
        let of = self.jump.take().map(|jump| jump.of).unwrap_or_default();
        match answer {
            Ok(Ok(first)) => self.jump_to(&of, &first).map(Some),
            Ok(Err(error)) if error.code() == Code::Unreachable => {
                tracing::warn!(%error, "partitions whose records are gone wait for the broker");
                self.overtaken.extend(of);
                Ok(None)
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(Error::internal(format!("a question to kafka did not return: {error}"))),
        }
    }

    fn jump_to(&mut self, of: &[usize], first: &[Position]) -> Result<FetchedRecords> {
        let (mut jumped, mut runs, mut lost) = (Vec::new(), Vec::new(), 0_u64);
        for (at, first) in of.iter().zip(first) {
            let Some(standing) = self.standings.get_mut(*at) else { continue };
            let missed = first.0.saturating_sub(standing.next.0);
            let (topic, partition, from) = (&standing.topic, standing.partition, standing.next);
            if *first < from {
                tracing::warn!(%topic, partition, %from, to = %first, "the topic is another one now, or was cut: it is read from its beginning");
            } else {
                tracing::warn!(%topic, partition, %from, to = %first, missed, "records are gone that were not read");
            }
            lost += missed;
            (standing.next, standing.at_end) = (*first, false);
            runs.push(Run { split: standing.split.clone(), count: 0, next: *first });
            jumped.push(standing.clone());
        }
        if let Some(consumer) = self.queue.consumer() {
            let failed = |e| from_kafka("partitions cannot be read from another place", &e);
            let list = assignment(&jumped)?;
            consumer.incremental_unassign(&list).map_err(failed)?;
            consumer.incremental_assign(&list).map_err(failed)?;
            self.rejoining.extend(of);
            let mut paused = TopicPartitionList::new();
            for standing in jumped.iter().filter(|s| self.paused.contains(&s.split)) {
                paused.add_partition(&standing.topic, standing.partition);
            }
            consumer.pause(&paused).map_err(failed)?;
        }
        Ok(FetchedRecords { records: Box::new(OwnedRecords::default()), runs, drained: false, lost })
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
        self.rejoin();
        self.watch_outage();
        self.leave_gone_topics();
    }

    /// When librdkafka has stopped reading a partition from the old place, some time after it was told to, it takes its queue out
    /// of ours.
    fn rejoin(&mut self) {
        let jumped = self.rejoining.iter().filter_map(|at| self.standings.get(*at)).cloned();
        let jumped: Vec<Standing> = jumped.collect();
        if let Err(error) = self.queue.join(&partitions_of(&jumped)) {
            self.failure.get_or_insert(Error::internal(error));
        }
    }

    /// Where nothing is said nothing comes: during an outage the broker is asked, so that its end is seen.
    fn watch_outage(&mut self) {
        let is_away = self.queue.consumer().is_some_and(|consumer| consumer.context().outage().is_some());
        if !is_away || self.probe.as_ref().is_some_and(|probe| !probe.is_finished()) {
            return;
        }
        let Some(topic) = self.standings.first().map(|standing| Arc::clone(&standing.topic)) else { return };
        let queue = Arc::clone(&self.queue);
        self.probe = Some(tokio::task::spawn_blocking(move || {
            if let Some(consumer) = queue.consumer()
                && consumer.fetch_metadata(Some(&topic), PROBE).is_ok()
            {
                consumer.context().is_reached();
            }
        }));
    }

    /// Where a topic is gone its splits are read to their end. They go on if it comes again.
    fn leave_gone_topics(&mut self) {
        let Some(gone) = &mut self.gone else { return };
        for at in gone.look(&self.standings, &self.queue) {
            let Some(standing) = self.standings.get_mut(at) else { continue };
            let (topic, partition, next) = (&standing.topic, standing.partition, standing.next);
            tracing::warn!(%topic, partition, %next, "a topic is gone, with all that was not read of it");
            standing.at_end = true;
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
            if (self.jump.is_some() || !self.overtaken.is_empty())
                && let Some(records) = self.jump().await?
            {
                return Ok(Fetched::Records(records));
            }
            if self.failure.is_none() {
                // Either is only a reason to look again, so nothing is lost if the wait is dropped.
                let _ = tokio::time::timeout(EVENTS, self.queue.filled()).await;
            }
        }
    }

    async fn add(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        let (queue, places) = (Arc::clone(&self.queue), self.places.clone());
        let standings = blocking(move || {
            let Some(consumer) = queue.consumer() else { return Ok(Vec::new()) };
            // It may not have heard of them yet.
            for topic in topics_of(splits.iter().map(|start| &start.split))? {
                client::metadata(&places.cluster, consumer, Some(&topic), REACH)?;
            }
            let standings = places.stand(consumer, &splits)?;
            queue.join(&partitions_of(&standings)).map_err(Error::internal)?;
            let what = || format!("cannot read more of kafka at {}", places.cluster.name());
            consumer.incremental_assign(&assignment(&standings)?).map_err(|e| from_kafka(what(), &e))?;
            Ok(standings)
        });
        for standing in standings.await? {
            self.by_partition.insert((Arc::clone(&standing.topic), standing.partition), self.standings.len());
            self.standings.push(standing);
        }
        Ok(())
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

    fn health(&self) -> Option<Arc<dyn Health>> {
        Some(Arc::clone(self.queue.consumer()?.context()) as Arc<dyn Health>)
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

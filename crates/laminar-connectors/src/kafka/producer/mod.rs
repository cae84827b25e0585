//! A producer that several sink tasks share: rows go in by the batch, reports are counted, nothing is awaited singly.
//!
//! ```text
//!  writer ─ room()? ─► librdkafka's queue ─► broker ─► reports ─► a thread counts them ─► room for more
//! ```
//!
//! Invariant: a row counts as produced before librdkafka has it and as delivered or failed when its report came, so
//! `produced - delivered - failed` rows are on their way, never fewer. [`Producer::settle`] succeeds only when every row
//! produced was delivered: the end-to-end check that exactly-once stands on, besides librdkafka's own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use laminar_core::{Code, Error, Health, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::Notify;

use crate::kafka::client::error::{from_code, from_kafka};
use crate::kafka::client::{ClientKind, Cluster, Events, blocking, release};
use crate::kafka::native::{self, Refused, Topic};
use memory_gauge::MemoryGauge;
use record::{Carries, Record};

pub(super) mod marker;
mod memory_gauge;
pub(super) mod record;
pub(super) mod shared;
pub(super) mod transaction;

/// Rows that may be on their way to the broker; each costs librdkafka about 350 bytes besides its own.
const MAX_ROWS: u64 = 100_000;
/// Bytes of keys and values that may be on their way.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

/// What a row costs librdkafka besides its own bytes.
const ROW_COST: u64 = 350;
/// More bytes than this librdkafka does not hold.
const LIBRDKAFKAS: u64 = 2_000_000_000;
/// Bytes that may be on their way even when memory is short: they are on their way out.
const SPARED: u64 = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A broker that acknowledges nothing for so long is told as one that does not answer.
const SILENCE: Duration = Duration::from_secs(10);
/// A broker that is there acknowledges rows within this time.
const HEARD: Duration = Duration::from_secs(1);

/// What may be on its way.
struct Bounds {
    rows: u64,
    bytes: u64,
    /// The user said how many rows.
    rows_given: bool,
    /// A sink said how many bytes.
    asked: bool,
    /// Present where sinks give way when memory is short.
    memory: Option<MemoryGauge>,
}

/// Settings that the user may change. How long a record may be is the broker's to say: a dead letter is as long as its record.
const DEFAULTS: &[(&str, &str)] =
    &[("partitioner", "murmur2_random"), ("linger.ms", "5"), ("message.max.bytes", MESSAGE_MAX_BYTES)];

/// What a record may have unless the user says less.
const MESSAGE_MAX_BYTES: &str = "1000000000";

/// Settings that are ours: nothing is lost or reordered by a retry, our own bound comes before librdkafka's, and a topic is made
/// where the options say so, never by asking for it.
const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2097151"),
    ("allow.auto.create.topics", "false"),
];

/// One client of librdkafka and the thread that serves it.
pub(crate) struct Producer {
    client: Option<Arc<BaseProducer<Events>>>,
    shared: Arc<Shared>,
    cluster: Cluster,
    bounds: Mutex<Bounds>,
    /// Settings of the topics that were opened.
    topics: Mutex<HashMap<String, Vec<(&'static str, &'static str)>>>,
}

#[derive(Debug, Default)]
struct Shared {
    produced_rows: AtomicU64,
    produced_bytes: AtomicU64,
    delivered_rows: AtomicU64,
    failed_rows: AtomicU64,
    reported_bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
    /// Told after reports came.
    reported: Notify,
    stop: AtomicBool,
    /// Commits that wait for the broker.
    commits: AtomicU64,
    /// Since when nothing was acknowledged of what is on its way.
    unheard: Mutex<Option<Instant>>,
}

impl Producer {
    /// `extra`: settings of a transactional producer.
    pub fn new(cluster: &Cluster, extra: &[(&str, &str)]) -> Result<Self> {
        let mut config: ClientConfig = cluster.config(ClientKind::Producer, DEFAULTS, FIXED);
        extra.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let client: Arc<BaseProducer<Events>> = Arc::new(cluster.create(&config)?);
        let shared = Arc::<Shared>::default();
        let (served, counted) = (Arc::clone(&client), Arc::clone(&shared));
        let serve = move || {
            while !counted.stop.load(Ordering::Relaxed) {
                served.context().refresh_token(served.client());
                let came = native::serve(&served, 100, |reports| counted.count(&served, &reports));
                if came {
                    counted.reported.notify_waiters();
                }
            }
            release(served);
        };
        let started = thread::Builder::new().name("kafka-reports".into()).spawn(serve);
        started.map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?;
        let rows = given(cluster, "queue.buffering.max.messages");
        Ok(Self {
            client: Some(client),
            shared,
            bounds: Mutex::new(Bounds {
                rows: rows.unwrap_or(MAX_ROWS),
                bytes: given(cluster, "queue.buffering.max.kbytes")
                    .map_or(MAX_BYTES, |kilobytes| kilobytes.saturating_mul(1024)),
                rows_given: rows.is_some(),
                asked: false,
                memory: None,
            }),
            cluster: cluster.clone(),
            topics: Mutex::default(),
        })
    }

    /// The safe wrapper's client, for calls that are not hot.
    pub fn client(&self) -> Result<&Arc<BaseProducer<Events>>> {
        self.client.as_ref().ok_or_else(|| Error::internal("the producer is closed"))
    }

    /// A handle through which rows go to the topic, with settings of its own; without any, with those that it has.
    ///
    /// Errors: `conflicting_options` if the topic is open with other settings: librdkafka has one set of them for each.
    pub fn topic(&self, name: &str, config: &[(&'static str, &'static str)]) -> Result<Topic> {
        let mut open = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if !config.is_empty() && open.get(name).is_some_and(|other| other != config) {
            let what = format!("two sinks of a pipeline write to topic {name} with different settings");
            return Err(Error::new(Code::ConflictingOptions, self.what(&what))
                .with_hint("give both the same partitioner and compression"));
        }
        let topic = Topic::new(Arc::clone(self.client()?), name, config);
        let topic = topic.map_err(|what| Error::internal(format!("topic {name} cannot be written: {what}")))?;
        // Who has no settings of its own does not decide.
        if !config.is_empty() {
            open.entry(name.to_string()).or_insert_with(|| config.to_vec());
        }
        Ok(topic)
    }

    /// How many partitions the topic has now. Blocks at most `limit`.
    pub fn partitions(&self, topic: &str, limit: Duration) -> Result<i32> {
        let metadata = self.client()?.client().fetch_metadata(Some(topic), limit);
        let metadata = metadata.map_err(|e| call_error(self, &format!("topic {topic} cannot be looked up"), &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len());
        match i32::try_from(found) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(Error::new(Code::UnknownTopic, self.what(&format!("there is no topic {topic}")))),
        }
    }

    /// Waits until fewer rows and bytes are on their way than allowed. Errors if a row or the client failed.
    pub async fn room(&self) -> Result<()> {
        loop {
            let reported = self.shared.reported.notified();
            tokio::pin!(reported);
            reported.as_mut().enable();
            if self.has_room()? {
                return Ok(());
            }
            // Memory may come back without a report.
            drop(tokio::time::timeout(LOOK_AGAIN, reported).await);
        }
    }

    /// Are fewer rows and bytes on their way than allowed? Errors if a row or the client failed.
    pub fn has_room(&self) -> Result<bool> {
        self.check()?;
        let (rows, bytes) = self.shared.on_their_way();
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = rows < bounds.rows && bytes < bounds.bytes;
        Ok(fits && !(bytes >= SPARED && bounds.memory.as_mut().is_some_and(MemoryGauge::is_short)))
    }

    /// What the user says of how many bytes may be on their way, else `ours`.
    pub fn given_bytes(&self, ours: u64) -> u64 {
        given(&self.cluster, "queue.buffering.max.kbytes").map_or(ours, |kilobytes| kilobytes.saturating_mul(1024))
    }

    /// Sets how many bytes may be on their way: the most of what the sinks need, of which each says it.
    pub fn bound(&self, bytes: u64) {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.bytes = if bounds.asked { bounds.bytes.max(bytes) } else { bytes }.clamp(1, LIBRDKAFKAS);
        if !bounds.rows_given {
            bounds.rows = bounds.rows.max(bounds.bytes / ROW_COST);
        }
        bounds.asked = true;
    }

    #[cfg(test)]
    pub fn byte_limit(&self) -> u64 {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// From now on there is no room while the machine is short of memory.
    pub fn watch_memory(&self) {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.memory.get_or_insert_default();
    }

    /// Hands rows to librdkafka. `bytes` is the size of their keys, values and headers together, `count` their number.
    pub fn produce<'a>(
        &self,
        topic: &mut Topic,
        rows: impl Iterator<Item = Record<'a>>,
        carries: Carries,
        count: usize,
        bytes: usize,
    ) -> Result<()> {
        self.shared.waits();
        self.shared.produced_rows.fetch_add(count as u64, Ordering::SeqCst);
        self.shared.produced_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        let (taken, refused) = match carries {
            Carries::Plain => topic.produce(rows),
            Carries::Everything => topic.produce_each(rows),
        };
        if taken == count {
            return Ok(());
        }
        let error = match (self.fatal(), refused) {
            (Some(error), _) => error,
            (None, Some(refused)) => self.refusal(&refused),
            (None, None) => Error::internal("librdkafka took fewer rows than it was given"),
        };
        self.shared.fail(error.clone());
        Err(error)
    }

    fn refusal(&self, refused: &Refused) -> Error {
        let error = from_code(self.what("a row cannot be written"), refused.code, "");
        if error.code() != Code::RowTooLarge {
            return error;
        }
        let most = self.cluster.get("message.max.bytes").unwrap_or(MESSAGE_MAX_BYTES);
        error.with_detail(format!("it makes a record of {} bytes, and message.max.bytes is {most}", refused.bytes))
    }

    /// Waits until the broker acknowledged every row produced before this call. Blocks.
    ///
    /// Errors: the first failed row's; `timeout` after `limit`; `internal` if reports and rows do not add up.
    pub fn settle(&self, limit: Duration) -> Result<()> {
        let before = self.shared.produced_rows.load(Ordering::SeqCst);
        let in_time = native::flush(self.client()?, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX));
        self.check()?;
        let delivered = self.shared.delivered_rows.load(Ordering::SeqCst);
        if !in_time {
            let error = Error::new(Code::Timeout, self.what(&format!("rows were not acknowledged within {limit:?}")));
            return Err(match self.client()?.context().last_reason() {
                Some(reason) => error.with_detail(reason),
                None => error,
            });
        }
        if delivered < before {
            return Err(self.miscount(before, delivered));
        }
        Ok(())
    }

    /// Is every row ever produced delivered? Called when nobody writes.
    pub fn check_counts(&self) -> Result<()> {
        self.check()?;
        let produced = self.shared.produced_rows.load(Ordering::SeqCst);
        let delivered = self.shared.delivered_rows.load(Ordering::SeqCst);
        if produced == delivered { Ok(()) } else { Err(self.miscount(produced, delivered)) }
    }

    /// Makes every later call fail, as after a transaction whose outcome is unknown.
    pub fn fail(&self, error: Error) {
        self.shared.fail(error);
    }

    /// A commit waits for the broker until this is dropped.
    pub fn committing(&self) -> Committing {
        self.shared.waits();
        self.shared.commits.fetch_add(1, Ordering::SeqCst);
        Committing(Arc::clone(&self.shared))
    }

    /// What is asked while writers wait.
    pub fn health(&self) -> Option<Arc<dyn Health>> {
        let events = Arc::clone(self.client.as_ref()?.context());
        let linger = self.cluster.get("linger.ms").and_then(|ms| ms.parse().ok()).unwrap_or(0.0);
        let linger = Duration::try_from_secs_f64(linger / 1000.0).unwrap_or_default();
        Some(Arc::new(ProducerHealth { shared: Arc::clone(&self.shared), events, linger }))
    }

    fn miscount(&self, produced: u64, delivered: u64) -> Error {
        let what = self.what(&format!("{produced} rows were written and {delivered} reported as delivered"));
        Error::internal(what)
    }

    fn check(&self) -> Result<()> {
        match self.fatal().or_else(|| self.shared.failure()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn fatal(&self) -> Option<Error> {
        let client = self.client.as_ref()?;
        fatal(client).or_else(|| client.context().fatal())
    }

    fn what(&self, text: &str) -> String {
        format!("kafka at {}: {text}", self.cluster.name())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.client.take().into_iter().for_each(release);
    }
}

/// A bound that the user set; 0 stands for none.
fn given(cluster: &Cluster, key: &str) -> Option<u64> {
    cluster.get(key)?.parse().ok().filter(|given| *given > 0)
}

/// The fault that made librdkafka give the client up, such as being fenced.
fn fatal(client: &BaseProducer<Events>) -> Option<Error> {
    let (code, reason) = client.client().fatal_error()?;
    Some(from_code("the kafka producer failed", code, &reason))
}

pub(crate) struct Committing(Arc<Shared>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.commits.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Outlives the producer, and keeps nothing of it open.
#[derive(Debug)]
struct ProducerHealth {
    shared: Arc<Shared>,
    events: Arc<Events>,
    /// Rows may wait so long before they are sent.
    linger: Duration,
}

impl Health for ProducerHealth {
    fn trouble(&self) -> Option<String> {
        let (rows, _) = self.shared.on_their_way();
        // A client without anything to send does not hear that the brokers are back.
        if rows == 0 && self.shared.commits.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let silent = self.shared.unheard().map_or(Duration::ZERO, |since| since.elapsed()).saturating_sub(self.linger);
        let what = if rows > 0 { format!("{rows} rows wait") } else { "a commit waits".to_string() };
        let no_answer = || format!("no broker has acknowledged anything for {} s: {what}", silent.as_secs());
        // What was said while there was nothing to send may be over.
        let outage = self.events.outage().filter(|_| silent >= HEARD);
        outage.or_else(|| (silent >= SILENCE).then(no_answer))
    }
}

impl Shared {
    /// Something begins to wait for the broker.
    fn waits(&self) {
        if self.on_their_way().0 == 0 && self.commits.load(Ordering::SeqCst) == 0 {
            *self.unheard() = Some(Instant::now());
        }
    }

    fn unheard(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, client: &BaseProducer<Events>, reports: &native::Reports) {
        self.delivered_rows.fetch_add(reports.delivered, Ordering::SeqCst);
        self.failed_rows.fetch_add(reports.failed, Ordering::SeqCst);
        self.reported_bytes.fetch_add(reports.bytes, Ordering::SeqCst);
        if reports.delivered > 0 {
            client.context().is_reached();
            *self.unheard() = Some(Instant::now());
        }
        if let Some(code) = reports.first_error {
            let error = fatal(client).or_else(|| client.context().fatal());
            let error = error.unwrap_or_else(|| {
                let what = format!("{} rows were not written to kafka", reports.failed);
                from_code(what, code, &client.context().last_reason().unwrap_or_default())
            });
            self.fail(error);
        }
    }

    fn on_their_way(&self) -> (u64, u64) {
        let done = self.delivered_rows.load(Ordering::SeqCst) + self.failed_rows.load(Ordering::SeqCst);
        let rows = self.produced_rows.load(Ordering::SeqCst).saturating_sub(done);
        let reported = self.reported_bytes.load(Ordering::SeqCst);
        (rows, self.produced_bytes.load(Ordering::SeqCst).saturating_sub(reported))
    }

    fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the first error: later ones follow from it.
    fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.reported.notify_waiters();
    }
}

/// [`Producer::settle`] away from the threads that move rows.
pub(crate) async fn settle(producer: &Arc<Producer>, limit: Duration) -> Result<()> {
    let producer = Arc::clone(producer);
    blocking(move || producer.settle(limit)).await
}

/// [`Producer::partitions`] away from them too.
pub(crate) async fn partitions(producer: &Arc<Producer>, topic: &str, limit: Duration) -> Result<i32> {
    let (producer, topic) = (Arc::clone(producer), topic.to_string());
    blocking(move || producer.partitions(&topic, limit)).await
}

/// The error for a call of the safe wrapper that failed.
pub(crate) fn call_error(producer: &Producer, what: &str, error: &rdkafka::error::KafkaError) -> Error {
    producer.fatal().unwrap_or_else(|| from_kafka(producer.what(what), error))
}

//! A producer that several sink tasks share: rows go in by the batch, reports are counted, nothing is awaited singly.
//!
//! ```text
//!  writer ─ room()? ─► librdkafka's queue ─► broker ─► reports ─► a thread counts them ─► room for more
//! ```
//!
//! Invariant: a row counts as produced before librdkafka has it and as delivered or failed when its report came, so
//! `produced - delivered - failed` rows are on their way, never fewer. [`Producer::settle`] succeeds only when every row
//! produced was delivered: the end-to-end check that exactly-once stands on, besides librdkafka's own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use laminar_core::{Code, Error, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::sync::Notify;

use super::client::{ClientKind, Cluster, Events, blocking, release};
use super::error::{from_code, from_kafka};
use super::native::{self, Topic};

/// Rows that may be on their way to the broker; each costs librdkafka about 350 bytes besides its own.
const MAX_ROWS: u64 = 100_000;
/// Bytes of keys and values that may be on their way.
const MAX_BYTES: u64 = 32 << 20;

/// Settings that the user may change. How long a record may be is the broker's to say: a dead letter is as long as its record.
const DEFAULTS: &[(&str, &str)] =
    &[("partitioner", "murmur2_random"), ("linger.ms", "5"), ("message.max.bytes", "1000000000")];

/// Settings that are ours: nothing is lost or reordered by a retry, and our own bound comes before librdkafka's.
const FIXED: &[(&str, &str)] =
    &[("enable.idempotence", "true"), ("queue.buffering.max.messages", "0"), ("queue.buffering.max.kbytes", "2097151")];

/// One client of librdkafka and the thread that serves it.
pub(super) struct Producer {
    client: Option<Arc<BaseProducer<Events>>>,
    shared: Arc<Shared>,
    cluster: Cluster,
    max_rows: u64,
    max_bytes: u64,
}

#[derive(Default)]
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
        let limit = |key: &str, unit: u64, ours: u64| match cluster.get(key).and_then(|v| v.parse::<u64>().ok()) {
            Some(given) if given > 0 => given.saturating_mul(unit),
            _ => ours,
        };
        Ok(Self {
            client: Some(client),
            shared,
            max_rows: limit("queue.buffering.max.messages", 1, MAX_ROWS),
            max_bytes: limit("queue.buffering.max.kbytes", 1024, MAX_BYTES),
            cluster: cluster.clone(),
        })
    }

    /// The safe wrapper's client, for calls that are not hot.
    pub fn client(&self) -> Result<&Arc<BaseProducer<Events>>> {
        self.client.as_ref().ok_or_else(|| Error::internal("the producer is closed"))
    }

    /// A handle through which rows go to the topic.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        let topic = Topic::new(Arc::clone(self.client()?), name);
        topic.map_err(|what| Error::internal(format!("topic {name} cannot be written: {what}")))
    }

    /// Waits until fewer rows and bytes are on their way than allowed. Errors if a row or the client failed.
    pub async fn room(&self) -> Result<()> {
        loop {
            let reported = self.shared.reported.notified();
            tokio::pin!(reported);
            reported.as_mut().enable();
            self.check()?;
            let (rows, bytes) = self.shared.on_their_way();
            if rows < self.max_rows && bytes < self.max_bytes {
                return Ok(());
            }
            reported.await;
        }
    }

    /// Hands rows, key and value each (no value: a tombstone), to librdkafka. `bytes` is their size together, `count` their number.
    pub fn produce<'a>(
        &self,
        topic: &mut Topic,
        rows: impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
        count: usize,
        bytes: usize,
    ) -> Result<()> {
        self.shared.produced_rows.fetch_add(count as u64, Ordering::SeqCst);
        self.shared.produced_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        let (taken, refused) = topic.produce(rows);
        if taken == count {
            return Ok(());
        }
        let error = match (self.fatal(), refused) {
            (Some(error), _) => error,
            (None, Some(code)) => from_code(self.what("a row cannot be written"), code, ""),
            (None, None) => Error::internal("librdkafka took fewer rows than it was given"),
        };
        self.shared.fail(error.clone());
        Err(error)
    }

    /// Hands one record to librdkafka, with headers if it has some.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let bytes = record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        self.shared.produced_rows.fetch_add(1, Ordering::SeqCst);
        self.shared.produced_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        let Err((refused, _)) = self.client()?.send(record) else { return Ok(()) };
        let error = self.fatal().unwrap_or_else(|| from_kafka(self.what("a record cannot be written"), &refused));
        self.shared.fail(error.clone());
        Err(error)
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

/// The fault that made librdkafka give the client up, such as being fenced.
fn fatal(client: &BaseProducer<Events>) -> Option<Error> {
    let (code, reason) = client.client().fatal_error()?;
    Some(from_code("the kafka producer failed", code, &reason))
}

impl Shared {
    fn count(&self, client: &BaseProducer<Events>, reports: &native::Reports) {
        self.delivered_rows.fetch_add(reports.delivered, Ordering::SeqCst);
        self.failed_rows.fetch_add(reports.failed, Ordering::SeqCst);
        self.reported_bytes.fetch_add(reports.bytes, Ordering::SeqCst);
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
pub(super) async fn settle(producer: &Arc<Producer>, limit: Duration) -> Result<()> {
    let producer = Arc::clone(producer);
    blocking(move || producer.settle(limit)).await
}

/// The error for a call of the safe wrapper that failed.
pub(super) fn call_error(producer: &Producer, what: &str, error: &rdkafka::error::KafkaError) -> Error {
    producer.fatal().unwrap_or_else(|| from_kafka(producer.what(what), error))
}

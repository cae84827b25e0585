//! One Kafka transaction after another, shared by all sinks of a pipeline into one cluster.
//!
//! The transaction itself is the commit record: it holds the rows, the marker that names the epoch, and, for sources in the
//! same cluster, the offsets of their groups. Whatever dies when, the broker has decided once `init_transactions` returns,
//! and the marker says how.
//!
//! ```text
//!  recover: init_transactions (fences) ─► commit our name as the owner ─► begin ─► read the last marker
//!  commit:  all rows reported? ─► marker ─► offsets ─► commit_transaction ─► begin
//! ```
//!
//! The rule that must stay true: **a call whose outcome is unknown is never repeated.** The producer is given up and the
//! job recovers from the marker.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::sink::{Committer, Marker, SourceProgress};
use laminar_core::{Code, Error, Position, Result, SplitId};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use tokio::time::timeout;

use super::marker;
use super::record::{Carries, Record};
use super::{Producer, call_error};
use crate::kafka::admin;
use crate::kafka::client::error::{from_code, is_refusal};
use crate::kafka::client::{Cluster, REACH, blocking, metadata, release};
use crate::kafka::native::{self, TransactionError};
use crate::kafka::source::offset_list;

/// How long the broker may take to decide what our predecessor left open.
const INIT: Duration = Duration::from_secs(60);

/// Shortest time after which the broker aborts a transaction that nobody ends.
pub(crate) const MIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the coordinators of groups may take to answer. When one's broker dies, librdkafka 2.12 waits until some other connection
/// changes its state, whatever limit it was given (`rd_kafka_coord_req_fsm`): a new client asks anew who it is now.
const OFFSETS: Duration = Duration::from_secs(15);

/// For librdkafka to keep that limit itself, where it does.
const GRACE: Duration = Duration::from_secs(2);

/// A newcomer commits its name right after it fenced us: this long after, it stands there.
const NEWCOMER: Duration = Duration::from_secs(2);

/// The transactions of this process, so that all sinks of a pipeline into a cluster get the same one.
#[derive(Default)]
pub(crate) struct Transactions {
    open: Mutex<HashMap<(String, String), Weak<Transaction>>>,
    /// The name that we committed last, by transactional id and cluster: whoever restarts by itself looks whether it is
    /// still there before it fences anybody.
    owners: Mutex<HashMap<(String, String), String>>,
}

impl Transactions {
    /// The transaction of `ctx`'s pipeline in `cluster`. One that a job has taken is left to it: this sink belongs to
    /// another graph, which may have other settings.
    ///
    /// Errors: `conflicting_options` if another sink of the graph has other client settings: they share one producer.
    pub fn get(self: &Arc<Self>, cluster: &Cluster, ctx: &SinkContext) -> Result<Arc<Transaction>> {
        let transactional_id = format!("laminar.{}.{}", ctx.instance, ctx.pipeline);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, transaction| transaction.strong_count() > 0);
        let key = (transactional_id.clone(), cluster.name().to_string());
        if let Some(transaction) = open.get(&key).and_then(Weak::upgrade).filter(|t| !t.is_taken()) {
            if !transaction.identity.cluster.is_same_client(cluster) {
                let what = format!(
                    "two sinks of a pipeline write to kafka at {} with different client settings",
                    cluster.name()
                );
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_detail("they share one transaction, and so one client")
                    .with_hint(
                        "give both sinks the same linger_ms, batch.max_bytes, max_inflight and librdkafka properties",
                    ));
            }
            return Ok(transaction);
        }
        let timeout = MIN_TIMEOUT.max(ctx.checkpoint_interval * 3);
        let transaction = Arc::new(Transaction {
            identity: Arc::new(Identity { transactional_id, cluster: cluster.clone(), timeout }),
            producer: Mutex::new(None),
            owner: Mutex::new(None),
            cluster_id: Mutex::new(None),
            taken: AtomicBool::new(false),
            all: Arc::clone(self),
        });
        open.insert(key, Arc::downgrade(&transaction));
        Ok(transaction)
    }

    /// The transaction that the pipeline's sinks have in `cluster`, whatever the settings of their client; a new one if there is
    /// none. For dead letters, whose client settings are those of a source.
    pub fn join(self: &Arc<Self>, cluster: &Cluster, ctx: &SinkContext) -> Result<Arc<Transaction>> {
        let key = (format!("laminar.{}.{}", ctx.instance, ctx.pipeline), cluster.name().to_string());
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&key).and_then(Weak::upgrade);
        match open.filter(|transaction| !transaction.is_taken()) {
            Some(transaction) => Ok(transaction),
            None => self.get(cluster, ctx),
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<(String, String), String>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two lists of brokers that lead to one cluster would fence each other for ever.
    fn claim(&self, ours: &Transaction, cluster_id: &str) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for other in open.values().filter_map(Weak::upgrade) {
            let (theirs, mine) = (&other.identity, &ours.identity);
            let same = theirs.transactional_id == mine.transactional_id && theirs.cluster.name() != mine.cluster.name();
            if same && other.cluster_id().as_deref() == Some(cluster_id) {
                let what = format!("{} and {} are the same kafka cluster", theirs.cluster.name(), mine.cluster.name());
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_hint("give all sinks of a pipeline into one cluster the same bootstrap_servers")
                    .with_field("bootstrap_servers"));
            }
        }
        *ours.cluster_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster_id.to_string());
        Ok(())
    }
}

/// The transactions of one pipeline in one cluster.
pub(crate) struct Transaction {
    identity: Arc<Identity>,
    producer: Mutex<Option<Arc<Producer>>>,
    /// The name under which we recovered last.
    owner: Mutex<Option<String>>,
    cluster_id: Mutex<Option<String>>,
    /// A job runs with it.
    taken: AtomicBool,
    all: Arc<Transactions>,
}

/// Whose transactions they are, and where.
struct Identity {
    /// The same after every restart: a newcomer fences the old one. Also the marker's key.
    transactional_id: String,
    cluster: Cluster,
    timeout: Duration,
}

impl Transaction {
    /// What is prepared too late is not committed: then nobody waits for it any more.
    async fn prepare_and_end(
        &self,
        producer: &Arc<Producer>,
        value: Vec<u8>,
        sources: Vec<SourceProgress>,
    ) -> Result<()> {
        let (identity, used) = (Arc::clone(&self.identity), Arc::clone(producer));
        let prepared = blocking(move || identity.prepare(&used, &value, &sources));
        timeout(OFFSETS + GRACE, prepared).await.unwrap_or_else(|_| {
            let what = format!("kafka at {}: the transaction was not committed", self.identity.cluster.name());
            Err(Error::new(Code::CommitUnknown, what)
                .with_detail("the coordinator of a consumer group does not answer"))
        })?;
        let (identity, used) = (Arc::clone(&self.identity), Arc::clone(producer));
        blocking(move || identity.end(&used)).await
    }

    /// For a job, whose graph is complete: no further sink joins.
    pub fn take(self: &Arc<Self>) -> Arc<Self> {
        self.taken.store(true, Ordering::Relaxed);
        Arc::clone(self)
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The producer whose transaction is open.
    pub fn producer(&self) -> Result<Arc<Producer>> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        producer.ok_or_else(|| Error::internal("a kafka sink was opened before its transactions were recovered"))
    }

    /// How long rows may take to be acknowledged; later, the broker has aborted them.
    pub fn timeout(&self) -> Duration {
        self.identity.timeout
    }

    fn cluster_id(&self) -> Option<String> {
        self.cluster_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The error as it is, except that "fenced" by nobody else means that the broker gave our transaction up: then the
    /// job may recover.
    pub async fn explain(&self, error: Error) -> Error {
        if error.code() != Code::Fenced {
            return error;
        }
        let ours = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::time::sleep(NEWCOMER).await;
        match marker::read(&self.identity.cluster, &self.identity.transactional_id).await {
            Ok(progress) if ours.is_some() && progress.owner == ours => {
                let what =
                    format!("kafka at {}: the transaction was aborted by the broker", self.identity.cluster.name());
                let limit = self.identity.timeout.as_secs();
                Error::new(Code::CommitUnknown, what)
                    .with_detail(format!("it stayed open for longer than {limit} s, as when this process is paused"))
            }
            Ok(_) => {
                if let Some(ours) = ours {
                    self.lost(&ours);
                }
                error
            }
            Err(unknown) => unknown,
        }
    }

    /// Does the topic still name us, if it ever did? A job that restarts by itself must not fence whoever took over
    /// meanwhile, as when this process was paused and heard nothing of it.
    ///
    /// Errors: `fenced`, once: a start after that is a person's wish, and takes over.
    async fn check_owner(&self) -> Result<()> {
        let Some(ours) = self.all.owners().get(&self.key()).cloned() else { return Ok(()) };
        let there = marker::read(&self.identity.cluster, &self.identity.transactional_id).await?.owner;
        if there.as_ref().is_none_or(|there| *there == ours) {
            return Ok(());
        }
        self.lost(&ours);
        let what = format!("kafka at {}: another instance runs this pipeline", self.identity.cluster.name());
        Err(Error::new(Code::Fenced, what)
            .with_detail("it took over while this one was paused or could not reach the broker")
            .with_hint("stop one of the two; START PIPELINE takes the pipeline back"))
    }

    /// Another instance is the owner: forgets that this process was, unless it is again.
    fn lost(&self, ours: &str) {
        let mut owners = self.all.owners();
        if owners.get(&self.key()).is_some_and(|last| last == ours) {
            owners.remove(&self.key());
        }
    }

    fn key(&self) -> (String, String) {
        (self.identity.transactional_id.clone(), self.identity.cluster.name().to_string())
    }

    fn replace(&self, producer: Option<Arc<Producer>>) {
        let old = std::mem::replace(&mut *self.producer.lock().unwrap_or_else(PoisonError::into_inner), producer);
        old.into_iter().for_each(release);
    }
}

/// The calls that wait for the broker; each blocks.
impl Identity {
    fn cluster_id(&self) -> Result<String> {
        let client = self.cluster.inspector("read_committed")?;
        // Metadata brings the id with it; waiting for the id alone would not end when we are refused.
        metadata(&self.cluster, &client, Some(marker::TOPIC), REACH)?;
        client.client().fetch_cluster_id(REACH).ok_or_else(|| self.cluster.unreachable(client.context()))
    }

    /// A producer that fenced its predecessors, with no transaction open.
    fn initialise(&self) -> Result<Producer> {
        let timeout_ms = self.timeout.as_millis().to_string();
        let settings =
            [("transactional.id", self.transactional_id.as_str()), ("transaction.timeout.ms", timeout_ms.as_str())];
        let producer = Producer::new(&self.cluster, &settings)?;
        let initialised = producer.client()?.init_transactions(INIT);
        initialised.map_err(|error| self.init_error(&producer, &error))?;
        Ok(producer)
    }

    fn init_error(&self, producer: &Producer, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::InvalidTransactionTimeout) => timeout_too_long(&self.cluster, self.timeout, None),
            Some(RDKafkaErrorCode::OperationTimedOut) => match producer.client() {
                Ok(client) => self.cluster.unreachable(client.context()),
                Err(error) => error,
            },
            _ => call_error(producer, "transactions cannot be used", error),
        }
    }

    fn begin(producer: &Producer) -> Result<()> {
        let begun = producer.client()?.begin_transaction();
        begun.map_err(|e| call_error(producer, "no transaction can be begun", &e))
    }

    /// All that belongs into the transaction besides the rows. Blocks, perhaps for longer than [`OFFSETS`].
    fn prepare(&self, producer: &Producer, value: &[u8], sources: &[SourceProgress]) -> Result<()> {
        producer.check_counts()?;
        Self::note(producer, &self.transactional_id, value)?;
        for (group_id, positions) in groups(sources, self.cluster.name()) {
            let positions: Vec<_> = positions.into_iter().collect();
            native::send_offsets(producer.client()?, &group_id, &offset_list(&positions)?, limit_ms(OFFSETS))
                .map_err(|e| self.commit_error(&format!("offsets of group {group_id} cannot be committed"), &e))?;
        }
        Ok(())
    }

    /// Commits our name as the owner's.
    fn own(&self, producer: &Producer, owner: &str) -> Result<()> {
        Self::begin(producer)?;
        Self::note(producer, &marker::owner_key(&self.transactional_id), owner.as_bytes())?;
        self.end(producer)
    }

    /// Writes a record about this pipeline into the open transaction.
    fn note(producer: &Producer, key: &str, value: &[u8]) -> Result<()> {
        let mut topic = producer.topic(marker::TOPIC, &[])?;
        let record = Record::new(Some(key.as_bytes()), Some(value));
        producer.produce(&mut topic, std::iter::once(record), Carries::Plain, 1, record.len())
    }

    /// Commits the open transaction and begins the next.
    fn end(&self, producer: &Producer) -> Result<()> {
        producer.settle(self.timeout)?;
        producer.check_counts()?;
        native::commit_transaction(producer.client()?, limit_ms(self.timeout))
            .map_err(|e| self.commit_error("the transaction was not committed", &e))?;
        Self::begin(producer)
    }

    fn commit_error(&self, what: &str, error: &TransactionError) -> Error {
        let what = format!("kafka at {}: {what}", self.cluster.name());
        let mapped = from_code(what.clone(), error.code, &error.text);
        if mapped.code() == Code::Fenced || is_refusal(error.code) {
            return mapped;
        }
        let detail = match (error.fatal, error.aborted) {
            (true, _) => "the client cannot go on",
            (_, true) => "it must be aborted",
            _ => "its outcome is unknown",
        };
        let unknown = Error::new(Code::CommitUnknown, what).with_detail(format!("{}; {detail}", error.text));
        match mapped.hint() {
            Some(hint) => unknown.with_hint(hint),
            None => unknown,
        }
    }
}

fn limit_ms(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
}

#[async_trait]
impl Committer for Transaction {
    fn id(&self) -> &str {
        self.identity.cluster.name()
    }

    async fn recover(&self) -> Result<Option<Marker>> {
        self.replace(None);
        let identity = Arc::clone(&self.identity);
        let cluster_id = blocking(move || identity.cluster_id()).await?;
        self.all.claim(self, &cluster_id)?;
        let cluster = &self.identity.cluster;
        admin::ensure_progress_topic(cluster, marker::TOPIC).await?;
        self.check_owner().await?;

        let identity = Arc::clone(&self.identity);
        let producer = Arc::new(blocking(move || identity.initialise()).await?);
        let owner = format!("{:032x}", rand::random::<u128>());
        let (identity, used, name) = (Arc::clone(&self.identity), Arc::clone(&producer), owner.clone());
        blocking(move || identity.own(&used, &name)).await?;
        let last = marker::read(cluster, &self.identity.transactional_id).await?.marker;
        self.all.owners().insert(self.key(), owner.clone());
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
        self.replace(Some(producer));
        tracing::info!(
            cluster = cluster.name(),
            transactional_id = self.identity.transactional_id,
            epoch = last.as_ref().map(|m| m.epoch.0),
            "kafka transactions recovered"
        );
        Ok(last)
    }

    async fn commit(&self, marker: &Marker, sources: &[SourceProgress]) -> Result<()> {
        let producer = self.producer()?;
        let value = marker::encode(marker)?;
        let _waits = producer.committing();
        let outcome = self.prepare_and_end(&producer, value, sources.to_vec()).await;
        let Err(error) = outcome else { return Ok(()) };
        // Whatever the broker decided, this producer must not decide again.
        let error = self.explain(error).await;
        producer.fail(error.clone());
        self.replace(None);
        Err(error)
    }
}

/// The smallest position of each split, by group, for the groups of this cluster. Two sources of a pipeline may read the
/// same split for the same group.
fn groups(sources: &[SourceProgress], cluster: &str) -> BTreeMap<String, BTreeMap<SplitId, Position>> {
    let mut groups: BTreeMap<String, BTreeMap<SplitId, Position>> = BTreeMap::new();
    for source in sources {
        let Some(group) = source.group.as_ref().filter(|group| group.cluster == cluster) else { continue };
        for (split, position) in &source.positions {
            let known = groups.entry(group.group_id.clone()).or_default().entry(split.clone()).or_insert(*position);
            *known = (*known).min(*position);
        }
    }
    groups
}

/// The error for a broker that does not allow transactions as long as ours.
pub(crate) fn timeout_too_long(cluster: &Cluster, ours: Duration, broker_ms: Option<&str>) -> Error {
    let what = format!("kafka at {} does not allow transactions of {} s", cluster.name(), ours.as_secs());
    let error = Error::new(Code::InvalidOption, what).with_hint(format!(
        "set transaction.max.timeout.ms of the broker to at least {}, shorten checkpoint_interval, or use delivery = 'at_least_once'",
        ours.as_millis()
    ));
    match broker_ms {
        Some(ms) => error.with_detail(format!("its transaction.max.timeout.ms is {ms}")),
        None => error.with_detail("they last three checkpoint intervals, and at least a minute"),
    }
}

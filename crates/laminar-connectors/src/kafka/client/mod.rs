//! What every Kafka client of ours shares: the cluster's name and settings, what librdkafka tells us outside of calls,
//! and metadata with a bound on waiting.
//!
//! librdkafka hides most failures behind reconnecting: a call to an unreachable broker only times out, and the reason
//! ("connection refused") comes as an event. [`Events`] keeps the last one, so that our error can say it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use laminar_core::{Code, Error, Health, Result};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientConfig, Statistics, TopicPartitionList};

use crate::kafka::native::{self, AnyClient};
use error::{from_code, from_kafka};
use options::Protocol;
use property_names::{PROPERTIES, Scope};
use token::{Token, Tokens};

mod diagnosis;
pub(super) mod error;
pub(super) mod login;
pub(super) mod options;
mod probe;
pub(super) mod properties;
mod property_names;
pub(super) mod token;

/// How long a statement waits for a broker to answer.
pub(crate) const REACH: Duration = Duration::from_secs(6);

/// How long a broker may take to answer before its port is asked what it speaks.
const PATIENCE: Duration = Duration::from_millis(1500);

const DEFAULT_PORT: u16 = 9092;

/// One Kafka cluster and how to talk to it.
#[derive(Clone)]
pub(crate) struct Cluster {
    name: Arc<str>,
    servers: Vec<String>,
    protocol: Protocol,
    /// librdkafka's properties: security, and what the user passes on. Holds passwords.
    config: Vec<(String, String)>,
    /// With which clients log in, where that takes tokens.
    tokens: Option<Arc<Tokens>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.name)
    }
}

impl Cluster {
    pub fn new(servers: Vec<String>, protocol: Protocol, config: Vec<(String, String)>) -> Self {
        let mut sorted = servers.clone();
        sorted.sort();
        sorted.dedup();
        Self { name: sorted.join(",").into(), servers, protocol, config, tokens: None }
    }

    /// The same cluster, to which clients log in with tokens.
    #[must_use]
    pub fn with_tokens(self, tokens: Option<Arc<Tokens>>) -> Self {
        Self { tokens, ..self }
    }

    /// Splits `host:port,…`; a missing port is 9092. The error says what is wrong with the text.
    pub fn servers(text: &str) -> std::result::Result<Vec<String>, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let servers: Vec<String> = parts.map(normalize_server).collect::<std::result::Result<_, _>>()?;
        if servers.is_empty() { Err("expected host:port, several separated by commas".into()) } else { Ok(servers) }
    }

    /// The same text for the same list of servers, in any order.
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    pub fn server_list(&self) -> &[String] {
        &self.servers
    }

    /// The user's value of a property.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.config.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Would a client of `other` be set up in the same way?
    pub fn is_same_client(&self, other: &Cluster) -> bool {
        let sorted = |cluster: &Cluster| {
            let mut config = cluster.config.clone();
            config.sort();
            config
        };
        let same_tokens = match (&self.tokens, &other.tokens) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (None, None) => true,
            _ => false,
        };
        self.name == other.name && sorted(self) == sorted(other) && same_tokens
    }

    /// Adds a property if the user did not.
    pub fn set_default(&mut self, key: &str, value: &str) {
        if self.get(key).is_none() {
            self.config.push((key.to_string(), value.to_string()));
        }
    }

    /// Settings of a client: `defaults`, over them the user's that such a client has, over them `fixed`, which are not the
    /// user's to choose.
    pub fn config(&self, client: ClientKind, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "laminar");
        config.set("log.connection.close", "false");
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("topic.metadata.propagation.max.ms", "5000");
        defaults.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        self.config.iter().filter(|(key, _)| client.has(key)).for_each(|(key, value)| {
            config.set(key, value);
        });
        // One fixed interval is both: librdkafka refuses a first wait that is longer than the longest.
        if let (Some(wait), None) = (self.get("reconnect.backoff.ms"), self.get("reconnect.backoff.max.ms")) {
            config.set("reconnect.backoff.max.ms", wait);
        }
        fixed.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        config.set("bootstrap.servers", self.servers.join(","));
        config
    }

    /// A client that only asks about the cluster. `read_uncommitted` sees ends beyond open transactions.
    pub fn inspector(&self, isolation: &str) -> Result<BaseConsumer<Events>> {
        self.create(&self.config(
            ClientKind::Consumer,
            &[],
            &[("isolation.level", isolation), ("allow.auto.create.topics", "false")],
        ))
    }

    /// A client whose questions about a missing topic create it, if the broker does such things.
    pub fn topic_creator(&self) -> Result<BaseConsumer<Events>> {
        self.create(&self.config(ClientKind::Consumer, &[], &[("allow.auto.create.topics", "true")]))
    }

    /// Errors: `invalid_option` for files that cannot be used; what [`Tokens::first`] says.
    pub fn create<T: FromClientConfigAndContext<Events> + AnyClient>(&self, config: &ClientConfig) -> Result<T> {
        // Before the client exists: why there is none is better said now than by a broker.
        let token = self.tokens.as_ref().map(|tokens| tokens.first()).transpose()?;
        let created: KafkaResult<T> = config.create_with_context(Events::new(self));
        let client = created.map_err(|e| self.creation_error(&e))?;
        if let Some(token) = token {
            client.inner_client().context().use_token(client.inner_client(), &token)?;
        }
        Ok(client)
    }

    fn creation_error(&self, error: &KafkaError) -> Error {
        let mapped = from_kafka(format!("cannot make a client for kafka cluster {}", self.name), error);
        let detail = mapped.detail().unwrap_or_default().to_string();
        // Files are first opened here; librdkafka names the property.
        let file = self.config.iter().find(|(key, _)| key.ends_with(".location") && detail.contains(key.as_str()));
        let Some((key, path)) = file else { return mapped };
        let hint = match (std::fs::metadata(path).is_ok(), detail.as_str()) {
            (false, _) => format!("is there a file {path} on the server, and may the server read it?"),
            (true, text) if text.contains("key values mismatch") => {
                format!("{path} is not the key of the certificate in ssl.certificate.location")
            }
            (true, _) if key == "ssl.key.location" && self.get("ssl.key.password").is_none() => {
                format!("{path} must be a PEM file; if it has a password, set ssl.key.password")
            }
            (true, _) if key == "ssl.key.location" => {
                format!("{path} must be a PEM file, and ssl.key.password its password")
            }
            (true, _) => format!("{path} must be a PEM file"),
        };
        mapped.with_hint(hint).with_field(key)
    }

    /// The error for a broker that did not answer in time. Blocks while a port is asked what it speaks.
    pub fn unreachable(&self, events: &Events) -> Error {
        let refused = events.refused();
        if let Some(error) = refused.as_ref().filter(|error| error.code() != Code::TlsFailed) {
            return error.clone();
        }
        let asked = if events.has_failed() { diagnosis::ask(self) } else { None };
        if let Some(error) = asked.or(refused) {
            return error;
        }
        let error = Error::new(Code::Unreachable, format!("cannot reach kafka at {}", self.servers.join(",")))
            .with_hint("check bootstrap_servers, and that the broker's advertised.listeners can be reached from here")
            .with_field("bootstrap_servers");
        match events.last_reason() {
            Some(reason) => error.with_detail(reason),
            None => error.with_detail("no answer in time"),
        }
    }
}

/// librdkafka has two kinds, and warns of properties that are the other's. An admin client is a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Consumer,
    Producer,
}

impl ClientKind {
    fn has(self, property: &str) -> bool {
        let others = if self == Self::Consumer { Scope::Producer } else { Scope::Consumer };
        !PROPERTIES.iter().any(|(name, scope, _)| *name == property && *scope == others)
    }
}

fn normalize_server(part: &str) -> std::result::Result<String, String> {
    let bare = part.split_once("://").map_or(part, |(_, rest)| rest);
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => (host, Some(port)),
        _ => (bare, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => DEFAULT_PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(format!("{part} has no valid port")),
    };
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(legal) {
        return Err(format!("{part} is not host:port"));
    }
    Ok(format!("{}:{port}", host.to_lowercase()))
}

/// What a client tells outside of calls.
pub(crate) struct Events {
    cluster: Arc<str>,
    tokens: Option<Arc<Tokens>>,
    /// When the token that the client has ends, in ms since 1970.
    token_until: AtomicI64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last_reason: Option<String>,
    /// No broker can be reached, in librdkafka's words.
    outage: Option<String>,
    refused: Option<Error>,
    broken: Option<Error>,
}

impl Events {
    fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: Arc::clone(&cluster.name),
            tokens: cluster.tokens.clone(),
            token_until: AtomicI64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Gives the client a new token once there is one. Never waits; called now and then for every client that lives on.
    pub fn refresh_token(&self, client: &Client<Events>) {
        let Some(tokens) = &self.tokens else { return };
        if let Some(token) = tokens.newer(self.token_until.load(Ordering::Relaxed))
            && let Err(error) = self.use_token(client, &token)
        {
            self.seen().refused.get_or_insert(error);
        }
    }

    fn use_token(&self, client: &Client<Events>, token: &Token) -> Result<()> {
        let extensions = self.tokens.as_ref().map(|tokens| tokens.extensions.as_slice()).unwrap_or_default();
        self.token_until.store(token.expires_ms, Ordering::Relaxed);
        let used = native::set_token(client, &token.value, &token.principal, token.expires_ms, extensions);
        used.map_err(|text| {
            Error::new(Code::InvalidOption, format!("the token for kafka at {} cannot be used", self.cluster))
                .with_detail(text)
        })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Why the last connection failed.
    pub fn last_reason(&self) -> Option<String> {
        self.seen().last_reason.clone()
    }
    /// Why no broker can be reached now.
    pub fn outage(&self) -> Option<String> {
        let seen = self.seen();
        let said = seen.outage.as_ref()?;
        Some(seen.last_reason.as_ref().unwrap_or(said).clone())
    }
    /// A connection failed, or all did without a word. Else no answer means that the brokers are slow.
    fn has_failed(&self) -> bool {
        let seen = self.seen();
        seen.last_reason.is_some() || seen.outage.is_some() || seen.refused.is_some()
    }
    /// A broker answered.
    pub fn is_reached(&self) {
        self.seen().outage = None;
    }
    /// The broker refused our login or rights.
    pub fn refused(&self) -> Option<Error> {
        self.seen().refused.clone()
    }
    /// The client cannot go on: refused, or a fault that librdkafka calls fatal.
    pub fn fatal(&self) -> Option<Error> {
        let seen = self.seen();
        seen.broken.clone().or_else(|| seen.refused.clone())
    }
}

/// It knows the client's credentials.
impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.cluster)
    }
}

/// For a client that asks all the time, as a consumer does: one with nothing to send would not hear that the brokers are back.
impl Health for Events {
    fn trouble(&self) -> Option<String> {
        self.outage()
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error as Failed, Info, Notice, Warning};
        match level {
            // What an error line says comes as an event too, and is logged there.
            Emerg | Alert | Critical | Failed => tracing::debug!(cluster = %self.cluster, facility, "{text}"),
            Warning => tracing::warn!(cluster = %self.cluster, facility, "{text}"),
            Notice | Info => tracing::debug!(cluster = %self.cluster, facility, "{text}"),
            Debug => tracing::trace!(cluster = %self.cluster, facility, "{text}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // Every broker being down follows from what was, or will be, said about each: that is the reason.
        let mut seen = self.seen();
        match code == Some(RDKafkaErrorCode::AllBrokersDown) {
            true => seen.outage = Some(reason.trim().to_string()),
            false => seen.last_reason = Some(reason.trim().to_string()),
        }
        drop(seen);
        match code {
            Some(RDKafkaErrorCode::Fatal) => {
                let what = format!("the client of kafka at {} failed", self.cluster);
                self.seen().broken = Some(from_code(what, RDKafkaErrorCode::Fatal, reason));
            }
            Some(code) => {
                if let Some(refused) = diagnosis::said(&self.cluster, code, reason) {
                    // A token that could not be renewed is refused; why it could not is what to act on.
                    let why = self.tokens.as_ref().and_then(|tokens| tokens.failure());
                    if let Some(tokens) = self.tokens.as_ref().filter(|_| refused.code() == Code::AuthenticationFailed)
                    {
                        tokens.forget(self.token_until.load(Ordering::Relaxed));
                    }
                    self.seen().refused = Some(why.unwrap_or(refused));
                }
            }
            None => {}
        }
        tracing::warn!(cluster = %self.cluster, "{reason}");
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(cluster = %self.cluster, %error, "offsets were not committed to the group; the checkpoint has them");
        }
    }
}

impl ProducerContext for Events {
    type DeliveryOpaque = ();
    /// Reports are counted by `producer`; only those of a producer that is being dropped come here.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What the cluster says of itself and of `topic`, or of every topic. Blocks at most `limit`, less if we are refused.
///
/// Errors: `unreachable`, `authentication_failed`.
pub(crate) fn metadata(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    topic: Option<&str>,
    limit: Duration,
) -> Result<Metadata> {
    let (deadline, mut ask_at) = (Instant::now() + limit, Some(Instant::now() + PATIENCE));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let outcome = client.fetch_metadata(topic, left.clamp(Duration::from_millis(100), Duration::from_millis(500)));
        drain_events(client);
        match outcome {
            Ok(metadata) => return Ok(metadata),
            Err(_) if client.context().refused().is_some() || left.is_zero() => {
                return Err(cluster.unreachable(client.context()));
            }
            // A port that wants TLS or a login hangs up without a word; one that hangs up on nobody is slow.
            Err(_) if client.context().has_failed() && ask_at.is_some_and(|at| at < Instant::now()) => {
                ask_at = None;
                if let Some(error) = diagnosis::ask(cluster) {
                    return Err(error);
                }
            }
            Err(_) => {}
        }
    }
}

/// Partition numbers of a topic, ascending. Blocks at most `limit`.
///
/// Errors: `unreachable`, `authentication_failed`, `unknown_topic`.
pub(crate) fn partitions(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    topic: &str,
    limit: Duration,
) -> Result<Vec<i32>> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match topic_partitions(&metadata(cluster, client, Some(topic), left)?, topic) {
            Ok(partitions) => return Ok(partitions),
            Err(code) if creating(code) && !left.is_zero() => std::thread::sleep(Duration::from_millis(100)),
            Err(code) => return Err(topic_error(cluster, topic, code)),
        }
    }
}

/// Lets the client say what happened meanwhile.
pub(crate) fn drain_events(client: &BaseConsumer<Events>) {
    client.context().refresh_token(client.client());
    for _ in 0..16 {
        client.poll(Duration::ZERO);
    }
}

fn topic_partitions(metadata: &Metadata, topic: &str) -> Result<Vec<i32>, RDKafkaErrorCode> {
    let found =
        metadata.topics().iter().find(|t| t.name() == topic).ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    if let Some(code) = found.error() {
        return Err(code.into());
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    partitions.sort_unstable();
    if partitions.is_empty() { Err(RDKafkaErrorCode::UnknownTopicOrPartition) } else { Ok(partitions) }
}

/// A topic that is just being created has no leader yet.
fn creating(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::LeaderNotAvailable)
}

fn topic_error(cluster: &Cluster, topic: &str, code: RDKafkaErrorCode) -> Error {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            Error::new(Code::UnknownTopic, format!("kafka at {} has no topic {topic}", cluster.name()))
                .with_hint("create the topic, or name another")
                .with_field("topic")
        }
        code => from_code(format!("topic {topic} of kafka at {} cannot be used", cluster.name()), code, ""),
    }
}

/// Runs a call of librdkafka that waits, away from the threads that move rows.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a call to kafka did not return: {error}"))),
    }
}

/// Drops a client away from the threads that move rows: closing one waits for the broker.
pub(crate) fn drop_elsewhere<T: Send + 'static>(client: T) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
        Err(_) => drop(client),
    }
}

/// Gives up a share of a client; closing it waits, which the last holder lets others do.
pub(crate) fn release<T: Send + Sync + 'static>(client: Arc<T>) {
    if let Some(last) = Arc::into_inner(client) {
        drop_elsewhere(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: std::result::Result<&str, &str>) {
        let cluster =
            Cluster::servers(text).map(|s| Cluster::new(s, Protocol::Plaintext, Vec::new()).name().to_string());
        assert_eq!(cluster.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn the_name_of_a_cluster_does_not_depend_on_how_it_is_written() {
        check("b:9093, A ,b:9093", Ok("a:9092,b:9093"));
        check("PLAINTEXT://b:9093", Ok("b:9093"));
        check("[::1]:9094", Ok("[::1]:9094"));
        check("", Err("expected host:port, several separated by commas"));
        check("host:port", Err("host:port has no valid port"));
        check("a b:9092", Err("a b:9092 is not host:port"));
    }
}

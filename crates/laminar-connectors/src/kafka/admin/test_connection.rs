//! Does the cluster answer, and has it what the options name? Step by step for a person, as one answer for CREATE TABLE.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use laminar_core::connector::{Role, TestStage};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Result};
use laminar_formats::{FormatContext, FormatOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{broker_creates, broker_setting, creation_hint, topic_exists};
use crate::kafka::client::error::{from_kafka, passes};
use crate::kafka::client::{ClientKind, Cluster, Events, REACH, blocking, metadata, partitions};
use crate::kafka::native;
use crate::kafka::options::Written;
use crate::kafka::producer::transaction::{MIN_TIMEOUT, timeout_too_long};
use crate::kafka::sink::options::{EncodingOptions, SinkSettings};
use crate::kafka::source::PREVIEW_GROUP;
use crate::kafka::source::options::{OnDataLoss, SourceSettings};
use crate::kafka::topics::Topics;
use crate::schema_registry::{Patience, format_context};
use laminar_formats::registry::{Framing, GLUE_HEADER};

const CONNECT: Duration = Duration::from_secs(5);
const REACH_MS: i32 = 6000;
/// A subject that a registry is asked for to see whether it answers.
const NO_SUBJECT: &str = "laminar-connection-test";

/// Are the topics there? Those of a pattern may come later.
pub(crate) async fn check_source(settings: &SourceSettings) -> Result<()> {
    check_registry(&settings.format, &settings.encoding, settings.formats(Patience::Statement)?).await?;
    let (cluster, topics) = (settings.cluster.clone(), settings.topics.clone());
    blocking(move || {
        let client = cluster.inspector("read_committed")?;
        topics.find(&cluster, &client, OnDataLoss::Fail).map(drop)
    })
    .await
}

/// Is the topic there, or will it be created, and does the broker allow our transactions?
pub(crate) async fn check_sink(settings: &SinkSettings, delivery: Delivery) -> Result<()> {
    check_registry(&settings.format, &settings.encoding, settings.formats(Patience::Statement)?).await?;
    let cluster = &settings.cluster;
    if let Some(topic) = &settings.topic
        && settings.creation.auto_create != Some(true)
        && !topic_exists(cluster, topic).await?
        && (settings.creation.auto_create == Some(false) || broker_creates(cluster).await? == Some(false))
    {
        return Err(Error::new(Code::UnknownTopic, format!("kafka at {} has no topic {topic}", cluster.name()))
            .with_hint(creation_hint())
            .with_field("topic"));
    }
    if delivery == Delivery::AtLeastOnce {
        return Ok(());
    }
    let allowed = broker_setting(cluster, "transaction.max.timeout.ms").await?;
    match allowed.as_deref().map(|ms| (ms, ms.parse::<u128>())) {
        Some((text, Ok(ms))) if ms < MIN_TIMEOUT.as_millis() => Err(timeout_too_long(cluster, MIN_TIMEOUT, Some(text))),
        _ => Ok(()),
    }
}

/// Does the registry answer, where the format of values or keys needs one? That it does not have the subject yet is no error.
async fn check_registry(format: &FormatOptions, encoding: &EncodingOptions, formats: FormatContext) -> Result<()> {
    match ask_registry(format, encoding, formats).await {
        None => Ok(()),
        Some(answer) => answer.map(drop),
    }
}

/// What the registry says of the subject; `None` where it is not asked, as the name of the subject needs a record.
async fn ask_registry(
    format: &FormatOptions,
    encoding: &EncodingOptions,
    formats: FormatContext,
) -> Option<Result<String>> {
    let of_values = format.is_framed(&formats);
    let of_keys = encoding.key_format.is_some_and(|format| format.form().is_registered());
    let table = match (formats.registry?, of_values, of_keys) {
        (table, true, _) => table,
        (table, false, true) => table.of_keys(),
        (_, false, false) => return None,
    };
    let subject = table.known_subject()?;
    let ask = move || match table.registry.latest(&subject) {
        Ok(schema) => Ok(format!("subject {subject} has schema {} in {}", schema.id, schema.kind.name())),
        Err(error) if error.code() == Code::UnknownSchema => Ok(format!("subject {subject} has no schema yet")),
        Err(error) => Err(error),
    };
    Some(blocking(ask).await)
}

/// Does the registry answer, and accept our credentials? `None` without one.
async fn reach_registry(formats: FormatContext) -> Option<Result<String>> {
    let registry = formats.registry?.registry;
    // Asked for what it does not have, as no subject of ours is known, it answers so.
    let ask = move || match registry.latest(NO_SUBJECT) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::UnknownSchema => Ok(()),
        Err(error) => Err(error),
    };
    Some(blocking(ask).await.map(|()| "the schema registry answers".to_string()))
}

/// All stages up to the first that fails.
pub(crate) async fn test(written: Result<Written>) -> Vec<TestStage> {
    let mut stages = Stages(Vec::new());
    let read = written.and_then(|written| Ok((written.cluster()?, written)));
    let Some((cluster, written)) = stages.add("options", read, |_| "well-formed".into()) else { return stages.0 };
    let Some(addresses) = stages.add("dns", resolve(&cluster).await, |found| list(found)) else { return stages.0 };
    let reached = connect(&cluster, &addresses).await;
    if stages.add("tcp", reached, |address| format!("connected to {address}")).is_none() {
        return stages.0;
    }
    let described = describe(&cluster).await;
    let protocol = cluster.protocol();
    // One answer shows that every layer below it works; a refusal is the login's.
    if let Err(error) = &described {
        let stage = match error.code() {
            Code::TlsFailed => "tls",
            Code::AuthenticationFailed => "sasl",
            // No token came.
            Code::Timeout | Code::Unreachable if error.field() == Some(TOKEN_ENDPOINT) => "sasl",
            // Files are opened, and other options read, when the client is made.
            Code::InvalidOption | Code::FileError => "options",
            _ => "metadata",
        };
        if protocol.has_tls() && stage != "tls" && stage != "options" {
            stages.passed("tls", "the connection is encrypted");
        }
        stages.failed(stage, error.clone());
        return stages.0;
    }
    if protocol.has_tls() {
        stages.passed("tls", tls_words(&cluster));
    }
    if protocol.has_login() {
        stages.passed("sasl", "logged in");
    }
    stages.add("metadata", described, |brokers| match brokers {
        1 => "1 broker".to_string(),
        _ => format!("{brokers} brokers"),
    });
    let first = written.source.topic.iter().chain(written.source.topics.iter().flatten()).next();
    let formats = format_context(&written.registry, first.map_or("", String::as_str), Patience::Statement);
    match formats {
        Ok(formats) => {
            match ask_registry(&written.format, &written.encoding, formats.clone()).await {
                Some(answer) => {
                    if stages.add("registry", answer, String::clone).is_none() {
                        return stages.0;
                    }
                }
                // Whether the other stages pass does not depend on it.
                None => {
                    if let Some(answer) = reach_registry(formats).await {
                        stages.add("registry", answer, String::clone);
                    }
                }
            }
        }
        Err(error) => {
            stages.add::<()>("registry", Err(error), |()| String::new());
            return stages.0;
        }
    }
    let topics = match written.topics() {
        Ok(topics) => topics,
        Err(error) => {
            stages.add("topic", Err::<(), _>(error), |()| String::new());
            return stages.0;
        }
    };
    // Those of a pattern that exist now are tried one by one; that there is none yet is no fault.
    let topics = match topics {
        Some(topics) => match found(&cluster, &topics).await {
            Ok(found) => found,
            Err(error) => {
                stages.add("topic", Err::<(), _>(error), |()| String::new());
                return stages.0;
            }
        },
        None => Vec::new(),
    };
    for topic in &topics {
        if !topic_stages(&mut stages, &cluster, topic).await {
            return stages.0;
        }
    }
    // A connection that says what it is for is not asked what the other side needs.
    if written.role() != Some(Role::Source) && !topics.is_empty() {
        let tried = transactions(&cluster).await;
        if stages.add("transactions", tried, |()| "a transactional producer gets its id".into()).is_none() {
            return stages.0;
        }
    }
    if let (Some(topic), true) = (topics.first(), written.role() != Some(Role::Sink)) {
        let sample = sample(&cluster, topic).await;
        stages.add("sample", sample, Clone::clone);
    }
    stages.0
}

/// The topics that are named, whether they exist or not, or those that match.
async fn found(cluster: &Cluster, topics: &Topics) -> Result<Vec<String>> {
    let (cluster, topics) = (cluster.clone(), topics.clone());
    match &topics {
        Topics::Named(names) => Ok(names.clone()),
        Topics::Matching(..) => {
            blocking(move || {
                let client = cluster.inspector("read_committed")?;
                Ok(topics.find(&cluster, &client, OnDataLoss::Fail)?.into_iter().map(|(name, _)| name).collect())
            })
            .await
        }
    }
}

const TOKEN_ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

fn tls_words(cluster: &Cluster) -> &'static str {
    match cluster.get("enable.ssl.certificate.verification") {
        Some("false") => "the connection is encrypted; nobody checks the brokers' certificates",
        _ => "the brokers' certificates are trusted",
    }
}

/// Is the topic there, and may we read and write it? `false` ends the test.
async fn topic_stages(stages: &mut Stages, cluster: &Cluster, topic: &str) -> bool {
    let (asked, name) = (cluster.clone(), topic.to_string());
    let found = blocking(move || {
        let client = asked.inspector("read_committed")?;
        let found = partitions(&asked, &client, &name, REACH)?;
        let rights = native::rights(client.client(), &name, REACH_MS);
        // A broker too old to say lets the first row find out.
        Ok((found.len(), rights.ok().flatten()))
    })
    .await;
    let Some((_, rights)) = stages.add("topic", found, |(count, _)| format!("{topic} has {count} partitions")) else {
        return false;
    };
    let Some(rights) = rights else { return true };
    let user = "this user";
    for (stage, may, verb) in [("read", rights.read, "read"), ("write", rights.write, "write")] {
        match may {
            true => stages.passed(stage, &format!("{user} may {verb} {topic}")),
            false => stages.0.push(TestStage {
                stage: stage.into(),
                // Many users may do only one of the two, and need no more.
                ok: true,
                message: format!("{user} may not {verb} {topic}"),
            }),
        }
    }
    if !rights.read && !rights.write {
        let what = format!("this user may neither read nor write topic {topic}");
        let error = Error::new(Code::AuthenticationFailed, what).with_hint("grant it READ or WRITE on the topic");
        stages.failed("read", error);
        return false;
    }
    true
}

/// Begins as an exactly-once sink does, under a name of its own, and writes nothing.
async fn transactions(cluster: &Cluster) -> Result<()> {
    let cluster = cluster.clone();
    blocking(move || {
        let fixed = [("transactional.id", "laminar.connection-test"), ("transaction.timeout.ms", "60000")];
        let config = cluster.config(ClientKind::Producer, &[], &fixed);
        let producer: BaseProducer<Events> = cluster.create(&config)?;
        let begun = producer.init_transactions(REACH);
        begun.map_err(|e| from_kafka(format!("kafka at {} gives us no transactions", cluster.name()), &e))
    })
    .await
}

/// What the topic's newest record looks like; its content is not shown.
async fn sample(cluster: &Cluster, topic: &str) -> Result<String> {
    let (cluster, topic) = (cluster.clone(), topic.to_string());
    blocking(move || {
        let config = cluster.config(
            ClientKind::Consumer,
            &[],
            &[
                ("group.id", PREVIEW_GROUP),
                ("enable.auto.commit", "false"),
                ("enable.partition.eof", "true"),
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
            ],
        );
        let client: BaseConsumer<Events> = cluster.create(&config)?;
        let found = partitions(&cluster, &client, &topic, REACH)?;
        let what = || format!("topic {topic} of kafka at {} cannot be read", cluster.name());
        let mut list = TopicPartitionList::with_capacity(found.len());
        for partition in &found {
            list.add_partition_offset(&topic, *partition, Offset::OffsetTail(1)).map_err(|e| from_kafka(what(), &e))?;
        }
        client.assign(&list).map_err(|e| from_kafka(what(), &e))?;
        let (deadline, mut ended) = (Instant::now() + CONNECT, 0);
        while ended < found.len() && Instant::now() < deadline {
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => return Ok(describe_record(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) if error.rdkafka_error_code().is_none_or(|code| !passes(code)) => {
                    return Err(from_kafka(what(), &error));
                }
                _ => {}
            }
        }
        Ok(format!("{topic} has no record yet"))
    })
    .await
}

fn describe_record(message: &impl Message) -> String {
    let value = message.payload().unwrap_or_default();
    let kind = match (value, serde_json::from_slice::<serde_json::Value>(value)) {
        ([], _) => "nothing".to_string(),
        ([GLUE_HEADER, ..], _) if Framing::Glue.read(value).is_ok() => {
            let id = Framing::Glue.read(value).map_or_else(|_| String::new(), |(id, ..)| id.to_string());
            format!("the framing of AWS Glue's schema registry, schema {id}")
        }
        ([0, id @ ..], _) if id.len() >= 4 => {
            let id: [u8; 4] = id.first_chunk().copied().unwrap_or_default();
            format!("the framing of a schema registry, schema {}", u32::from_be_bytes(id))
        }
        (_, Ok(serde_json::Value::Object(fields))) => {
            let names: Vec<&str> = fields.keys().take(20).map(String::as_str).collect();
            format!("a JSON object of {}", names.join(", "))
        }
        (_, Ok(_)) => "JSON".to_string(),
        (bytes, _) if std::str::from_utf8(bytes).is_ok() => "text".to_string(),
        _ => "bytes".to_string(),
    };
    let key = message.key().map_or("no key".to_string(), |key| format!("a key of {} bytes", key.len()));
    format!(
        "partition {} offset {}: {key}, a value of {} bytes: {kind}",
        message.partition(),
        message.offset(),
        value.len()
    )
}

struct Stages(Vec<TestStage>);

impl Stages {
    fn add<T>(&mut self, stage: &str, outcome: Result<T>, say: impl FnOnce(&T) -> String) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.passed(stage, &say(&value));
                Some(value)
            }
            Err(error) => {
                self.failed(stage, error);
                None
            }
        }
    }
    fn failed(&mut self, stage: &str, error: Error) {
        let message = match error.hint() {
            Some(hint) => format!("{error} (hint: {hint})"),
            None => error.to_string(),
        };
        // Each stage is told once: the client is made after the options were read.
        self.0.retain(|told| told.stage != stage);
        self.0.push(TestStage { stage: stage.into(), ok: false, message });
    }
    fn passed(&mut self, stage: &str, message: &str) {
        self.0.push(TestStage { stage: stage.into(), ok: true, message: message.into() });
    }
}

async fn resolve(cluster: &Cluster) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    let mut failures = Vec::new();
    for server in cluster.server_list() {
        match timeout(CONNECT, lookup_host(server.as_str())).await {
            Ok(Ok(found)) => addresses.extend(found),
            Ok(Err(error)) => failures.push(format!("{server}: {error}")),
            Err(_) => failures.push(format!("{server}: no answer in {CONNECT:?}")),
        }
    }
    if addresses.is_empty() {
        let what = format!("the names of {} have no address", cluster.server_list().join(","));
        return Err(Error::new(Code::Unreachable, what).with_detail(failures.join("; ")));
    }
    Ok(addresses)
}

async fn connect(cluster: &Cluster, addresses: &[SocketAddr]) -> Result<SocketAddr> {
    let mut failures = Vec::new();
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no answer in {CONNECT:?}")),
        }
    }
    let what = format!("cannot connect to {}", cluster.server_list().join(","));
    Err(Error::new(Code::Unreachable, what).with_detail(failures.join("; ")))
}

/// Number of brokers.
async fn describe(cluster: &Cluster) -> Result<usize> {
    let cluster = cluster.clone();
    blocking(move || {
        let client = cluster.inspector("read_committed")?;
        Ok(metadata(&cluster, &client, None, REACH)?.brokers().len())
    })
    .await
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

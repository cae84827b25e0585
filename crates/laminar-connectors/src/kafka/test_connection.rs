//! Does the cluster answer, and has it what the options name? Step by step for a person, as one answer for CREATE TABLE.

use std::net::SocketAddr;
use std::time::Duration;

use laminar_core::connector::TestStage;
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Result};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::admin::{broker_setting, creation_hint, topic_exists};
use super::client::{Cluster, REACH, blocking, metadata};
use super::options::{OnDataLoss, SinkSettings, SourceSettings, Written};
use super::topics::Topics;
use super::transaction::{MIN_TIMEOUT, timeout_too_long};

const CONNECT: Duration = Duration::from_secs(5);

/// Are the topics there? Those of a pattern may come later.
pub(super) async fn check_source(settings: &SourceSettings) -> Result<()> {
    let (cluster, topics) = (settings.cluster.clone(), settings.topics.clone());
    blocking(move || {
        let client = cluster.inspector("read_committed")?;
        topics.find(&cluster, &client, OnDataLoss::Fail).map(drop)
    })
    .await
}

/// Is the topic there, or will it be created, and does the broker allow our transactions?
pub(super) async fn check_sink(settings: &SinkSettings, delivery: Delivery) -> Result<()> {
    let cluster = &settings.cluster;
    if !topic_exists(cluster, &settings.topic).await?
        && broker_setting(cluster, "auto.create.topics.enable").await?.as_deref() == Some("false")
    {
        return Err(Error::new(
            Code::UnknownTopic,
            format!("kafka at {} has no topic {}", cluster.name(), settings.topic),
        )
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

/// All stages up to the first that fails.
pub(super) async fn test(written: Result<Written>) -> Vec<TestStage> {
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
            Code::AuthenticationFailed if protocol.has_login() => "sasl",
            Code::Unreachable if protocol.has_tls() => "tls",
            _ => "metadata",
        };
        stages.0.push(TestStage { stage: stage.into(), ok: false, message: error.to_string() });
        return stages.0;
    }
    if protocol.has_tls() {
        stages.passed("tls", "the brokers' certificates are trusted");
    }
    if protocol.has_login() {
        stages.passed("sasl", "logged in");
    }
    stages.add("metadata", described, |brokers| format!("{brokers} brokers"));
    let topics = match written.topics() {
        Ok(topics) => topics,
        Err(error) => {
            stages.add("topic", Err::<(), _>(error), |()| String::new());
            return stages.0;
        }
    };
    for topics in topics.into_iter().flat_map(each) {
        let (cluster, asked) = (cluster.clone(), topics.clone());
        let found = blocking(move || {
            let client = cluster.inspector("read_committed")?;
            asked.find(&cluster, &client, OnDataLoss::Fail)
        });
        let say = |found: &Vec<(String, Vec<i32>)>| match found.as_slice() {
            [(topic, partitions)] => format!("{topic} has {} partitions", partitions.len()),
            found => {
                let partitions: usize = found.iter().map(|(_, partitions)| partitions.len()).sum();
                format!("{topics}: {}, with {partitions} partitions", found.len())
            }
        };
        if stages.add("topic", found.await, say).is_none() {
            break;
        }
    }
    stages.0
}

/// Topics that are named, one by one.
fn each(topics: Topics) -> Vec<Topics> {
    match topics {
        Topics::Named(names) => names.into_iter().map(|name| Topics::Named(vec![name])).collect(),
        pattern => vec![pattern],
    }
}

struct Stages(Vec<TestStage>);

impl Stages {
    fn add<T>(&mut self, stage: &str, outcome: Result<T>, say: impl FnOnce(&T) -> String) -> Option<T> {
        let (ok, message) = match &outcome {
            Ok(value) => (true, say(value)),
            Err(error) => (false, error.to_string()),
        };
        self.0.push(TestStage { stage: stage.into(), ok, message });
        outcome.ok()
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

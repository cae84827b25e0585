//! A broker inside this process, for trying things out without installing one: librdkafka's mock cluster.
//!
//! It speaks Kafka's protocol on a port of 127.0.0.1, so other clients can use it too. It is not a Kafka: it keeps records
//! in memory, only the last 5 MB or 100,000 batches of a partition; transactions are accepted and isolate nothing; topics
//! cannot be created by clients, only by asking for them or with [`DevBroker::create_topic`]; offsets cannot be found by
//! time. Sinks into it are at-least-once.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use laminar_core::{Code, Error, Result};
use rdkafka::mocking::MockCluster;

use super::client::error::from_kafka;

/// The broker; it stops when this is dropped.
#[derive(Debug)]
pub struct DevBroker {
    bootstrap: String,
    /// The cluster lives on its own thread: librdkafka's handle must not move between threads.
    requests: Sender<Request>,
}

struct Request {
    topic: String,
    partitions: i32,
    answer: SyncSender<Result<()>>,
}

impl DevBroker {
    /// Starts a broker without topics, on a free port.
    ///
    /// Errors: `connector_error` if no port can be opened.
    pub fn start() -> Result<Self> {
        let (requests, received) = channel();
        let (started, start) = sync_channel(1);
        let run = move || match MockCluster::new(1) {
            Ok(cluster) => {
                let told = started.send(Ok(cluster.bootstrap_servers()));
                if told.is_ok() {
                    serve(&cluster, &received);
                }
            }
            Err(error) => drop(started.send(Err(from_kafka("the built-in broker cannot be started", &error)))),
        };
        let spawned = thread::Builder::new().name("dev-broker".into()).spawn(run);
        spawned.map_err(|e| Error::internal(format!("cannot start a thread: {e}")))?;
        let bootstrap = start.recv().map_err(|_| gone())??;
        Ok(Self { bootstrap, requests })
    }

    /// What clients connect to: `127.0.0.1:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic; it may exist.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let (answer, answered) = sync_channel(1);
        self.requests.send(Request { topic: topic.to_string(), partitions, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

fn serve(cluster: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>, requests: &Receiver<Request>) {
    while let Ok(Request { topic, partitions, answer }) = requests.recv() {
        let created = cluster.create_topic(&topic, partitions, 1);
        let outcome = match created {
            Err(rdkafka::error::KafkaError::MockCluster(rdkafka::error::RDKafkaErrorCode::TopicAlreadyExists)) => {
                Ok(())
            }
            other => other.map_err(|e| from_kafka(format!("topic {topic} cannot be created"), &e)),
        };
        // Whoever asked may have given up.
        drop(answer.send(outcome));
    }
}

fn gone() -> Error {
    Error::new(Code::ConnectorError, "the built-in broker has stopped")
}

//! The producer that all writers of a sink send through, and what it means that their rows are flushed.
//!
//! ```text
//!  exactly once     the transaction of the pipeline in this cluster has it, from recovery on
//!  at least once    it is made with the first writer and closed with the last
//! ```
//!
//! The rule that must stay true: no thread that moves rows waits while a client is made, which reads files and may ask for a
//! token.

use std::sync::{Arc, Weak};
use std::time::Duration;

use laminar_core::Result;
use laminar_core::sink::{Committer, Delivery};
use tokio::sync::Mutex;

use super::transaction::Transaction;
use super::{Producer, settle};
use crate::kafka::client::{Cluster, blocking};

/// How long an at-least-once sink waits for acknowledgements before the job starts over: librdkafka gives a row up after
/// five minutes.
const ACKNOWLEDGED: Duration = Duration::from_secs(310);

pub(crate) enum SharedProducer {
    /// Rows become visible with the transaction that the pipeline's sinks in this cluster share.
    InTransaction(Arc<Transaction>),
    /// They become visible at once.
    AtOnce { cluster: Cluster, extra: &'static [(&'static str, &'static str)], last: Mutex<Weak<Producer>> },
}

impl SharedProducer {
    /// `extra`: settings of the client besides the cluster's.
    pub fn at_once(cluster: &Cluster, extra: &'static [(&'static str, &'static str)]) -> Self {
        Self::AtOnce { cluster: cluster.clone(), extra, last: Mutex::default() }
    }

    /// The producer, for a writer to keep.
    ///
    /// Errors: `internal` before the transaction was recovered; those of making a client.
    pub async fn get(&self) -> Result<Arc<Producer>> {
        let (cluster, extra, last) = match self {
            Self::InTransaction(transaction) => return transaction.producer(),
            Self::AtOnce { cluster, extra, last } => (cluster.clone(), *extra, last),
        };
        // Held while the client is made: writers that open together get the same one.
        let mut last = last.lock().await;
        if let Some(producer) = last.upgrade() {
            return Ok(producer);
        }
        let producer = Arc::new(blocking(move || Producer::new(&cluster, extra)).await?);
        *last = Arc::downgrade(&producer);
        Ok(producer)
    }

    pub fn delivery(&self) -> Delivery {
        match self {
            Self::InTransaction(_) => Delivery::ExactlyOnce,
            Self::AtOnce { .. } => Delivery::AtLeastOnce,
        }
    }

    /// For [`Sink::committer`](laminar_core::sink::Sink::committer): no further sink joins the transaction then.
    pub fn committer(&self) -> Option<Arc<dyn Committer>> {
        match self {
            Self::InTransaction(transaction) => Some(transaction.take() as Arc<dyn Committer>),
            Self::AtOnce { .. } => None,
        }
    }

    /// How long rows may take to be acknowledged.
    pub fn patience(&self) -> Duration {
        match self {
            Self::InTransaction(transaction) => transaction.timeout(),
            Self::AtOnce { .. } => ACKNOWLEDGED,
        }
    }

    /// Waits until the broker has all rows that were produced.
    pub async fn settle(&self, producer: &Arc<Producer>) -> Result<()> {
        settle(producer, self.patience()).await
    }

    /// The outcome, with an error that says what became of the transaction.
    pub async fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        match (outcome, self) {
            (Err(error), Self::InTransaction(transaction)) => Err(transaction.explain(error).await),
            (outcome, _) => outcome,
        }
    }
}

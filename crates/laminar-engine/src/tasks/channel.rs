//! Channels between tasks, bounded in messages and in bytes, and the exchange that picks the receiver of each row.
//!
//! Rows are routed by hash with `take`: one gather per receiver, never a sort. Watermarks, barriers and the end go to every
//! receiver.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use laminar_core::{Changes, Message, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::operators::evaluation_error;
use crate::state_log::owners;

/// Messages in one channel.
const CHANNEL_MESSAGES: usize = 16;
/// Bytes in one channel; a larger batch passes alone.
const CHANNEL_BYTES: u32 = 16 << 20;

/// The sending end of one channel.
#[derive(Clone)]
pub(crate) struct Sender {
    messages: mpsc::Sender<Envelope>,
    bytes: Arc<Semaphore>,
}

pub(crate) type Receiver = mpsc::Receiver<Envelope>;

/// A message and its share of the channel's bytes, given back when it is dropped.
pub(crate) struct Envelope {
    pub message: Message,
    _bytes: Option<OwnedSemaphorePermit>,
}

pub(crate) fn channel() -> (Sender, Receiver) {
    let (messages, receiver) = mpsc::channel(CHANNEL_MESSAGES);
    (Sender { messages, bytes: Arc::new(Semaphore::new(CHANNEL_BYTES as usize)) }, receiver)
}

impl Sender {
    /// Waits for room. A receiver that is gone has ended with its job: what is sent to it is dropped.
    async fn send(&self, message: Message) {
        let size = match &message {
            Message::Changes(changes) => u32::try_from(changes.num_bytes()).unwrap_or(u32::MAX).min(CHANNEL_BYTES),
            _ => 0,
        };
        let permit = match size {
            0 => None,
            _ => Arc::clone(&self.bytes).acquire_many_owned(size).await.ok(),
        };
        let _ = self.messages.send(Envelope { message, _bytes: permit }).await;
    }
}

/// How a node's rows reach the instances of the next chain.
pub(crate) enum Outlet {
    /// To the instance with the same index.
    Forward(Sender),
    /// To the instance that the hash of the keys names.
    Hash { keys: Vec<Arc<dyn PhysicalExpr>>, receivers: Vec<Sender> },
}

impl Outlet {
    /// Is which receiver a row goes to a matter of more than its columns?
    pub(crate) fn computes_keys(&self) -> bool {
        matches!(self, Self::Hash { keys, .. } if keys.iter().any(|key| key.downcast_ref::<Column>().is_none()))
    }

    pub(crate) async fn send(&self, message: Message) -> Result<()> {
        match (self, message) {
            (Self::Forward(sender), message) => sender.send(message).await,
            (Self::Hash { keys, receivers }, Message::Changes(changes)) => {
                for (receiver, rows) in receivers.iter().zip(route(keys, &changes, receivers.len())?) {
                    if !rows.is_empty() {
                        receiver.send(Message::Changes(changes.take(&UInt32Array::from(rows))?)).await;
                    }
                }
            }
            (Self::Hash { receivers, .. }, message) => {
                for receiver in receivers {
                    receiver.send(message.clone()).await;
                }
            }
        }
        Ok(())
    }
}

/// Row indices for each receiver, in row order, so that rows of one key stay in order.
fn route(keys: &[Arc<dyn PhysicalExpr>], changes: &Changes, receivers: usize) -> Result<Vec<Vec<u32>>> {
    let rows = changes.num_rows();
    let evaluate = |key: &Arc<dyn PhysicalExpr>| key.evaluate(changes.rows())?.into_array(rows);
    let columns: Vec<ArrayRef> = keys.iter().map(evaluate).collect::<Result<_, _>>().map_err(evaluation_error)?;
    let mut routed = vec![Vec::with_capacity(rows / receivers.max(1) + 1); receivers];
    for (row, receiver) in owners(&columns, rows, receivers)?.into_iter().enumerate() {
        if let Some(rows) = routed.get_mut(receiver as usize) {
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }
    Ok(routed)
}

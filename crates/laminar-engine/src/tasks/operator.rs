//! A task whose chain starts with inputs from other tasks: aligns barriers, merges watermarks.
//!
//! ```text
//!  input 0   r r B r r          after its barrier an input is not read until the others have theirs
//!  input 1   r r r r B
//! ```

use std::sync::atomic::Ordering;

use futures::future::select_all;
use laminar_core::{Barrier, Epoch, Message, Result, TaskId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::chain::Chain;
use super::channel::{Envelope, Receiver};
use super::watermark::MergedWatermark;
use super::{Frozen, TaskEvent, coordinator_gone};
use crate::crash::CrashPoints;
use crate::metrics::add;

pub(crate) struct OperatorTask {
    pub id: TaskId,
    /// Each with the index of the head's input that it feeds.
    pub inputs: Vec<(usize, Receiver)>,
    pub chain: Chain,
    pub events: mpsc::Sender<TaskEvent>,
    pub released: watch::Receiver<Epoch>,
    pub crash: CrashPoints,
    pub watermarks: MergedWatermark,
    /// Counts the messages taken; start with 0.
    pub turn: usize,
}

#[derive(Clone, Copy, Default)]
struct InputState {
    barrier: Option<Barrier>,
    ended: bool,
    closed: bool,
}

// One value on the stack, never stored: its size is no matter.
#[allow(clippy::large_enum_variant)]
enum Next {
    From(usize, Option<Envelope>),
    Released,
}

impl OperatorTask {
    /// Runs until a barrier stops the job.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut states = vec![InputState::default(); self.inputs.len()];
        let mut waiting_since: Option<Instant> = None;
        loop {
            let envelope = match self.next(&states).await {
                None => return Ok(()),
                Some(Next::Released) => {
                    self.chain.settle().await?;
                    continue;
                }
                Some(Next::From(index, envelope)) => (index, envelope),
            };
            let (index, envelope) = envelope;
            let Some(state) = states.get_mut(index) else { continue };
            let input = self.inputs.get(index).map_or(0, |(input, _)| *input);
            match envelope.map(|e| e.message) {
                // The task before has ended without a barrier: its job is being torn down.
                None => state.closed = true,
                Some(Message::Changes(changes)) => {
                    self.chain.push(input, changes, None).await?;
                    // As in a source task: let the others run.
                    tokio::task::yield_now().await;
                }
                Some(Message::Watermark(watermark)) => {
                    if let Some(watermark) = self.watermarks.update(index, watermark) {
                        self.chain.watermark(watermark).await?;
                    }
                }
                Some(Message::End) => {
                    state.ended = true;
                    if states.iter().all(|s| s.ended) {
                        self.chain.end().await?;
                    } else if let Some(watermark) = self.watermarks.update(index, Watermark::Idle) {
                        self.chain.watermark(watermark).await?;
                    }
                }
                Some(Message::Barrier(barrier)) => {
                    state.barrier = Some(barrier);
                    let since = *waiting_since.get_or_insert_with(Instant::now);
                    if states.iter().all(|s| s.barrier.is_some()) {
                        if let Some(metrics) = self.chain.head_metrics() {
                            let waited = since.elapsed().as_micros() as usize;
                            add(&metrics.alignment_micros, waited);
                            metrics.last_alignment_micros.store(waited as u64, Ordering::Relaxed);
                        }
                        waiting_since = None;
                        self.freeze(barrier).await?;
                        if barrier.stop {
                            return self.chain.settle().await;
                        }
                        states.iter_mut().for_each(|s| s.barrier = None);
                    }
                }
            }
        }
    }

    /// The next message of an input that has not yet delivered its barrier; `None` when there is none left.
    async fn next(&mut self, states: &[InputState]) -> Option<Next> {
        let open = self.inputs.iter_mut().zip(states).enumerate();
        let open = open.filter(|(_, (_, state))| state.barrier.is_none() && !state.closed);
        let mut waiting: Vec<_> =
            open.map(|(index, ((_, receiver), _))| Box::pin(async move { (index, receiver.recv().await) })).collect();
        if waiting.is_empty() {
            return None;
        }
        // The first that is ready is taken, so each input is the first in turn: a busy one must not hold back the others.
        let turn = self.turn % waiting.len();
        waiting.rotate_left(turn);
        self.turn = self.turn.wrapping_add(1);
        let holds_rows = self.chain.holds_rows();
        tokio::select! {
            ((index, envelope), _, _) = select_all(waiting) => Some(Next::From(index, envelope)),
            Ok(()) = self.released.changed(), if holds_rows => Some(Next::Released),
        }
    }

    async fn freeze(&mut self, barrier: Barrier) -> Result<()> {
        let snapshots = self.chain.barrier(barrier).await?;
        self.crash.hit("task-frozen")?;
        let frozen = Frozen {
            task: self.id.clone(),
            epoch: barrier.epoch,
            source: None,
            snapshots,
            operators: self.chain.operators(),
            counts: self.chain.counts(),
            watermark: self.watermarks.last(),
        };
        self.events.send(TaskEvent::Frozen(frozen)).await.map_err(|_| coordinator_gone())
    }
}

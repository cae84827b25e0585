//! A tree of operators, sinks and exchanges that one task pushes rows through, without a queue between them.
//!
//! Rows go depth first, so a batch is through before the next one starts; control messages go node by node in topological
//! order, each after the rows that the node before pushed.

use std::sync::Arc;

use laminar_core::{Barrier, Changes, Message, OperatorId, Result, Watermark};
use std::sync::atomic::Ordering;

use super::bad_rows::{BadRows, Parts};
use super::channel::Outlet;
use super::sink::SinkEnd;
use crate::crash::CrashPoints;
use crate::ledger::{Counts, TaskCounts};
use crate::metrics::{OperatorMetrics, add};
use crate::operator::{Operator, Output, Snapshot};

pub(crate) struct Chain {
    /// In topological order; the head is first.
    pub nodes: Vec<ChainNode>,
    output: Output,
    crash: CrashPoints,
}

pub(crate) struct ChainNode {
    pub id: OperatorId,
    pub step: Step,
    pub ways: Vec<Way>,
    pub metrics: Arc<OperatorMetrics>,
    pub counts: Counts,
}

/// Where a node's rows go.
pub(crate) struct Way {
    /// The edge's index in the graph.
    pub edge: usize,
    pub to: Next,
    /// Rows that went.
    pub sent: u64,
}

pub(crate) enum Next {
    /// A node of this chain, by its index, and which of its inputs.
    Child(usize, usize),
    /// Another chain.
    Outlet(Outlet),
}

pub(crate) enum Step {
    /// The head of a source task: rows enter here.
    Source,
    Operator(Box<dyn Operator>),
    Sink(SinkEnd),
}

impl Chain {
    pub(crate) fn new(nodes: Vec<ChainNode>, crash: CrashPoints) -> Self {
        Self { nodes, output: Output::default(), crash }
    }

    /// What every node counted, and what went over its edges. The head's, if it is a source, are its task's to add to.
    pub(crate) fn counts(&self) -> TaskCounts {
        let mut all = TaskCounts::default();
        for node in &self.nodes {
            let mut counts = node.counts;
            match &node.step {
                Step::Source => {}
                Step::Operator(operator) => {
                    let held = operator.held();
                    counts.filtered = operator.filtered();
                    counts.held = held.map(|held| held.now);
                    counts.released = held.and_then(|held| held.released);
                }
                Step::Sink(sink) => counts.rows_out = sink.done(),
            }
            all.operators.push((node.id.clone(), counts));
            all.sent.extend(node.ways.iter().map(|way| (way.edge, way.sent)));
        }
        all
    }

    /// Does something behind a source compute what may not be computable, row by row?
    pub(crate) fn may_reject(&self) -> bool {
        let hashes = |way: &Way| matches!(&way.to, Next::Outlet(outlet) if outlet.computes_keys());
        self.nodes.iter().any(|node| {
            matches!(&node.step, Step::Operator(operator) if operator.may_reject()) || node.ways.iter().any(hashes)
        })
    }

    pub(crate) fn head_metrics(&self) -> Option<&Arc<OperatorMetrics>> {
        self.nodes.first().map(|n| &n.metrics)
    }

    /// Pushes a batch into the head's `input` and through everything behind it. `bad`: what becomes of rows for which something
    /// cannot be computed, where they are traceable.
    pub(crate) async fn push(&mut self, input: usize, changes: Changes, bad: Option<&mut BadRows>) -> Result<()> {
        self.push_at(vec![(0, input, changes)], bad).await
    }

    async fn push_at(
        &mut self,
        mut pending: Vec<(usize, usize, Changes)>,
        mut bad: Option<&mut BadRows>,
    ) -> Result<()> {
        while let Some((at, input, changes)) = pending.pop() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            if !matches!(node.step, Step::Source) {
                node.counts.rows_in += changes.num_rows() as u64;
            }
            match &mut node.step {
                Step::Source => self.output.push(changes),
                Step::Operator(operator) => {
                    add(&node.metrics.rows_in, changes.num_rows());
                    add(&node.metrics.batches_in, 1);
                    let changes = self.crash.leak("input", changes);
                    match bad.as_deref_mut() {
                        Some(bad) => {
                            let rejected = offer(operator.as_mut(), input, changes, &mut self.output, bad).await?;
                            node.counts.rejected += rejected;
                        }
                        None => operator.on_changes(input, changes, &mut self.output).await?,
                    }
                }
                Step::Sink(sink) => sink.write(changes).await?,
            }
            let emitted = node.forward(&mut self.output, bad.as_deref_mut(), &self.crash).await?;
            // Last in, first out: the earliest batch must be on top.
            pending.extend(emitted.into_iter().rev());
        }
        Ok(())
    }

    pub(crate) async fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            if let Watermark::At(time) = watermark {
                node.metrics.watermark_micros.store(time, Ordering::Relaxed);
            }
            if let Step::Operator(operator) = &mut node.step {
                operator.on_watermark(watermark, &mut self.output).await?;
            }
            self.emit_from(at).await?;
            self.send(at, Message::Watermark(watermark)).await?;
        }
        Ok(())
    }

    /// No more rows will come; barriers still may.
    pub(crate) async fn end(&mut self) -> Result<()> {
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            if let Step::Operator(operator) = &mut node.step {
                operator.on_end(&mut self.output).await?;
            }
            self.emit_from(at).await?;
            self.send(at, Message::End).await?;
        }
        Ok(())
    }

    /// Freezes every operator, flushes every sink, passes the barrier on. Returns the operators' state changes.
    pub(crate) async fn barrier(&mut self, barrier: Barrier) -> Result<Vec<(OperatorId, Snapshot)>> {
        let mut snapshots = Vec::new();
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            if let Step::Operator(operator) = &mut node.step {
                operator.on_barrier(&mut self.output).await?;
                self.emit_from(at).await?;
            }
            let Some(node) = self.nodes.get_mut(at) else { continue };
            match &mut node.step {
                Step::Source => {}
                Step::Operator(operator) => {
                    let snapshot = operator.snapshot(barrier.epoch)?;
                    if !snapshot.add.is_empty() || !snapshot.remove.is_empty() {
                        snapshots.push((node.id.clone(), snapshot));
                    }
                }
                Step::Sink(sink) => sink.flush(barrier.epoch).await?,
            }
            self.send(at, Message::Barrier(barrier)).await?;
        }
        Ok(snapshots)
    }

    pub(crate) fn operators(&self) -> Vec<OperatorId> {
        let operators = self.nodes.iter().filter(|n| matches!(n.step, Step::Operator(_)));
        operators.map(|n| n.id.clone()).collect()
    }

    pub(crate) fn holds_rows(&self) -> bool {
        self.nodes.iter().any(|n| matches!(&n.step, Step::Sink(sink) if sink.holds_rows()))
    }

    /// Waits for the commit under way, then writes what was held.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Step::Sink(sink) = &mut node.step {
                sink.settle().await?;
            }
        }
        Ok(())
    }

    /// Sends what node `at` has just pushed to everything behind it.
    async fn emit_from(&mut self, at: usize) -> Result<()> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let mut emitted = node.forward(&mut self.output, None, &self.crash).await?;
        emitted.reverse();
        self.push_at(emitted, None).await
    }

    async fn send(&mut self, at: usize, message: Message) -> Result<()> {
        let Some(node) = self.nodes.get(at) else { return Ok(()) };
        for way in &node.ways {
            if let Next::Outlet(outlet) = &way.to {
                outlet.send(message.clone()).await?;
            }
        }
        Ok(())
    }
}

/// Gives the operator the batch, or what is left of it without the rows that it cannot take; returns how many those are.
async fn offer(
    operator: &mut dyn Operator,
    input: usize,
    changes: Changes,
    output: &mut Output,
    bad: &mut BadRows,
) -> Result<u64> {
    let mut pushed = Output::default();
    let error = match operator.on_changes(input, changes.clone(), &mut pushed).await {
        Ok(()) => {
            output.append(&mut pushed);
            return Ok(0);
        }
        Err(error) => error,
    };
    if !operator.can_retry() {
        return Err(error);
    }
    let mut parts = Parts::of(changes);
    if let Some((whole, _)) = parts.next() {
        parts.failed(whole, error, bad)?;
    }
    while let Some((part, rows)) = parts.next() {
        if let Err(error) = operator.check(&rows) {
            parts.failed(part, error, bad)?;
        }
    }
    let good = parts.good()?;
    if good.num_rows() > 0 {
        operator.on_changes(input, good, output).await?;
    }
    Ok(parts.rejected())
}

impl ChainNode {
    /// Sends the pushed batches to other chains and returns what goes to children of this one, in order.
    async fn forward(
        &mut self,
        output: &mut Output,
        mut bad: Option<&mut BadRows>,
        crash: &CrashPoints,
    ) -> Result<Vec<(usize, usize, Changes)>> {
        let mut to_children = Vec::new();
        for changes in output.take() {
            add(&self.metrics.rows_out, changes.num_rows());
            let changes = crash.leak("operator", changes);
            self.counts.rows_out += changes.num_rows() as u64;
            for way in &mut self.ways {
                way.sent += changes.num_rows() as u64;
                let changes = crash.leak("edge", changes.clone());
                match &way.to {
                    Next::Child(child, input) => to_children.push((*child, *input, changes)),
                    Next::Outlet(outlet) => {
                        let unroutable = outlet.send_good(changes, bad.as_deref_mut()).await?;
                        way.sent -= unroutable;
                        self.counts.unroutable += unroutable;
                    }
                }
            }
        }
        Ok(to_children)
    }
}

impl Outlet {
    /// Sends the rows, but those whose receiver cannot be computed; returns how many those are.
    async fn send_good(&self, changes: Changes, bad: Option<&mut BadRows>) -> Result<u64> {
        let Some(bad) = bad else {
            self.send(Message::Changes(changes)).await?;
            return Ok(0);
        };
        let mut parts = Parts::of(changes);
        while let Some((part, rows)) = parts.next() {
            // Which receiver a row goes to is computed before the first one is sent.
            if let Err(error) = self.send(Message::Changes(rows)).await {
                parts.failed(part, error, bad)?;
            }
        }
        Ok(parts.rejected())
    }
}

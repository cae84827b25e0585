//! What a job runs: operators and the edges between them.
//!
//! ```text
//!  source-0 ──Forward──► project-1 ──Forward──► sink-2        one chain: no queue inside
//!  source-0 ──Hash(k)──► aggregate-1 ──Forward──► sink-2      two chains: rows are exchanged between them
//! ```
//!
//! A chain is a tree of nodes linked by forward edges; it starts at a source, at a node with several inputs, or behind an
//! exchange, and every parallel instance of it is one task. Nodes stand in topological order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::sink::Sink;
use laminar_core::source::{BatchLimit, Source};
use laminar_core::table::timestamp_type;
use laminar_core::time::SharedClock;
use laminar_core::{Error, OperatorId, Result};

use crate::operator::OperatorFactory;

/// A pipeline's operators, in topological order, and the edges between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

#[derive(Clone, Debug)]
pub struct Node {
    /// Stable when the same SQL is planned again; checkpoints name operators by it.
    pub id: OperatorId,
    /// One line for people: `kafka source orders`.
    pub name: String,
    pub kind: NodeKind,
    /// Schema of the rows it emits (of the rows it takes, for a sink).
    pub schema: SchemaRef,
}

#[derive(Clone)]
pub enum NodeKind {
    Source(SourceNode),
    Operator(Arc<dyn OperatorFactory>),
    Sink(SinkNode),
}

#[derive(Clone)]
pub struct SourceNode {
    /// The table's name, for metrics and messages.
    pub table: String,
    pub source: Arc<dyn Source>,
    /// Size of the batches that go down the chain.
    pub batch: BatchLimit,
    /// Longest time a row waits for its batch to fill.
    pub batch_timeout: Duration,
    /// How far the watermark stays behind the largest event time seen in a split.
    pub watermark_delay: Duration,
    /// A split that is caught up and silent this long holds nobody back.
    pub idle_timeout: Duration,
    pub time: RowTime,
    pub late: LateRows,
    /// A split that is further ahead of the slowest one in event time is not read meanwhile. `None`: all are.
    pub max_drift: Option<Duration>,
    /// Each row has one more column, the last: the watermark of its split as the rows before it left it; see
    /// [`with_watermark_column`].
    pub watermark_column: bool,
    pub bad_data: BadDataPolicy,
    /// Where records go that cannot be used. Present if `bad_data` or `late` says that they are dead letters.
    pub dead_letters: Option<Arc<dyn Sink>>,
}

/// Its name; no SQL name is like it.
pub const WATERMARK_COLUMN: &str = "__watermark";

/// The columns of a source's rows with the watermark behind them: a TIMESTAMP, null before the split's first row.
pub fn with_watermark_column(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(WATERMARK_COLUMN, timestamp_type(), true)));
    Arc::new(Schema::new(fields))
}

/// Where the event times of a source's rows come from.
#[derive(Clone, Debug)]
pub enum RowTime {
    /// The rows, or their records.
    Record,
    /// This clock, when the rows are read: processing time. The watermark is the clock too, so it goes on without rows.
    Arrival(SharedClock),
}

/// What happens to a row that is behind the watermark of its own split when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRows {
    /// It goes on: nothing waits for the watermark.
    Keep,
    /// It is counted and left out, whatever batch it came in: a replay leaves out the same.
    Drop,
    /// The same, and its record is a dead letter.
    DeadLetter,
}

/// What happens to a record that cannot be decoded, or a row of it for which an expression cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDataPolicy {
    /// The job fails; the error names split and position.
    Fail,
    /// The record is counted and left out; more than `max_errors_per_batch` in one batch fail the job.
    Skip { max_errors_per_batch: Option<usize> },
    /// The same, and the record is a dead letter.
    DeadLetter { max_errors_per_batch: Option<usize> },
}

#[derive(Clone)]
pub struct SinkNode {
    pub table: String,
    pub sink: Arc<dyn Sink>,
}

#[derive(Clone, Debug)]
pub struct Edge {
    /// Index of the node that emits.
    pub from: usize,
    /// Index of the node that receives, larger than `from`.
    pub to: usize,
    /// Which of the receiver's inputs this is, from 0.
    pub input: usize,
    pub exchange: Exchange,
}

/// Which parallel instance of the receiver gets a row.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// The instance with the sender's index.
    Forward,
    /// The instance that the hash of these expressions names: equal keys meet.
    Hash(Vec<Arc<dyn PhysicalExpr>>),
}

impl fmt::Debug for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => write!(f, "source {}", source.table),
            Self::Operator(factory) => write!(f, "{factory:?}"),
            Self::Sink(sink) => write!(f, "sink {}", sink.table),
        }
    }
}

impl Graph {
    /// Refuses graphs that cannot be run: edges that go back or leave the graph, nodes without an input, sources with one.
    pub fn check(&self) -> Result<()> {
        for edge in &self.edges {
            if edge.from >= edge.to || edge.to >= self.nodes.len() {
                return Err(Error::internal(format!("edge {} to {} is not in topological order", edge.from, edge.to)));
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let inputs = self.edges.iter().filter(|e| e.to == i).count();
            let outputs = self.edges.iter().filter(|e| e.from == i).count();
            let fits = match node.kind {
                NodeKind::Source(_) => inputs == 0 && outputs > 0,
                NodeKind::Operator(_) => inputs > 0,
                NodeKind::Sink(_) => inputs > 0 && outputs == 0,
            };
            if !fits {
                let message = format!("operator {} has {inputs} inputs and {outputs} outputs", node.id);
                return Err(Error::internal(message));
            }
        }
        Ok(())
    }

    /// All that the job writes to: its sinks, then the places of its sources' dead letters.
    pub fn written(&self) -> impl Iterator<Item = &Arc<dyn Sink>> {
        let sinks = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(&sink.sink),
            _ => None,
        });
        let letters = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source(source) => source.dead_letters.as_ref(),
            _ => None,
        });
        sinks.chain(letters)
    }

    /// Names the operators' ids, kinds and output columns: two graphs with equal fingerprints can share state.
    pub fn fingerprint(&self) -> BTreeMap<OperatorId, String> {
        let line = |node: &Node| {
            let columns = node.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
            let kind = match &node.kind {
                NodeKind::Source(source) => format!("source {}", source.table),
                NodeKind::Operator(factory) => factory.fingerprint(),
                NodeKind::Sink(sink) => format!("sink {}", sink.table),
            };
            (node.id.clone(), format!("{kind} ({})", columns.collect::<Vec<_>>().join(", ")))
        };
        self.nodes.iter().map(line).collect()
    }
}

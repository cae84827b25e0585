//! Where every row went: counted at both ends of each edge, and compared before a checkpoint is committed.
//!
//! ```text
//!  source      read + extra  =  none + bad + late + out          a record is one row, none, or several
//!  edge        sent by all instances of one end  =  received by those of the other
//!  operator    in  =  rejected + filtered + out                  one that keeps no rows and makes none
//!              found + in  =  released + held                    one that keeps the rows that come: a join, an upsert
//!  sink        in  =  written + muted
//! ```
//!
//! The numbers are a task's own, counted by the batch, and travel with its snapshot: at a barrier they are of the same rows in every
//! task. They count from the job's start; `found` is what an operator had when it was opened. A grouping keeps other rows than those that come,
//! so only its edges are compared, and `held` is its number of groups.

use std::collections::BTreeMap;

use laminar_core::{Epoch, Error, OperatorId, Result};
use serde::Serialize;

use crate::graph::{Graph, NodeKind};

/// What one operator counted since its job started; of all instances together, when added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of a source: records.
    pub read: u64,
    /// Of a source: rows beyond the first of their record.
    pub extra: u64,
    /// Of a source: records that are no row, and nothing is wrong with them.
    pub none: u64,
    /// Of a source: records that cannot be decoded.
    pub bad: u64,
    /// Of a source: rows behind the watermark that were left out.
    pub late: u64,
    /// Of a source: records in the dead letters; of those that are bad, late or rejected.
    pub dead: u64,
    pub rows_in: u64,
    /// Rows for which something cannot be computed.
    pub rejected: u64,
    /// Rows that went out on no way, or not on all, since the key by which they are shared out cannot be computed.
    pub unroutable: u64,
    /// Rows that it leaves out as the query says; `None`: it keeps rows or makes some, so what goes in and out cannot be compared.
    pub filtered: Option<u64>,
    /// Of one that keeps rows or groups: how many it had when the job started.
    pub found: u64,
    /// Of one that keeps the rows that come: how many of them, and of those it found, it does not keep any more.
    pub released: Option<u64>,
    /// How many rows or groups it keeps; `None`: it keeps nothing.
    pub held: Option<u64>,
    /// Of a sink: rows that its writer took, or that are outside already.
    pub rows_out: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.extra += other.extra;
        self.none += other.none;
        self.bad += other.bad;
        self.late += other.late;
        self.dead += other.dead;
        self.rows_in += other.rows_in;
        self.rejected += other.rejected;
        self.unroutable += other.unroutable;
        self.filtered = add(self.filtered, other.filtered);
        self.found += other.found;
        self.released = add(self.released, other.released);
        self.held = add(self.held, other.held);
        self.rows_out += other.rows_out;
    }
}

fn add(ours: Option<u64>, theirs: Option<u64>) -> Option<u64> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(ours + theirs),
        (ours, theirs) => ours.or(theirs),
    }
}

/// What one task counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskCounts {
    pub operators: Vec<(OperatorId, Counts)>,
    /// Rows sent, by the edge's index in the graph.
    pub sent: Vec<(usize, u64)>,
}

/// What all tasks counted up to a checkpoint's barrier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    operators: BTreeMap<OperatorId, Counts>,
    sent: BTreeMap<usize, u64>,
}

impl Totals {
    pub(crate) fn add(&mut self, task: TaskCounts) {
        for (operator, counts) in task.operators {
            self.operators.entry(operator).or_default().add(&counts);
        }
        for (edge, rows) in task.sent {
            *self.sent.entry(edge).or_default() += rows;
        }
    }
}

/// One operator in one checkpoint: its counts from the job's start to the barrier.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEntry {
    pub epoch: Epoch,
    pub operator: OperatorId,
    pub name: String,
    /// The table, of a source or a sink.
    pub table: Option<String>,
    pub counts: Counts,
    /// Rows that are missing (or too many, below 0); 0, or there would be no such checkpoint. `None`: not countable.
    pub difference: Option<i64>,
}

/// The nodes and edges that are counted.
#[derive(Debug)]
pub(crate) struct Books {
    nodes: Vec<Account>,
    /// (from, to), as the graph has them.
    edges: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Account {
    id: OperatorId,
    name: String,
    kind: Kind,
    table: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Source,
    Operator,
    Sink,
}

impl Books {
    pub(crate) fn of(graph: &Graph) -> Self {
        let account = |node: &crate::graph::Node| {
            let (kind, table) = match &node.kind {
                NodeKind::Source(source) => (Kind::Source, Some(source.table.clone())),
                NodeKind::Operator(_) => (Kind::Operator, None),
                NodeKind::Sink(sink) => (Kind::Sink, Some(sink.table.clone())),
            };
            Account { id: node.id.clone(), name: node.name.clone(), kind, table }
        };
        Self {
            nodes: graph.nodes.iter().map(account).collect(),
            edges: graph.edges.iter().map(|edge| (edge.from, edge.to)).collect(),
        }
    }

    /// The ledger of a checkpoint. Errors: `internal`, naming the operator that lost count.
    pub(crate) fn close(&self, epoch: Epoch, totals: &Totals) -> Result<Vec<LedgerEntry>> {
        let mut ledger = Vec::with_capacity(self.nodes.len());
        for (index, account) in self.nodes.iter().enumerate() {
            let counts = totals.operators.get(&account.id).copied().unwrap_or_default();
            let edges = self.edges.iter().enumerate().filter(|(_, (_, to))| *to == index);
            let sent: u64 = edges.filter_map(|(edge, _)| totals.sent.get(&edge)).sum();
            if sent != counts.rows_in {
                let what = format!("{sent} rows were sent to it and {} received", counts.rows_in);
                return Err(lost_count(epoch, account, &what));
            }
            let difference = account.kind.difference(&counts);
            if let Some(missing) = difference.filter(|missing| *missing != 0) {
                let what = match (account.kind, counts.released) {
                    (Kind::Source, _) => format!(
                        "{} records were read: {} without a row, {} bad, {} late rows, {} rows emitted",
                        counts.read, counts.none, counts.bad, counts.late, counts.rows_out
                    ),
                    (_, Some(released)) => format!(
                        "{} rows were there and {} came: {released} are not kept any more, {} are",
                        counts.found,
                        counts.rows_in,
                        counts.held.unwrap_or_default()
                    ),
                    (_, None) => format!(
                        "{} rows went in: {} filtered, {} rejected, {} went out",
                        counts.rows_in,
                        counts.filtered.unwrap_or_default(),
                        counts.rejected,
                        counts.rows_out
                    ),
                };
                return Err(lost_count(epoch, account, &format!("{what}; {missing} are missing")));
            }
            ledger.push(LedgerEntry {
                epoch,
                operator: account.id.clone(),
                name: account.name.clone(),
                table: account.table.clone(),
                counts,
                difference,
            });
        }
        Ok(ledger)
    }
}

impl Kind {
    fn difference(self, counts: &Counts) -> Option<i64> {
        let sum = |of: &[u64]| of.iter().fold(0i64, |sum, n| sum.wrapping_add_unsigned(*n));
        Some(match self {
            Self::Source => {
                sum(&[counts.read, counts.extra]) - sum(&[counts.none, counts.bad, counts.late, counts.rows_out])
            }
            Self::Operator => match counts.released {
                Some(released) => sum(&[counts.found, counts.rows_in]) - sum(&[released, counts.held?]),
                None => sum(&[counts.rows_in]) - sum(&[counts.rejected, counts.filtered?, counts.rows_out]),
            },
            Self::Sink => sum(&[counts.rows_in]) - sum(&[counts.rows_out]),
        })
    }
}

fn lost_count(epoch: Epoch, account: &Account, what: &str) -> Error {
    let message = format!("operator {} ({}) lost count of its rows", account.id, account.name);
    Error::internal(message)
        .with_detail(format!("{what}; checkpoint {epoch} is not committed"))
        .with_hint("the pipeline goes on from the checkpoint before; please report this")
}

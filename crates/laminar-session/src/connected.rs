//! What the pipelines of this process say of the connections that they use: does it work, and how much came and went.
//!
//! Counters live in memory and begin at zero with each start of a job; the state is that of each pipeline's latest job.

use std::collections::BTreeMap;

use laminar_controller::{JobHandle, Phase};
use laminar_core::{OperatorId, PipelineId};
use laminar_engine::graph::{Graph, NodeKind};
use laminar_engine::metrics::OperatorKind;
use laminar_planner::catalog::CatalogSnapshot;

use crate::System;

/// Operators that reach outside, each with its connection.
pub(crate) type Connected = Vec<(OperatorId, String)>;

/// The sources and sinks of a graph whose tables have a connection.
pub(crate) fn connected(graph: &Graph, catalog: &CatalogSnapshot) -> Connected {
    let of = |node: &laminar_engine::Node| {
        let table = match &node.kind {
            NodeKind::Source(source) => &source.table,
            NodeKind::Sink(sink) => &sink.table,
            NodeKind::Operator(_) => return None,
        };
        Some((node.id.clone(), catalog.tables.get(table)?.connection.clone()?))
    };
    graph.nodes.iter().filter_map(of).collect()
}

/// How a connection is doing; the worst of its pipelines counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConnectionStatus {
    /// No pipeline uses it, or none that ran in this process.
    #[default]
    Unused,
    Stopped,
    Running,
    /// A pipeline starts again after a failure.
    Recovering,
    /// A pipeline waits for the outside system.
    Unreachable,
    Failed,
}

impl ConnectionStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Recovering => "recovering",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }

    fn of(phase: Phase, restarts: u64) -> Self {
        match phase {
            Phase::Created | Phase::Scheduling if restarts > 0 => Self::Recovering,
            Phase::Created | Phase::Scheduling | Phase::Running | Phase::Stopping => Self::Running,
            Phase::Recovering => Self::Recovering,
            Phase::Stopped | Phase::Finished => Self::Stopped,
            Phase::Failed => Self::Failed,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionState {
    pub status: ConnectionStatus,
    /// Of the pipeline whose status counts.
    pub last_error: Option<String>,
    /// Records that sources read.
    pub messages_in: u64,
    /// Rows that sinks wrote.
    pub messages_out: u64,
}

impl ConnectionState {
    fn take(&mut self, status: ConnectionStatus, error: Option<String>) {
        if status > self.status || (status == self.status && self.last_error.is_none()) {
            (self.status, self.last_error) = (status, error);
        }
    }
}

impl System {
    /// By the connection's name.
    pub(crate) fn connection_states(&self) -> BTreeMap<String, ConnectionState> {
        let connected = self.connected().clone();
        let mut states = BTreeMap::new();
        for job in self.controller.latest_jobs() {
            let uses = connected.get(&job.status().pipeline).map(Vec::as_slice).unwrap_or_default();
            add(&job, uses, &mut states);
        }
        states
    }

    pub(crate) fn connect(&self, pipeline: &PipelineId, connected: Connected) {
        self.connected().insert(pipeline.clone(), connected);
    }
}

fn add(job: &JobHandle, uses: &[(OperatorId, String)], states: &mut BTreeMap<String, ConnectionState>) {
    let status = job.status();
    let own = ConnectionStatus::of(status.phase, status.restarts);
    let failure = status.failure.as_ref().map(ToString::to_string);
    let operators = job.metrics().map(|metrics| metrics.snapshot().operators).unwrap_or_default();
    for (operator, connection) in uses {
        let state = states.entry(connection.clone()).or_default();
        let numbers = operators.iter().find(|o| o.operator == *operator);
        let trouble = numbers
            .and_then(|n| n.trouble.clone())
            .filter(|_| matches!(status.phase, Phase::Running | Phase::Stopping));
        match trouble {
            Some(trouble) => state.take(ConnectionStatus::Unreachable, Some(trouble)),
            None => state.take(own, failure.clone()),
        }
        match numbers {
            Some(n) if n.kind == OperatorKind::Source => state.messages_in += n.rows_in,
            Some(n) if n.kind == OperatorKind::Sink => state.messages_out += n.rows_out,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_status_counts_with_its_reason() {
        let mut state = ConnectionState::default();
        state.take(ConnectionStatus::Running, None);
        state.take(ConnectionStatus::Recovering, Some("a".into()));
        state.take(ConnectionStatus::Running, None);
        assert_eq!((state.status, state.last_error.as_deref()), (ConnectionStatus::Recovering, Some("a")));
        state.take(ConnectionStatus::Unreachable, Some("b".into()));
        assert_eq!((state.status.as_str(), state.last_error.as_deref()), ("unreachable", Some("b")));
    }
}

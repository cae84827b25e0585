//! Cuts a graph into chains.
//!
//! ```text
//!  source-0 ─F─► project-1 ─F─► sink-2          one chain, head source-0
//!  source-0 ─F─► union-2 ◄─F─ source-1          three chains: a node with several inputs is a head
//! ```

use crate::graph::{Exchange, Graph};

/// A tree of nodes that one task runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChainPlan {
    /// Node indices in topological order; the head is first.
    pub nodes: Vec<usize>,
    /// Indices of the edges that bring rows from other chains, in order of the head's inputs.
    pub inputs: Vec<usize>,
}

pub(crate) fn chains(graph: &Graph) -> Vec<ChainPlan> {
    let inputs =
        |node: usize| (0..graph.edges.len()).filter(move |e| graph.edges.get(*e).is_some_and(|e| e.to == node));
    let is_head = |node: usize| {
        let mut edges = inputs(node);
        match (edges.next(), edges.next()) {
            (Some(only), None) => graph.edges.get(only).is_some_and(|e| matches!(e.exchange, Exchange::Hash(_))),
            _ => true,
        }
    };
    let mut chain_of: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    let mut chains: Vec<ChainPlan> = Vec::new();
    for node in 0..graph.nodes.len() {
        if is_head(node) {
            chain_of.push(chains.len());
            chains.push(ChainPlan { nodes: vec![node], inputs: inputs(node).collect() });
            continue;
        }
        let from = inputs(node).next().and_then(|e| graph.edges.get(e)).map(|e| e.from);
        let chain = from.and_then(|f| chain_of.get(f)).copied().unwrap_or_default();
        chain_of.push(chain);
        if let Some(plan) = chains.get_mut(chain) {
            plan.nodes.push(node);
        }
    }
    chains
}

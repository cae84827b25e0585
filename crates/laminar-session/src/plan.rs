//! Definitions to plans: what the catalogue keeps of one, and the graph that a job runs.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use laminar_core::source::ConsumerGroup;
use laminar_core::{PipelineId, Result};
use laminar_engine::graph::{Exchange, Graph, NodeKind};
use laminar_engine::operator::OperatorFactory;
use laminar_engine::{Keep, RelationHandle};
use laminar_planner::plan::PlannedPipeline;
use laminar_planner::settings::PipelineOptions;
use laminar_planner::{Changing, PipelineContext, Retain};

use crate::catalog::{Catalog, Pipeline, Planned};
use crate::connected::connected;
use crate::define::{Definition, define};
use crate::outcome::Notice;
use crate::{GraphEdge, GraphInfo, GraphNode, System};

/// Rows that a pipeline without a sink keeps where its options do not say.
const RETAIN_ROWS: usize = 10_000;

/// What planning a definition gives.
pub(crate) struct PlanOutcome {
    pub stored: Planned,
    pub parallelism: u32,
    pub checkpoint_interval_micros: u64,
    pub notices: Vec<Notice>,
    /// The graph as a tree, for people.
    pub explain: String,
    pub explain_json: serde_json::Value,
    /// Optimised logical plans, one per step.
    pub logical: Vec<String>,
}

impl System {
    /// Plans the definition without keeping anything of it.
    pub(crate) fn plan(&self, catalog: &Arc<Catalog>, id: &PipelineId, definition: &Definition) -> Result<PlanOutcome> {
        let subject = definition.name.as_deref().unwrap_or("of the query");
        let options = PipelineOptions::parse(&definition.options, subject)?;
        let parallelism =
            definition.parallelism.or(options.parallelism).unwrap_or_else(|| bounded(self.config.defaults.parallelism));
        let given = definition
            .checkpoint_interval_micros
            .map(Duration::from_micros)
            .or(options.checkpoint_interval.map(|d| d.0));
        let interval = given.unwrap_or(self.config.defaults.checkpoint_interval);
        let throwaway = |schema: SchemaRef, _: Changing| Ok(RelationHandle::new(schema, Keep::Last(1))?.operator());
        let request = Request { id, definition, options: &options, parallelism, interval, retain: &throwaway };
        let planned = self.plan_with(catalog, &request)?;
        let mut stored = Planned {
            options: options.clone(),
            sources: planned.sources.clone(),
            sinks: planned.sinks.clone(),
            depends_on: self.depends_on(definition, &planned),
            result: None,
            graph: graph_info(&planned.graph, parallelism as usize),
        };
        stored.set_result(planned.result.as_ref());
        let mut notices: Vec<Notice> = planned.notices.iter().map(|n| Notice::new("plan", n.clone())).collect();
        notices.extend(self.shared_groups(catalog, id, &planned.graph));
        Ok(PlanOutcome {
            stored,
            parallelism,
            checkpoint_interval_micros: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            notices,
            explain: planned.explain,
            explain_json: planned.explain_json,
            logical: planned.logical,
        })
    }

    /// The graph of a stored pipeline, to be run now. Its result, if it keeps one, is the one that queries see.
    pub(crate) fn graph_of(&self, pipeline: &Pipeline) -> Result<Graph> {
        let catalog = self.catalog();
        let definition = define(&self.planner, &catalog.snapshot, &pipeline.sql, &self.values(&catalog))?;
        let options = &pipeline.planned.options;
        let retain_rows = options.retain_rows.unwrap_or(RETAIN_ROWS);
        let retain = |schema: SchemaRef, changing: Changing| {
            let keep = match changing {
                Changing::Never => Keep::Last(retain_rows),
                Changing::Updating => Keep::Current,
            };
            self.retain(&pipeline.id, schema, keep)
        };
        let request = Request {
            id: &pipeline.id,
            definition: &definition,
            options,
            parallelism: pipeline.parallelism,
            interval: Duration::from_micros(pipeline.checkpoint_interval_micros),
            retain: &retain,
        };
        let graph = self.plan_with(&catalog, &request)?.graph;
        self.groups().insert(pipeline.id.clone(), groups(&graph));
        self.connect(&pipeline.id, connected(&graph, &definition.snapshot));
        Ok(graph)
    }

    fn plan_with(&self, catalog: &Arc<Catalog>, request: &Request<'_>) -> Result<PlannedPipeline> {
        let ctx = PipelineContext {
            pipeline: request.id.clone(),
            instance: self.config.metastore.instance_id().to_string(),
            options: request.options,
            parallelism: request.parallelism as usize,
            checkpoint_interval: request.interval,
            clock: Arc::clone(&self.config.clock),
            resolver: &self.values(catalog),
            retain: request.retain,
        };
        self.planner.plan_pipeline(&request.definition.snapshot, &request.definition.body, &ctx)
    }

    /// The operator that keeps a pipeline's result. A job that starts again goes on filling the same relation, so its
    /// followers stay connected.
    fn retain(&self, id: &PipelineId, schema: SchemaRef, keep: Keep) -> Result<Arc<dyn OperatorFactory>> {
        let mut results = self.results();
        match results.get(id).filter(|r| *r.schema() == schema && r.keeps(keep)) {
            Some(relation) => Ok(relation.operator()),
            None => {
                let relation = RelationHandle::new(schema, keep)?;
                let operator = relation.operator();
                results.insert(id.clone(), relation);
                Ok(operator)
            }
        }
    }

    /// What the pipeline needs of the catalogue; its own tables and views are its own.
    fn depends_on(
        &self,
        definition: &Definition,
        planned: &PlannedPipeline,
    ) -> Vec<laminar_planner::catalog::ObjectRef> {
        let mut needs = planned.depends_on.clone();
        let local_tables = definition.snapshot.tables.values();
        for table in local_tables.filter(|t| definition.local.iter().any(|l| l.name == t.name)) {
            needs.extend(table.depends_on());
        }
        needs.into_iter().filter(|object| !definition.local.contains(object)).collect()
    }

    /// A notice for each consumer group that another running pipeline reads with: nothing joins a group, so they do not
    /// split the partitions as Kafka's own consumers would.
    fn shared_groups(&self, catalog: &Catalog, id: &PipelineId, graph: &Graph) -> Vec<Notice> {
        let running = self.groups();
        let mut notices = Vec::new();
        for group in groups(graph) {
            for (other, _) in running.iter().filter(|(other, used)| *other != id && used.contains(&group)) {
                let Some(other) = catalog.pipelines.values().find(|p| p.id == *other && self.is_active(&p.id)) else {
                    continue;
                };
                notices.push(Notice::new(
                    "shared_group",
                    format!(
                        "consumer group {} is also used by pipeline {}: each reads every partition, and the group shows the offsets of whichever committed last",
                        group.group_id, other.name
                    ),
                ));
            }
        }
        notices
    }
}

struct Request<'a> {
    id: &'a PipelineId,
    definition: &'a Definition,
    options: &'a PipelineOptions,
    parallelism: u32,
    interval: Duration,
    retain: &'a Retain<'a>,
}

fn groups(graph: &Graph) -> Vec<ConsumerGroup> {
    let group = |kind: &NodeKind| match kind {
        NodeKind::Source(source) => source.source.group(),
        _ => None,
    };
    graph.nodes.iter().filter_map(|node| group(&node.kind)).collect()
}

/// The graph as people see it.
pub(crate) fn graph_info(graph: &Graph, parallelism: usize) -> GraphInfo {
    let node = |(node_id, node): (usize, &laminar_engine::Node)| GraphNode {
        node_id,
        operator: node.id.to_string(),
        kind: match node.kind {
            NodeKind::Source(_) => "source",
            NodeKind::Operator(_) => "operator",
            NodeKind::Sink(_) => "sink",
        }
        .to_string(),
        description: node.name.clone(),
        parallelism,
    };
    let edge = |edge: &laminar_engine::Edge| GraphEdge {
        src_id: edge.from,
        dest_id: edge.to,
        edge_type: match edge.exchange {
            Exchange::Forward => "forward",
            Exchange::Hash(_) => "hash",
        }
        .to_string(),
    };
    GraphInfo {
        nodes: graph.nodes.iter().enumerate().map(node).collect(),
        edges: graph.edges.iter().map(edge).collect(),
    }
}

fn bounded(parallelism: usize) -> u32 {
    u32::try_from(parallelism.max(1)).unwrap_or(u32::MAX)
}

//! Where the dead letters of a pipeline's sources go.

use std::collections::BTreeSet;
use std::sync::Arc;

use laminar_core::Result;
use laminar_core::connector::{Role, SinkContext, SourceContext};
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::Source;
use laminar_engine::graph::{BadDataPolicy, Graph, LateRows, NodeKind};

use super::explain;
use crate::catalog::{CatalogSnapshot, TableDef};
use crate::check;
use crate::planner::{PipelineContext, Planner};
use crate::resolver::Resolver;
use crate::settings::LateData;

/// What reads the letters of a table; `None` if it keeps none, or they cannot be looked at.
pub(crate) fn source(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    (ctx, resolver): (&SourceContext, &dyn Resolver),
) -> Result<Option<Arc<dyn Source>>> {
    let bound = check::bind(planner, catalog, table, resolver)?;
    if !bound.settings.keeps_dead_letters() || !table.can_be(Role::Source) {
        return Ok(None);
    }
    let spec = check::spec(table, &bound.settings, Role::Source);
    bound.connector.dead_letter_source(&bound.dead_letters_of(&spec), ctx)
}

/// What puts letters of a table back.
pub(crate) fn replay(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    (ctx, resolver): (&SinkContext, &dyn Resolver),
) -> Result<Arc<dyn Sink>> {
    let bound = check::bind(planner, catalog, table, resolver)?;
    let spec = check::spec(table, &bound.settings, Role::Source);
    bound.connector.replay(&bound.dead_letters_of(&spec), ctx)
}

/// Opens them, after the sinks: what is written to the same place shares their transaction. Returns notices.
pub(super) fn open(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    graph: &mut Graph,
    (ctx, sink_context): (&PipelineContext<'_>, &SinkContext),
) -> Result<Vec<String>> {
    let mut repeating = BTreeSet::new();
    for node in &mut graph.nodes {
        let NodeKind::Source(source) = &mut node.kind else { continue };
        let Some(table) = catalog.tables.get(&source.table) else { continue };
        let bound = check::bind(planner, catalog, table, ctx.resolver)?;
        if !bound.settings.keeps_dead_letters() {
            continue;
        }
        if source.late == LateRows::Drop && bound.settings.late_data == LateData::Dlq {
            source.late = LateRows::DeadLetter;
        }
        let keeps_bad = matches!(source.bad_data, BadDataPolicy::DeadLetter { .. });
        // Nothing is late where nothing waits.
        if !keeps_bad && source.late != LateRows::DeadLetter {
            continue;
        }
        let spec = check::spec(table, &bound.settings, Role::Source);
        let sink = bound.connector.dead_letters(&bound.dead_letters_of(&spec), sink_context)?;
        if ctx.options.delivery.is_none() && sink.delivery() == Delivery::AtLeastOnce {
            repeating.insert(source.table.clone());
        }
        node.name.push_str(&format!(", dead letters {}", explain::guarantee(sink.delivery())));
        source.dead_letters = Some(sink);
    }
    let notice =
        |table| format!("dead letters of table {table} are written at least once: they may repeat after a failure");
    Ok(repeating.into_iter().map(notice).collect())
}

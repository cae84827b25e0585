//! EXPLAIN: what a statement would run, without running it.

use std::sync::Arc;

use laminar_core::{Code, Error, Options, PipelineId, Result};
use laminar_planner::statement::{Explain, ExplainFormat, Parsed, PipelineBody, PipelineStep, Statement};

use crate::System;
use crate::define::Definition;
use crate::outcome::Outcome;
use crate::system::{ColumnType, batch};

const ONLY_PIPELINES: &str =
    "EXPLAIN shows what a pipeline would run, and this cannot be one; without EXPLAIN, the SELECT runs once";

/// Errors: those of planning the statement; `not_supported` for one that has no plan.
pub(crate) fn explain(system: &Arc<System>, defaults: &Options, explain: &Explain, parsed: &Parsed) -> Result<Outcome> {
    let catalog = system.catalog();
    let snapshot = &catalog.snapshot;
    let one_step = |step| Definition::of_body(snapshot, PipelineBody { steps: vec![step] });
    let definition = match explain.statement.as_ref() {
        Statement::CreatePipeline(create) => Definition::of_statement(snapshot, create),
        Statement::InsertSelect(insert) | Statement::InsertValues(insert) => {
            one_step(PipelineStep::Insert(insert.clone()))
        }
        Statement::Query(query) => one_step(PipelineStep::Select(query.clone())),
        _ => {
            return Err(Error::new(
                Code::NotSupported,
                "EXPLAIN shows the plan of CREATE PIPELINE, INSERT INTO and SELECT",
            )
            .at(parsed.start));
        }
    };
    let definition = definition.with_defaults(defaults);
    let planned = system.plan(&catalog, &PipelineId::from("explain"), &definition);
    let plan = planned.map_err(|error| match (error.code(), explain.statement.as_ref()) {
        (Code::NotSupported, Statement::Query(_)) => error.with_hint(ONLY_PIPELINES),
        _ => error,
    })?;
    let text = match explain.format {
        ExplainFormat::Text => plan.explain,
        ExplainFormat::Verbose => format!("{}\n\n{}", plan.explain, plan.logical.join("\n\n")),
        ExplainFormat::Json => {
            serde_json::to_string_pretty(&plan.explain_json).map_err(|e| Error::internal(e.to_string()))?
        }
    };
    let lines = text.lines().map(|line| vec![line.into()]).collect();
    Ok(Outcome::rows("EXPLAIN", batch(&[("plan", ColumnType::Text)], lines)?))
}

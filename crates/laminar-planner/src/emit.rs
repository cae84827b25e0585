//! `EMIT EVERY INTERVAL '…'`: the windows of a query come out while they grow, and are updated until they end.
//!
//! It is about the windows nearest to the result: on each way from there down, the first GROUP BY that makes one. Those
//! GROUP BYs get window functions that say so, which lowering finds; an aggregate's columns keep their names.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use laminar_core::{Code, Error, Result};
use laminar_engine::operators::aggregate::Span;

use crate::functions::windows::{WindowCall, WindowKind, micros_of};
use crate::sql::SqlContext;
use crate::statement::{EmitEvery, SqlQuery};
use crate::translate::translate;

/// What a window is made of while it grows: each part is a group's state.
const MAX_PARTS: i64 = 100_000;

/// The plan with windows that come out every so often. Errors, at the clause: `invalid_value` for what is no positive
/// interval, `not_supported` where there is no window that grows.
pub(crate) fn every(sql: &SqlContext, plan: LogicalPlan, emit: &EmitEvery) -> Result<LogicalPlan> {
    let interval = match sql.expr(&emit.interval, &DFSchema::empty())? {
        Expr::Literal(value, _) => micros_of(&value).filter(|micros| *micros > 0),
        _ => None,
    };
    let Some(every) = interval else {
        return Err(Error::new(Code::InvalidValue, "EMIT EVERY takes a constant interval that is more than nothing")
            .with_hint("write EMIT EVERY INTERVAL '1 minute': days or less")
            .at(emit.interval.start));
    };
    let mut windows = 0;
    let grown = plan.transform_down(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        match growing(aggregate, every).map_err(|error| DataFusionError::External(Box::new(error)))? {
            Some(growing) => {
                windows += 1;
                Ok(Transformed::new(LogicalPlan::Aggregate(growing), true, TreeNodeRecursion::Jump))
            }
            None => Ok(Transformed::no(node)),
        }
    });
    let grown = grown.map_err(|error| translate(error).at(emit.location))?;
    if windows == 0 {
        return Err(Error::new(Code::NotSupported, "EMIT EVERY of a query without a window in its GROUP BY")
            .with_hint("GROUP BY tumble(…), hop(…) or cumulate(…); what has no window is updated with each row anyway")
            .at(emit.location));
    }
    Ok(grown.data)
}

/// Refuses it where a query is answered once. Errors: `not_supported`, at the clause.
pub(crate) fn refuse_at_once(query: &SqlQuery) -> Result<()> {
    let Some(emit) = &query.emit else { return Ok(()) };
    Err(Error::new(Code::NotSupported, "EMIT EVERY is for pipelines: this query is answered once, at its end")
        .with_hint("leave it out, or CREATE PIPELINE name AS SELECT … EMIT EVERY …")
        .at(emit.location))
}

/// The aggregate, if it makes windows, with windows that come out while they grow.
fn growing(aggregate: &Aggregate, every: i64) -> Result<Option<Aggregate>> {
    let mut found = false;
    let mut keys = Vec::with_capacity(aggregate.group_expr.len());
    for expr in &aggregate.group_expr {
        let Some(call) = WindowCall::of(expr)? else {
            keys.push(expr.clone());
            continue;
        };
        let expr = WindowCall::emitting_every(expr, every);
        check(call.kind, WindowCall::of(&expr)?.and_then(|call| call.span()))?;
        keys.push(expr);
        found = true;
    }
    let schema = Arc::clone(&aggregate.schema);
    let input = Arc::clone(&aggregate.input);
    let rebuilt = || Aggregate::try_new_with_schema(input, keys, aggregate.aggr_expr.clone(), schema);
    found.then(rebuilt).transpose().map_err(translate)
}

fn check(kind: WindowKind, span: Option<Span>) -> Result<()> {
    let Some(Span::Growing { size, .. }) = span else {
        let message = format!("EMIT EVERY of {} windows is not supported in this version", kind.name());
        return Err(Error::new(Code::NotSupported, message)
            .with_hint("use tumble, hop or cumulate; or leave EMIT EVERY out: a session comes out when it ends"));
    };
    let parts = span.map_or(0, |span| size / span.pane());
    if parts > MAX_PARTS {
        let message = format!("EMIT EVERY would cut each window into {parts} parts, {MAX_PARTS} is the limit");
        return Err(Error::new(Code::InvalidValue, message)
            .with_hint("take an interval that the window's size is a multiple of"));
    }
    Ok(())
}

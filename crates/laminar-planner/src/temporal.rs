//! `a JOIN t FOR SYSTEM_TIME AS OF a.at ON …`: the rows of `t` as they were at a time of `a`.
//!
//! DataFusion's planner does not know the clause. So it is taken out of the syntax tree, and a marker joins the condition,
//! which becomes a node of its own in the plan as it is written: before any rule could take the join for an ordinary one.
//!
//! ```text
//!  JOIN t FOR SYSTEM_TIME AS OF a.at ON a.k = t.k   ─►   JOIN t ON (a.k = t.k) AND marker(a.at, 0)   ─►   VersionJoin
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, ScalarValue};
use datafusion::logical_expr::logical_plan::Extension;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Join, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    UserDefinedLogicalNodeCore, Volatility, build_join_schema,
};
use datafusion::sql::sqlparser::ast::{
    self, Ident, JoinConstraint, JoinOperator, Query, Select, Spanned, TableFactor, TableVersion, VisitMut, VisitorMut,
};
use laminar_core::{Code, Error, Location, Result};

use crate::parse::{identifier_location, identifier_text};
use crate::script::location;
use crate::sql::Tables;
use crate::statement::Name;
use crate::translate::translate;

/// What stands in a condition for the clause. No SQL name is like it.
pub(crate) const MARKER: &str = "for system_time as of";

/// A table whose versions are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Versioned {
    pub table: String,
    /// Columns that say which rows are versions of one; at least one.
    pub primary_key: Vec<String>,
    /// Line and column of the clause's time; `None` in the text of a view, whose places mean nothing outside.
    pub place: Option<(u64, u64)>,
}

impl Versioned {
    pub fn location(&self) -> Option<Location> {
        self.place.map(|(line, column)| Location { line, column })
    }
}

/// Takes the clauses out of the query, and marks their joins. Errors, at the clause: `not_supported` where it does not stand
/// behind the table of an inner or left join ON a condition; those of [`Tables::versioned`].
pub(crate) fn take(query: &mut Query, tables: &dyn Tables) -> Result<Vec<Versioned>> {
    let mut taking = Taking { tables, found: Vec::new(), named: HashSet::new() };
    match query.visit(&mut taking) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(taking.found),
    }
}

struct Taking<'a> {
    tables: &'a dyn Tables,
    found: Vec<Versioned>,
    /// Names that a WITH gives.
    named: HashSet<String>,
}

impl VisitorMut for Taking<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.extend(with.map(|cte| identifier_text(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Err(error) = self.join(join) {
                return ControlFlow::Break(error);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, version: Some(_), .. } = factor else { return ControlFlow::Continue(()) };
        let message = "FOR SYSTEM_TIME AS OF stands behind the second table of a join: the first one says of when";
        let error = Error::new(Code::NotSupported, message).with_hint(USAGE);
        ControlFlow::Break(error.at(location(name.span().start)))
    }
}

const USAGE: &str = "FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON r.currency = o.currency";

impl Taking<'_> {
    fn join(&mut self, join: &mut ast::Join) -> Result<()> {
        let TableFactor::Table { name, version, .. } = &mut join.relation else { return Ok(()) };
        let Some(version) = version.take() else { return Ok(()) };
        let ident = match name.0.as_slice() {
            [part] => part.as_ident().cloned(),
            _ => None,
        };
        let at = location(name.span().start);
        let refused = |message: &str| Err(Error::new(Code::NotSupported, message).with_hint(USAGE).at(at));
        let TableVersion::ForSystemTimeAsOf(time) = version else {
            return refused("of the versions of a table, only FOR SYSTEM_TIME AS OF is supported");
        };
        let at = location(time.span().start).or(at);
        let constraint = match &mut join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => {
                on
            }
            _ => return refused("FOR SYSTEM_TIME AS OF in another join than an inner or left one is not supported"),
        };
        let JoinConstraint::On(condition) = constraint else {
            return refused("FOR SYSTEM_TIME AS OF in a join without ON is not supported");
        };
        let Some(ident) = ident.filter(|ident| !self.named.contains(&identifier_text(ident))) else {
            return refused("FOR SYSTEM_TIME AS OF of what is no table is not supported");
        };
        let name = Name { value: identifier_text(&ident), location: identifier_location(&ident) };
        let versioned = self.tables.versioned(&name, at).map_err(|error| error.at(name.location))?;
        let marked = marker(time, self.found.len(), ident.span);
        let condition_before = std::mem::replace(condition, marked.clone());
        *condition = ast::Expr::BinaryOp {
            left: Box::new(ast::Expr::Nested(Box::new(condition_before))),
            op: ast::BinaryOperator::And,
            right: Box::new(marked),
        };
        self.found.push(versioned);
        Ok(())
    }
}

fn marker(time: ast::Expr, index: usize, span: datafusion::sql::sqlparser::tokenizer::Span) -> ast::Expr {
    let unnamed = |expr| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr));
    let index = ast::Expr::value(ast::Value::Number(index.to_string(), false));
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![Ident::with_quote_and_span('"', span, MARKER)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![unnamed(time), unnamed(index)],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// What the marker is to DataFusion's planner.
pub(crate) fn marker_function() -> ScalarUDF {
    ScalarUDF::from(Marker { signature: Signature::any(2, Volatility::Volatile) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        MARKER
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        Err(DataFusionError::External(Box::new(Error::internal("a join with versions was planned as another one"))))
    }
}

/// The plan with a [`VersionJoin`] for each join that is marked.
pub(crate) fn joined(plan: LogicalPlan, versions: &[Versioned]) -> Result<LogicalPlan> {
    if versions.is_empty() {
        return Ok(plan);
    }
    let replaced = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        let Some(joined) = VersionJoin::of(join, versions)? else { return Ok(Transformed::no(node)) };
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(joined) })))
    });
    Ok(replaced.map_err(translate)?.data)
}

/// Rows of `left`, each with the row of `right` as that was then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VersionJoin {
    pub left: LogicalPlan,
    pub right: LogicalPlan,
    /// Inner or left.
    pub kind: JoinType,
    /// Of the left row.
    pub time: Expr,
    /// All must hold.
    pub conditions: Vec<Expr>,
    pub versioned: Versioned,
    /// The left columns and then the right ones.
    pub schema: DFSchemaRef,
}

impl VersionJoin {
    fn of(join: &Join, versions: &[Versioned]) -> datafusion::common::Result<Option<Self>> {
        let mut conditions: Vec<Expr> = join.on.iter().map(|(left, right)| left.clone().eq(right.clone())).collect();
        let mut marked = None;
        for condition in join.filter.clone().map(split_conjunction_owned).unwrap_or_default() {
            match marked_time(&condition) {
                Some(found) => marked = Some(found),
                None => conditions.push(condition),
            }
        }
        let Some((time, index)) = marked else { return Ok(None) };
        let internal = || DataFusionError::Internal("a marker of no version".to_string());
        Ok(Some(Self {
            left: join.left.as_ref().clone(),
            right: join.right.as_ref().clone(),
            kind: join.join_type,
            time,
            conditions,
            versioned: versions.get(index).cloned().ok_or_else(internal)?,
            schema: Arc::clone(&join.schema),
        }))
    }
}

fn marked_time(condition: &Expr) -> Option<(Expr, usize)> {
    let Expr::ScalarFunction(call) = condition else { return None };
    match call.args.as_slice() {
        [time, Expr::Literal(ScalarValue::Int64(Some(index)), _)] if call.func.inner().is::<Marker>() => {
            Some((time.clone(), usize::try_from(*index).ok()?))
        }
        _ => None,
    }
}

impl PartialOrd for VersionJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let parts = |join: &Self| (join.left.clone(), join.right.clone(), join.time.clone(), join.conditions.clone());
        parts(self).partial_cmp(&parts(other)).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for VersionJoin {
    fn name(&self) -> &str {
        "VersionJoin"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.conditions).cloned().collect()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionJoin: {} as of {}", self.versioned.table, self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> datafusion::common::Result<Self> {
        let internal = |what: &str| DataFusionError::Internal(format!("a join with versions without {what}"));
        let [left, right] = <[LogicalPlan; 2]>::try_from(inputs).map_err(|_| internal("its inputs"))?;
        // A rule that writes one differently names it as it was.
        let mut exprs = exprs.into_iter().map(Expr::unalias);
        let time = exprs.next().ok_or_else(|| internal("its time"))?;
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &self.kind)?);
        let (kind, versioned) = (self.kind, self.versioned.clone());
        Ok(Self { left, right, kind, time, conditions: exprs.collect(), versioned, schema })
    }

    /// What the expressions name, too, the caller adds.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output.iter().partition(|index| **index < width);
        Some(vec![left, right.into_iter().map(|index| index - width).collect()])
    }
}

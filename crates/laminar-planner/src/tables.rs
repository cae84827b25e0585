//! Names in FROM to what a plan reads: tables, views (planned again from their text), pipeline results, system tables.
//!
//! A table's DEFAULT and GENERATED columns are a projection over its scan, so the optimiser drops those that no one uses, and
//! with them the record's columns that only they need.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::provider_as_source;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, TableSource, cast, col};
use laminar_core::connector::Role;
use laminar_core::{Code, Error, Location, Result};

use crate::catalog::{CatalogSnapshot, ColumnDef, ObjectRef, Relation, TableDef, ViewDef};
use crate::functions::clock::is_processing_time;
use crate::parse;
use crate::planner::RelationProviders;
use crate::sql::{SqlContext, Tables};
use crate::statement::{Name, ObjectKind};
use crate::temporal::Versioned;
use crate::translate::translate;

/// Views inside views.
const MAX_VIEW_DEPTH: usize = 32;
/// Views read by one query, counted each time they are read.
const MAX_VIEWS: usize = 500;

/// What the plan is for.
#[derive(Clone, Copy)]
pub(crate) enum Reads<'a> {
    /// A pipeline: streams only.
    Stream,
    /// The check of a view: nothing is run.
    View,
    /// A one-off query.
    Query(&'a dyn RelationProviders),
}

pub(crate) struct CatalogTables<'a> {
    sql: &'a SqlContext,
    catalog: &'a CatalogSnapshot,
    reads: Reads<'a>,
    /// Views being planned, outermost first.
    expanding: RefCell<Vec<String>>,
    expanded: RefCell<usize>,
    used: RefCell<BTreeSet<ObjectRef>>,
}

impl<'a> CatalogTables<'a> {
    pub fn new(sql: &'a SqlContext, catalog: &'a CatalogSnapshot, reads: Reads<'a>) -> Self {
        let (expanding, expanded, used) = Default::default();
        Self { sql, catalog, reads, expanding, expanded, used }
    }

    /// For the check of a view: reading it would be a cycle.
    pub fn creating(self, view: &str) -> Self {
        self.expanding.borrow_mut().push(view.to_string());
        self
    }

    /// The objects whose names were resolved. A name that a CTE hides counts too.
    pub fn used(&self) -> BTreeSet<ObjectRef> {
        self.used.borrow().clone()
    }

    fn depends_on(&self, kind: ObjectKind, name: &str) {
        if self.expanding.borrow().len() <= usize::from(matches!(self.reads, Reads::View)) {
            self.used.borrow_mut().insert(ObjectRef::new(kind, name));
        }
    }

    fn table_source(&self, table: &TableDef) -> Result<Arc<dyn TableSource>> {
        if !table.can_be(Role::Source) {
            return Err(Error::new(
                Code::WrongObjectKind,
                format!("table {} is a sink: it is written, not read", table.name),
            )
            .with_hint("to read the same place, create a table of type 'source'"));
        }
        match self.reads {
            Reads::Query(providers) => Ok(provider_as_source(providers.stream(table)?)),
            Reads::Stream | Reads::View => stream_source(self.sql, table),
        }
    }

    fn view_source(&self, view: &ViewDef) -> Result<Arc<dyn TableSource>> {
        let depth = self.expanding.borrow().len();
        *self.expanded.borrow_mut() += 1;
        if depth > MAX_VIEW_DEPTH || *self.expanded.borrow() > MAX_VIEWS {
            return Err(Error::new(Code::StatementTooComplex, format!("view {} leads to too many views", view.name))
                .with_hint(format!("views can be nested {MAX_VIEW_DEPTH} deep, and a query can read {MAX_VIEWS}")));
        }
        self.expanding.borrow_mut().push(view.name.clone());
        let planned = self.plan_view(view);
        self.expanding.borrow_mut().pop();
        // places in the view's text are not places in the statement
        planned.map_err(|error| {
            let message = if error.message().starts_with("view ") {
                error.message().to_string()
            } else {
                format!("view {}: {}", view.name, error.message())
            };
            let outer = Error::new(error.code(), message);
            error.hint().map_or(outer.clone(), |hint| outer.with_hint(hint))
        })
    }

    fn plan_view(&self, view: &ViewDef) -> Result<Arc<dyn TableSource>> {
        let query = parse::parse_query(&view.query)?;
        if matches!(self.reads, Reads::Stream) {
            crate::refuse::query(self.sql, &query)?;
        }
        let mut plan = self.sql.plan(&query, self)?;
        if !view.columns.is_empty() {
            plan = rename(plan, &view.columns)?;
        }
        Ok(Arc::new(PlannedSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
    }
}

impl Tables for CatalogTables<'_> {
    fn table(&self, name: &Name) -> Result<Arc<dyn TableSource>> {
        if self.expanding.borrow().contains(&name.value) {
            let path = self.expanding.borrow().join(" → ");
            return Err(Error::new(
                Code::CyclicView,
                format!("view {} reads itself: {path} → {}", name.value, name.value),
            ));
        }
        match self.catalog.relation(name)? {
            Relation::Table(table) => {
                let source = self.table_source(table)?;
                self.depends_on(ObjectKind::Table, &table.name);
                Ok(source)
            }
            Relation::View(view) => {
                let source = self.view_source(view)?;
                self.depends_on(ObjectKind::View, &view.name);
                Ok(source)
            }
            Relation::Result(schema) => {
                let source: Arc<dyn TableSource> = match self.reads {
                    Reads::Query(providers) => provider_as_source(providers.result(&name.value)?),
                    Reads::View => Arc::new(StreamSource { table: name.value.clone(), schema: Arc::clone(schema) }),
                    Reads::Stream => {
                        return Err(Error::new(
                            Code::NotSupported,
                            format!(
                                "reading the result of pipeline {} in a pipeline is not supported in this version",
                                name.value
                            ),
                        )
                        .with_hint("let the first pipeline write to a topic, and read that"));
                    }
                };
                self.depends_on(ObjectKind::Pipeline, &name.value);
                Ok(source)
            }
        }
    }

    fn versioned(&self, name: &Name, at: Option<Location>) -> Result<Versioned> {
        let refused = |message: String, hint: &str| Err(Error::new(Code::NotSupported, message).with_hint(hint));
        if matches!(self.reads, Reads::Query(_)) {
            let message = "FOR SYSTEM_TIME AS OF is for pipelines: a one-off query sees all rows at once".to_string();
            return refused(message, "CREATE PIPELINE name AS SELECT …, and read its result");
        }
        let Relation::Table(table) = self.catalog.relation(name)? else {
            let message = format!("FOR SYSTEM_TIME AS OF of {}, which is no table, is not supported", name.value);
            return refused(message, "name the table itself, and filter its rows in the condition of the join");
        };
        if table.primary_key.is_empty() {
            let message =
                format!("table {} has no PRIMARY KEY: nothing says which of its rows are versions of one", table.name);
            return refused(message, "declare PRIMARY KEY (column, …) in its CREATE TABLE");
        }
        let outermost = self.expanding.borrow().len() <= usize::from(matches!(self.reads, Reads::View));
        Ok(Versioned {
            table: table.name.clone(),
            primary_key: table.primary_key.clone(),
            place: at.filter(|_| outermost).map(|at| (at.line, at.column)),
        })
    }

    fn system_table(&self, name: &Name) -> Result<Arc<dyn TableSource>> {
        let Reads::Query(providers) = self.reads else {
            return Err(Error::new(
                Code::NotSupported,
                format!("system.{} can only be read by a SELECT of its own", name.value),
            )
            .with_hint("leave it out of the pipeline, and join it to the pipeline's result in a SELECT"));
        };
        match providers.system(&name.value) {
            Some(provider) => Ok(provider_as_source(provider)),
            None => {
                let names = providers.system_names();
                let error = Error::new(Code::UnknownTable, format!("there is no table system.{}", name.value));
                Err(match laminar_core::options::nearest(&name.value, names.iter().map(String::as_str)) {
                    Some(near) => error.with_hint(format!("did you mean system.{near}?")),
                    None => error.with_hint(format!("system tables: {}", names.join(", "))),
                })
            }
        }
    }
}

/// A stream's scan, which lowering finds again. Its columns are those that the record holds.
#[derive(Debug)]
pub(crate) struct StreamSource {
    pub table: String,
    schema: SchemaRef,
}

impl TableSource for StreamSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A view, or a table with computed columns: its plan takes its place.
struct PlannedSource {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl TableSource for PlannedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// The table as a stream: its scan, under a projection if it has computed columns.
pub(crate) fn stream_source(sql: &SqlContext, table: &TableDef) -> Result<Arc<dyn TableSource>> {
    let computed = table.columns.iter().any(|c| c.default.is_some() || c.generated.is_some());
    let stored = table.columns.iter().filter(|c| c.generated.is_none());
    let fields = stored.map(|c| c.sql_type.field(&c.name, c.nullable || c.default.is_some()));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let scan = Arc::new(StreamSource { table: table.name.clone(), schema: Arc::clone(&schema) });
    if !computed {
        return Ok(scan);
    }
    let columns = DFSchema::try_from_qualified_schema(table.name.as_str(), &schema).map_err(translate)?;
    // Stored columns with a default, by name: what a generated column sees of them too.
    let mut filled = HashMap::new();
    for column in &table.columns {
        if let (None, Some(text)) = (&column.generated, &column.default) {
            let default = sql.expr(&parse::parse_expr(text)?, &DFSchema::empty())?;
            let default = as_type(default, &DFSchema::empty(), column.sql_type.data_type.clone());
            filled.insert(column.name.as_str(), coalesce(vec![plain(table, column), default]));
        }
    }
    let exprs = table.columns.iter().map(|column| {
        let expr = match &column.generated {
            Some(text) => {
                let expr = sql.expr(&parse::parse_expr(text)?, &columns)?;
                let expr = as_type(expr, &columns, column.sql_type.data_type.clone());
                fill(expr, &filled)?
            }
            None => match filled.get(column.name.as_str()) {
                Some(expr) => expr.clone(),
                None => return Ok(plain(table, column)),
            },
        };
        let needs_no_check = column.nullable || is_processing_time(&expr);
        let expr = if needs_no_check { expr } else { crate::functions::not_null(expr, &table.name, &column.name) };
        Ok(expr.alias(&column.name))
    });
    let exprs = exprs.collect::<Result<Vec<Expr>>>()?;
    let plan = LogicalPlanBuilder::scan(table.name.as_str(), scan, None)
        .and_then(|scan| scan.project(exprs))
        .and_then(|p| p.build());
    let plan = plan.map_err(translate)?;
    Ok(Arc::new(PlannedSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
}

fn plain(table: &TableDef, column: &ColumnDef) -> Expr {
    col(Column::new(Some(table.name.as_str()), &column.name))
}

/// The expression with `filled` in the place of columns.
fn fill(expr: Expr, filled: &HashMap<&str, Expr>) -> Result<Expr> {
    // Bottom-up: what is put in, which holds the column itself, is not looked into.
    let replaced = expr.transform_up(|part| {
        let found = part.try_as_col().and_then(|column| filled.get(column.name.as_str()));
        Ok(found.map_or_else(|| Transformed::no(part.clone()), |filled| Transformed::yes(filled.clone())))
    });
    Ok(replaced.map_err(translate)?.data)
}

/// The expression cast to a type, unless it has it.
fn as_type(expr: Expr, schema: &DFSchema, data_type: arrow::datatypes::DataType) -> Expr {
    match expr.get_type(schema) {
        Ok(own) if own == data_type => expr,
        _ => cast(expr, data_type),
    }
}

fn rename(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if columns.len() != names.len() {
        let message = format!("it names {} columns, its query has {}", names.len(), columns.len());
        return Err(Error::new(Code::ColumnCount, message));
    }
    let exprs = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(plan).project(exprs).and_then(|p| p.build()).map_err(translate)
}

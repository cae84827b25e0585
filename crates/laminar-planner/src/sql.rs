//! DataFusion as we use it: our functions, types and operators, our tables, its optimiser.
//!
//! Names resolve through [`Tables`], which the caller gives: definitions for a stream, providers for a one-off query. The
//! optimiser for streams is a choice of rules: none of them introduces an empty relation, or counts on rows being all there.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DataFusionError, TableReference};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerRule};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Location, Result};

use crate::functions;
use crate::functions::table_windows::{self, Runs};
use crate::memory::CountWindows;
use crate::push_down::PushDownFilters;
use crate::statement::{Name, SqlExpr, SqlQuery};
use crate::temporal::{self, Versioned};
use crate::translate::translate;
use crate::types::LaminarTypes;

/// Functions, rules and settings; made once.
pub(crate) struct SqlContext {
    /// For streams: `now()` is the time at which a batch is processed.
    state: SessionState,
    stream_rules: Optimizer,
    clock: SharedClock,
    runs: Runs,
}

/// What names in FROM stand for.
pub(crate) trait Tables {
    fn table(&self, name: &Name) -> Result<Arc<dyn TableSource>>;
    /// `system.name`.
    fn system_table(&self, name: &Name) -> Result<Arc<dyn TableSource>>;
    /// The table for a `FOR SYSTEM_TIME AS OF` at this place. Errors: `not_supported` for what has no versions.
    fn versioned(&self, name: &Name, at: Option<Location>) -> Result<Versioned>;
}

/// No tables, as for expressions.
pub(crate) struct NoTables;

impl Tables for NoTables {
    fn table(&self, name: &Name) -> Result<Arc<dyn TableSource>> {
        Err(Error::new(Code::UnknownTable, format!("no table can be read here, not even {}", name.value)))
    }
    fn system_table(&self, name: &Name) -> Result<Arc<dyn TableSource>> {
        self.table(name)
    }
    fn versioned(&self, name: &Name, _: Option<Location>) -> Result<Versioned> {
        self.table(name).and(Err(Error::internal("no tables, but one of versions")))
    }
}

impl SqlContext {
    pub fn new(clock: SharedClock) -> Result<Self> {
        let mut config = SessionConfig::new().with_information_schema(false);
        let parser = &mut config.options_mut().sql_parser;
        parser.map_string_types_to_utf8view = false;
        parser.collect_spans = true;
        // As joins, which a stream can keep up to date.
        config.options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_type_planner(Arc::new(LaminarTypes))
            .build();
        functions::register(&mut state, &clock).map_err(translate)?;
        Ok(Self { state, stream_rules: Optimizer::with_rules(stream_rules()), clock, runs: Runs::Always })
    }

    /// For a one-off query: `now()` is the same everywhere in it, and it runs in `runtime`.
    pub fn one_off(&self, runtime: Arc<RuntimeEnv>) -> Result<Self> {
        let state = SessionStateBuilder::new_from_existing(self.state.clone()).with_runtime_env(runtime);
        let mut state = state.with_physical_optimizer_rule(Arc::new(CountWindows)).build();
        functions::freeze_clock(&mut state, self.clock.now_micros()).map_err(translate)?;
        Ok(Self { state, stream_rules: self.stream_rules.clone(), clock: self.clock.clone(), runs: Runs::Once })
    }

    pub fn into_state(self) -> SessionState {
        self.state
    }

    pub fn is_aggregate(&self, function: &str) -> bool {
        self.state.aggregate_functions().contains_key(function) && !self.state.scalar_functions().contains_key(function)
    }

    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// The query's plan, as written.
    pub fn plan(&self, query: &SqlQuery, tables: &dyn Tables) -> Result<LogicalPlan> {
        let context = Context { state: &self.state, tables };
        crate::refuse::counting(&query.ast)?;
        crate::time_formats::check(&query.ast)?;
        let mut ast = query.ast.clone();
        table_windows::expand(&mut ast, self.runs)?;
        functions::windows::spell_out(&mut ast);
        let versions = temporal::take(&mut ast, tables)?;
        let statement = ast::Statement::Query(ast);
        match self.planner(&context).sql_statement_to_plan(statement) {
            Ok(plan) => {
                let plan = temporal::joined(plan, &versions)?;
                match &query.emit {
                    Some(emit) => crate::emit::every(self, plan, emit),
                    None => Ok(plan),
                }
            }
            Err(error) => Err(self.locate(translate(error), query, tables)),
        }
    }

    /// The expression over columns of `schema`.
    pub fn expr(&self, expr: &SqlExpr, schema: &DFSchema) -> Result<Expr> {
        crate::time_formats::check(&expr.ast)?;
        let context = Context { state: &self.state, tables: &NoTables };
        let planned = self.planner(&context).sql_to_expr(expr.ast.as_ref().clone(), schema, &mut Default::default());
        planned.map_err(|error| translate(error).at(expr.start))
    }

    /// The value of an expression that names no column; `None` if it does, or has an error.
    pub fn constant(&self, expr: &ast::Expr) -> Option<Expr> {
        let context = Context { state: &self.state, tables: &NoTables };
        self.planner(&context).sql_to_expr(expr.clone(), &DFSchema::empty(), &mut Default::default()).ok()
    }

    /// The expression with its types checked and coerced.
    pub fn coerce(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        ExprSimplifier::new(context).coerce(expr, schema).map_err(translate)
    }

    /// Types checked and coerced, functions resolved, filters and projections moved and merged.
    pub fn optimize(&self, plan: LogicalPlan, query: Option<(&SqlQuery, &dyn Tables)>) -> Result<LogicalPlan> {
        let analyzer: &Analyzer = self.state.analyzer();
        let options = self.state.config_options();
        // Rules number what they make. The same SQL must get the same names, in whatever order pipelines are planned: state
        // is restored by them.
        let mut state = self.state.clone();
        state.execution_props_mut().alias_generator = Arc::new(AliasGenerator::new());
        let optimized = analyzer
            .execute_and_check(plan, options, |_, _| {})
            .and_then(|plan| self.stream_rules.optimize(plan, &state, |_, _| {}));
        match (optimized, query) {
            (Ok(plan), _) => Ok(plan),
            (Err(error), Some((query, tables))) => Err(self.locate(translate(error), query, tables)),
            (Err(error), None) => Err(translate(error)),
        }
    }

    /// The analyzed plan only: for checks of queries that are not streams.
    pub fn analyze(&self, plan: LogicalPlan, query: &SqlQuery, tables: &dyn Tables) -> Result<LogicalPlan> {
        let analyzed = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {});
        analyzed.map_err(|error| self.locate(translate(error), query, tables))
    }

    fn planner<'a, 'b>(&self, context: &'a Context<'b>) -> SqlToRel<'a, Context<'b>> {
        let options = ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false);
        SqlToRel::new_with_options(context, options)
    }

    /// Gives an error without a place that of the first expression of the query which fails alone with it.
    fn locate(&self, error: Error, query: &SqlQuery, tables: &dyn Tables) -> Error {
        let error = crate::advice::on(error, query);
        if error.location().is_some() {
            return error;
        }
        let fails = |query: &ast::Query| {
            let context = Context { state: &self.state, tables };
            let mut ast = Box::new(query.clone());
            if table_windows::expand(&mut ast, self.runs).is_err() {
                return false;
            }
            functions::windows::spell_out(&mut ast);
            let statement = ast::Statement::Query(ast);
            let planned = self.planner(&context).sql_statement_to_plan(statement);
            let planned = planned
                .and_then(|plan| self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {}));
            planned.err().map(translate).is_some_and(|e| e.code() == error.code() && e.message() == error.message())
        };
        error.clone().at(crate::locate::first_failing(query, fails)).at(query.start)
    }
}

/// Rules that turn subqueries and DISTINCT into joins and aggregates, then move, merge and simplify what there is.
fn stream_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PushDownFilters::default()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

struct Context<'a> {
    state: &'a SessionState,
    tables: &'a dyn Tables,
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let table = Name::new(name.table());
        let source = match name.schema() {
            None => self.tables.table(&table),
            Some("system") => self.tables.system_table(&table),
            Some(schema) => Err(Error::new(Code::UnknownTable, format!("there is no schema {schema}"))
                .with_hint("tables have no schema; those of the system are in system")),
        };
        source.map_err(|error| DataFusionError::External(Box::new(error)))
    }
    fn get_table_function_source(&self, name: &str, _: Vec<Expr>) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let error = Error::new(Code::UnknownFunction, format!("there is no table function {name}"));
        Err(DataFusionError::External(Box::new(error.with_hint("use unnest(…) in the SELECT list for lists"))))
    }
    fn create_cte_work_table(
        &self,
        name: &str,
        schema: arrow::datatypes::SchemaRef,
    ) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let table = datafusion::datasource::cte_worktable::CteWorkTable::new(name, schema);
        Ok(datafusion::datasource::provider_as_source(Arc::new(table)))
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }
    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(LaminarTypes))
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == temporal::MARKER {
            return Some(Arc::new(temporal::marker_function()));
        }
        self.state.scalar_functions().get(name).cloned()
    }
    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }
    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }
    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }
    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }
    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

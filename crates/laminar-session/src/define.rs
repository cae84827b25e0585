//! A pipeline's text to what is planned: its steps, and the tables and views that are local to it.
//!
//! The text is one `CREATE PIPELINE`, or (from REST and `laminar run`) a SELECT, or a script of CREATE TABLE, CREATE VIEW
//! and INSERT INTO, which is one pipeline with several sinks. A local name hides the catalogue's; SET gives its options.

use std::collections::BTreeSet;

use laminar_core::{Code, Error, Options, Result};
use laminar_planner::catalog::{CatalogSnapshot, ObjectRef};
use laminar_planner::statement::{CreatePipeline, ObjectKind, Parsed, PipelineBody, PipelineStep, Statement};
use laminar_planner::{Planner, Resolver};

use crate::settings::set_option;

/// A pipeline's steps and the catalogue they are planned against.
pub(crate) struct Definition {
    /// The catalogue, with the local objects over it.
    pub snapshot: CatalogSnapshot,
    pub local: BTreeSet<ObjectRef>,
    pub body: PipelineBody,
    /// Of `WITH (…)`.
    pub options: Options,
    /// The name that the text itself gives, if it does.
    pub name: Option<String>,
    /// Given beside the text, and stronger than its options.
    pub parallelism: Option<u32>,
    pub checkpoint_interval_micros: Option<u64>,
}

/// Errors: those of parsing and of checking local tables; `invalid_request` if the text is not one pipeline.
pub(crate) fn define(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    sql: &str,
    values: &dyn Resolver,
) -> Result<Definition> {
    let statements = laminar_planner::parse(sql)?;
    if let [Parsed { statement: Statement::CreatePipeline(create), .. }] = statements.as_slice() {
        return Ok(Definition::of_statement(catalog, create));
    }
    let mut definition = Definition::of_body(catalog, PipelineBody { steps: Vec::new() });
    for parsed in statements {
        let start = parsed.start;
        definition.add(planner, parsed.statement, values).map_err(|e| e.at(start))?;
    }
    definition.check()?;
    Ok(definition)
}

impl Definition {
    pub fn of_statement(catalog: &CatalogSnapshot, create: &CreatePipeline) -> Self {
        Self {
            options: create.options.clone(),
            name: Some(create.name.value.clone()),
            ..Self::of_body(catalog, create.body.clone())
        }
    }

    pub fn of_body(catalog: &CatalogSnapshot, body: PipelineBody) -> Self {
        Self {
            snapshot: catalog.clone(),
            local: BTreeSet::new(),
            body,
            options: Options::default(),
            name: None,
            parallelism: None,
            checkpoint_interval_micros: None,
        }
    }

    /// With these options where it gives none of its own.
    pub fn with_defaults(self, defaults: &Options) -> Self {
        Self { options: defaults.overridden_by(&self.options), ..self }
    }

    fn add(&mut self, planner: &Planner, statement: Statement, values: &dyn Resolver) -> Result<()> {
        match statement {
            Statement::CreateTable(create) => {
                let table = planner.check_table(&self.snapshot, &create, values)?;
                self.declare(ObjectRef::new(ObjectKind::Table, &table.name))?;
                self.snapshot.views.remove(&table.name);
                self.snapshot.tables.insert(table.name.clone(), table);
                if let Some(body) = create.pipeline_body() {
                    self.body.steps.extend(body.steps);
                }
            }
            Statement::CreateView(create) => {
                let view = planner.check_view(&self.snapshot, &create)?;
                self.declare(ObjectRef::new(ObjectKind::View, &view.name))?;
                self.snapshot.tables.remove(&view.name);
                self.snapshot.views.insert(view.name.clone(), view);
            }
            Statement::Set { name, value } => {
                set_option(&mut self.options, name.as_str(), &value).map_err(|e| e.at(name.location))?;
            }
            Statement::InsertSelect(insert) => self.body.steps.push(PipelineStep::Insert(insert)),
            Statement::Query(query) => self.body.steps.push(PipelineStep::Select(query)),
            _ => {
                return Err(Error::new(Code::InvalidRequest, "this statement cannot be part of a pipeline").with_hint(
                    "a pipeline is a SELECT, or CREATE TABLE, CREATE VIEW and INSERT INTO … SELECT statements",
                ));
            }
        }
        Ok(())
    }

    fn declare(&mut self, object: ObjectRef) -> Result<()> {
        let other = |kind| self.local.contains(&ObjectRef::new(kind, &object.name));
        if other(ObjectKind::Table) || other(ObjectKind::View) {
            return Err(Error::new(Code::DuplicateName, format!("the script creates {} twice", object.name)));
        }
        self.local.insert(object);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let selects = self.body.steps.iter().filter(|s| matches!(s, PipelineStep::Select(_))).count();
        match (self.body.steps.len(), selects) {
            (0, _) => Err(Error::new(Code::InvalidRequest, "the text has no query").with_field("query")),
            (1, _) | (_, 0) => Ok(()),
            _ => Err(Error::new(Code::InvalidRequest, "a SELECT can only be the pipeline's one query")
                .with_hint("write INSERT INTO a table for each of several queries")
                .with_field("query")),
        }
    }
}

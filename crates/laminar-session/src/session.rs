//! One client's conversation: its settings, and the statements it runs one after another.

use std::sync::Arc;

use laminar_core::{Code, Error, Options, Result};
use laminar_planner::catalog::ObjectRef;
use laminar_planner::statement::{
    CreatePipeline, CreateTable, Drop, Name, ObjectKind, OnExisting, Parsed, RestartFrom as From, Statement,
    StopMode as Mode,
};

use crate::define::Definition;
use crate::lifecycle::Creation;
use crate::objects::Made;
use crate::outcome::Notice;
use crate::settings::Settings;
use crate::system::{Cell, ColumnType, batch};
use crate::{Outcome, RestartFrom, StopKind, System, explain, infer, insert, query, replay, show, subscribe};

pub struct Session {
    system: Arc<System>,
    settings: Settings,
}

impl Session {
    pub(crate) fn new(system: Arc<System>) -> Self {
        let settings = Settings::new(&system.config.defaults);
        Self { system, settings }
    }

    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Runs one statement. It takes effect as a whole or not at all, except that a pipeline may be left as it was with its
    /// job still stopping (it starts again by itself), and that rows of an INSERT may stay; a change that has begun is
    /// brought to its end even if the caller goes away.
    pub async fn execute(&mut self, parsed: &Parsed) -> Result<Outcome> {
        match &parsed.statement {
            Statement::Query(query) => {
                let catalog = query::QueryCatalog::current(&self.system);
                query::select(&self.system, &catalog, &self.settings, query).await
            }
            Statement::TestConnection(name) => self.test_connection(name).await,
            Statement::Subscribe(name) => subscribe::subscribe(&self.system, name),
            Statement::ReplayDeadLetters(replay) => replay::replay(&self.system, &self.settings, replay).await,
            Statement::InferTable(statement) => infer::infer_table(&self.system, statement).await,
            Statement::Explain(explain) => explain::explain(&self.system, &self.settings.pipeline, explain, parsed),
            Statement::Show(kind) => show::show(&self.system, &self.settings, *kind).await,
            Statement::Describe(object) => show::describe(&self.system, object).await,
            Statement::ShowCreate(object) => show::show_create(&self.system, object),
            Statement::Set { name, value } => {
                self.settings.set(name.as_str(), value).map_err(|e| e.at(name.location))?;
                Ok(Outcome::done("SET"))
            }
            Statement::ShowSetting(name) => {
                let value = self.settings.get(name.as_str()).map_err(|e| show::unknown(e, name))?;
                let rows = batch(&[(name.as_str(), ColumnType::Text)], vec![vec![value.into()]])?;
                Ok(Outcome::rows("SHOW", rows))
            }
            Statement::ShowAll => {
                let columns =
                    [("name", ColumnType::Text), ("value", ColumnType::Text), ("description", ColumnType::Text)];
                let row =
                    |(name, value, about): (String, String, String)| vec![name.into(), value.into(), about.into()];
                let rows = self.settings.list().into_iter().map(row).collect();
                Ok(Outcome::rows("SHOW", batch(&columns, rows)?))
            }
            Statement::InsertSelect(insert) => Err(streaming_insert(&insert.table)),
            _ => {
                let (system, parsed, defaults) =
                    (Arc::clone(&self.system), parsed.clone(), self.settings.pipeline.clone());
                let change = tokio::spawn(async move { change(&system, &parsed, &defaults).await });
                change.await.map_err(|e| Error::internal(format!("the statement panicked: {e}")))?
            }
        }
    }

    /// Runs the statements in order; the first that fails ends the script and the ones before it stay done.
    ///
    /// A script with a syntax error anywhere runs nothing.
    pub async fn run_script(&mut self, sql: &str) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for parsed in laminar_planner::parse(sql)? {
            let outcome = self.execute(&parsed).await;
            outcomes.push(outcome.map_err(|e| e.at(parsed.start))?);
        }
        Ok(outcomes)
    }

    async fn test_connection(&self, name: &Name) -> Result<Outcome> {
        let catalog = self.system.catalog();
        if !catalog.contains(&ObjectRef::new(ObjectKind::Connection, &name.value)) {
            return Err(catalog.unknown(ObjectKind::Connection, name));
        }
        let result = self.system.test_connection(&name.value).await?;
        let columns = [("stage", ColumnType::Text), ("ok", ColumnType::Boolean), ("message", ColumnType::Text)];
        let rows = result.stages.into_iter().map(|s| vec![s.stage.into(), Cell::Boolean(s.ok), s.message.into()]);
        Ok(Outcome::rows("SELECT", batch(&columns, rows.collect())?))
    }
}

/// A statement that changes something. `defaults` are options of pipelines that do not give them.
async fn change(system: &Arc<System>, parsed: &Parsed, defaults: &Options) -> Result<Outcome> {
    if let Statement::InsertValues(insert) = &parsed.statement {
        return insert::insert_values(system, insert).await;
    }
    let _guard = system.changing.lock().await;
    let sql = parsed.text.as_str();
    match &parsed.statement {
        Statement::CreateSecret(create) => Ok(made("SECRET", system.create_secret(create, sql).await?)),
        Statement::CreateConnection(create) => Ok(made("CONNECTION", system.create_connection_def(create, sql).await?)),
        Statement::CreateView(create) => Ok(made("VIEW", system.create_view_def(create, sql).await?)),
        Statement::CreateTable(create) => create_table(system, create, sql, defaults).await,
        Statement::CreatePipeline(create) => create_pipeline(system, create, sql, defaults).await,
        Statement::Drop(drop) => self::drop(system, drop).await,
        Statement::StartPipeline(name) => {
            let pipeline = system.named_pipeline(name)?;
            let notices = match system.is_active(&pipeline.id) {
                true => vec![Notice::new("already_running", format!("pipeline {} runs already", name.value))],
                false => vec![],
            };
            let started = system.start_stopped(&pipeline, RestartFrom::Latest).await;
            started.map_err(|error| error.at(name.location))?;
            Ok(Outcome::done_with("START PIPELINE", notices))
        }
        Statement::StopPipeline { name, mode } => {
            let pipeline = system.named_pipeline(name)?;
            let mut notices = match system.is_active(&pipeline.id) {
                true => vec![],
                false => vec![Notice::new("not_running", format!("pipeline {} does not run", name.value))],
            };
            let how = match mode {
                Mode::Checkpoint => StopKind::Checkpoint,
                Mode::Immediate => StopKind::Immediate,
            };
            if let Some(error) = system.stop_running(&pipeline, how).await? {
                let message =
                    format!("it stopped without a last checkpoint and will go on from the one before: {error}");
                notices.push(Notice::new("no_checkpoint", message));
            }
            Ok(Outcome::done_with("STOP PIPELINE", notices))
        }
        Statement::RestartPipeline { name, from } => {
            let pipeline = system.named_pipeline(name)?;
            let from = match from {
                From::Latest => RestartFrom::Latest,
                From::Checkpoint(epoch) => RestartFrom::Checkpoint(*epoch),
                From::Nothing => RestartFrom::Nothing,
            };
            system.restart(&pipeline, from).await.map_err(|error| error.at(name.location))?;
            Ok(Outcome::done("RESTART PIPELINE"))
        }
        _ => Err(Error::new(Code::NotSupported, "this statement is not supported in this version")),
    }
}

fn made(kind: &str, (made, notices): (Made, Vec<Notice>)) -> Outcome {
    let verb = match made {
        Made::Created | Made::Kept => "CREATE",
        Made::Replaced => "REPLACE",
    };
    Outcome::done_with(format!("{verb} {kind}"), notices)
}

async fn create_pipeline(
    system: &Arc<System>,
    create: &CreatePipeline,
    sql: &str,
    defaults: &Options,
) -> Result<Outcome> {
    let definition = Definition::of_statement(&system.catalog().snapshot, create).with_defaults(defaults);
    let creation =
        Creation { name: create.name.clone(), sql: sql.to_string(), definition, on_existing: create.on_existing };
    let created = system.create_and_start(creation).await.map_err(|error| error.at(create.name.location))?;
    let mut notices = created.notices;
    if created.existed {
        notices.push(Notice::new("already_exists", format!("pipeline {} exists and is kept", create.name.value)));
    }
    Ok(Outcome::done_with("CREATE PIPELINE", notices))
}

/// With `AS SELECT`, the table's pipeline is created with it, or neither is.
async fn create_table(system: &Arc<System>, create: &CreateTable, sql: &str, defaults: &Options) -> Result<Outcome> {
    let Some(query) = &create.query else {
        return Ok(made("TABLE", system.create_table_def(create, sql).await?));
    };
    if create.on_existing == OnExisting::Replace {
        return Err(Error::new(
            Code::NotSupported,
            "CREATE OR REPLACE TABLE … AS SELECT is not supported in this version",
        )
        .with_hint("create the table and a pipeline with an INSERT INTO it, and replace each")
        .at(create.name.location));
    }
    let (outcome, mut notices) = system.create_table_def(create, sql).await?;
    if matches!(outcome, Made::Kept) {
        return Ok(made("TABLE", (outcome, notices)));
    }
    let name = format!("{}_pipeline", create.name.value);
    let table = crate::render::identifier(&create.name.value);
    let sql = format!("CREATE PIPELINE {} AS INSERT INTO {table} {}", crate::render::identifier(&name), query.text);
    let started = async {
        let definition = crate::define::define(
            &system.planner,
            &system.catalog().snapshot,
            &sql,
            &system.values(&system.catalog()),
        )?
        .with_defaults(defaults);
        let creation = Creation { name: Name::new(&name), sql, definition, on_existing: OnExisting::Fail };
        system.create_and_start(creation).await
    };
    match started.await {
        Ok(created) => {
            notices.extend(created.notices);
            notices.push(Notice::new("pipeline_created", format!("pipeline {name} fills the table")));
            Ok(Outcome::done_with("CREATE TABLE", notices))
        }
        Err(error) => {
            system.drop_object(ObjectKind::Table, &create.name, true).await?;
            Err(error.moved_to(Some(query.start)))
        }
    }
}

async fn drop(system: &Arc<System>, drop: &Drop) -> Result<Outcome> {
    let dropped = system.drop_object(drop.kind, &drop.name, drop.if_exists).await?;
    let notices = match dropped {
        true => vec![],
        false => vec![Notice::new("does_not_exist", format!("there is no {} {}", drop.kind.as_str(), drop.name.value))],
    };
    Ok(Outcome::done_with(format!("DROP {}", drop.kind.as_str().to_uppercase()), notices))
}

fn streaming_insert(table: &Name) -> Error {
    Error::new(Code::InvalidRequest, "INSERT INTO … SELECT runs until it is stopped, so it needs a pipeline")
        .with_hint(format!("CREATE PIPELINE name AS INSERT INTO {} SELECT …", table.value))
        .at(table.location)
}

//! Connections ("connection profiles") as resources. `id` is an id or a name.

use std::time::Instant;

use laminar_core::connector::TestStage;
use laminar_core::{Code, Result};
use laminar_planner::catalog::{ConnectionDef, ObjectRef};
use laminar_planner::statement::{CreateConnection, Name, ObjectKind, OnExisting};

use super::pipelines::check_name;
use super::{masked, options_from_json, password_options, time_text};
use crate::catalog::{Catalog, Entry};
use crate::render::{self, Secrets};
use crate::{ConnectionInfo, NewConnection, StageInfo, System, TestDetails, TestResult};

impl System {
    /// Oldest first.
    pub async fn connections(&self) -> Result<Vec<ConnectionInfo>> {
        let catalog = self.catalog();
        let entries = catalog.objects.iter().filter(|(object, _)| object.kind == ObjectKind::Connection);
        let mut infos: Vec<_> =
            entries.filter_map(|(object, entry)| self.connection_info(&catalog, object, entry)).collect();
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(infos)
    }

    /// Errors: `unknown_connection`.
    pub async fn connection(&self, id: &str) -> Result<ConnectionInfo> {
        let catalog = self.catalog();
        let found = catalog.object(ObjectKind::Connection, id);
        let info = found.and_then(|(object, entry)| self.connection_info(&catalog, object, entry));
        info.ok_or_else(|| catalog.unknown(ObjectKind::Connection, &Name::new(id)))
    }

    pub async fn create_connection(&self, new: NewConnection) -> Result<ConnectionInfo> {
        let name = new.name.clone().unwrap_or_default();
        check_name(&name)?;
        let _guard = self.changing.lock().await;
        let create = statement(&name, &new)?;
        let def = self.planner.check_connection(&create, &self.values(&self.catalog()))?;
        let mut sql = render::connection(&def, Secrets::Shown);
        if let Some(description) = new.description.as_deref().filter(|d| !d.is_empty()) {
            sql.insert_str(0, &description_comment(description));
        }
        self.create_connection_def(&create, &sql).await?;
        self.connection(&name).await
    }

    /// Reaches out with these options; creates nothing. Errors only when the options are wrong.
    pub async fn test_new_connection(&self, new: NewConnection) -> Result<TestResult> {
        let create = statement(new.name.as_deref().unwrap_or("test"), &new)?;
        let def = self.planner.check_connection(&create, &self.values(&self.catalog()))?;
        self.test_def(&def).await
    }

    /// Errors: `unknown_connection`.
    pub async fn test_connection(&self, id: &str) -> Result<TestResult> {
        let catalog = self.catalog();
        let found =
            catalog.object(ObjectKind::Connection, id).and_then(|(o, _)| catalog.snapshot.connections.get(&o.name));
        match found {
            Some(def) => self.test_def(def).await,
            None => Err(catalog.unknown(ObjectKind::Connection, &Name::new(id))),
        }
    }

    /// Errors: `unknown_connection`, `in_use`.
    pub async fn delete_connection(&self, id: &str) -> Result<()> {
        let _guard = self.changing.lock().await;
        let catalog = self.catalog();
        let name = catalog.object(ObjectKind::Connection, id).map_or(id, |(object, _)| object.name.as_str());
        self.drop_object(ObjectKind::Connection, &Name::new(name), false).await.map(drop)
    }

    async fn test_def(&self, def: &ConnectionDef) -> Result<TestResult> {
        let catalog = self.catalog();
        let begun = Instant::now();
        let stages = self.planner.test_connection(def, &self.values(&catalog)).await?;
        Ok(test_result(stages, begun))
    }

    fn connection_info(&self, catalog: &Catalog, object: &ObjectRef, entry: &Entry) -> Option<ConnectionInfo> {
        let def = catalog.snapshot.connections.get(&object.name)?;
        let tables = catalog.users(object).into_iter().filter(|u| u.kind == ObjectKind::Table);
        Some(ConnectionInfo {
            id: entry.id.clone(),
            name: def.name.clone(),
            connector: def.connector.clone(),
            description: description_of(&entry.sql),
            config: masked(&def.options, &self.password_options(&def.connector)),
            created_at: time_text(entry.created_at),
            updated_at: time_text(entry.updated_at),
            tables: tables.map(|t| t.name).collect(),
        })
    }

    /// Names of the connector's options that hold credentials.
    pub(crate) fn password_options(&self, connector: &str) -> Vec<String> {
        match self.config.registry.get(connector) {
            Ok(connector) => password_options([connector.source_schema(), connector.sink_schema()]),
            Err(_) => Vec::new(),
        }
    }
}

/// A description is kept as a comment in front of the stored statement.
fn description_comment(description: &str) -> String {
    format!("-- {}\n", description.replace(['\r', '\n'], " "))
}

fn description_of(sql: &str) -> Option<String> {
    sql.strip_prefix("-- ").and_then(|rest| rest.split_once('\n')).map(|(line, _)| line.to_string())
}

fn statement(name: &str, new: &NewConnection) -> Result<CreateConnection> {
    Ok(CreateConnection {
        name: Name::new(name),
        connector: Name::new(&new.connector),
        options: options_from_json(&new.config)?,
        on_existing: OnExisting::Fail,
    })
}

pub(crate) fn test_result(stages: Vec<TestStage>, begun: Instant) -> TestResult {
    let failed = stages.iter().find(|s| !s.ok);
    let message = match failed {
        Some(stage) => format!("{}: {}", stage.stage, stage.message),
        None => "all stages passed".to_string(),
    };
    TestResult {
        success: failed.is_none(),
        message,
        stages: stages.into_iter().map(|s| StageInfo { stage: s.stage, ok: s.ok, message: s.message }).collect(),
        details: TestDetails { latency_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) },
    }
}

/// The code of an error that a test reports as a failed stage instead: the options are right, the outside world is not.
pub(crate) fn is_outside(code: Code) -> bool {
    code.kind() == laminar_core::ErrorKind::External
}

//! Tables ("connection tables") as resources. `id` is an id or a name.

use std::time::Instant;

use laminar_core::connector::{Role, TestStage};
use laminar_core::options::OptionEntry;
use laminar_core::{Code, Error, Options, Result};
use laminar_planner::catalog::{ObjectRef, TableDef};
use laminar_planner::statement::{ColumnSyntax, CreateTable, Name, ObjectKind, OnExisting};
use laminar_planner::types::SqlType;

use super::connections::{is_outside, test_result};
use super::pipelines::check_name;
use super::{masked, options_from_json, time_text};
use crate::catalog::{Catalog, Entry};
use crate::render::{self, Secrets};
use crate::{FieldInfo, NewTable, System, TableInfo, TableSchemaInfo, TestResult};

impl System {
    /// Oldest first.
    pub async fn tables(&self) -> Result<Vec<TableInfo>> {
        let catalog = self.catalog();
        let entries = catalog.objects.iter().filter(|(object, _)| object.kind == ObjectKind::Table);
        let mut infos: Vec<_> =
            entries.filter_map(|(object, entry)| self.table_info(&catalog, object, entry)).collect();
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(infos)
    }

    /// Errors: `unknown_table`.
    pub async fn table(&self, id: &str) -> Result<TableInfo> {
        let catalog = self.catalog();
        let found = catalog.object(ObjectKind::Table, id);
        let info = found.and_then(|(object, entry)| self.table_info(&catalog, object, entry));
        info.ok_or_else(|| catalog.unknown(ObjectKind::Table, &Name::new(id)))
    }

    pub async fn create_table(&self, new: NewTable) -> Result<TableInfo> {
        let name = new.name.clone().unwrap_or_default();
        check_name(&name)?;
        let _guard = self.changing.lock().await;
        let catalog = self.catalog();
        let create = statement(&catalog, &name, new)?;
        let values = self.values(&catalog);
        let create = self.planner.with_outside_columns(&catalog.snapshot, &create, &values).await?;
        let def = self.planner.check_table(&catalog.snapshot, &create, &values)?;
        self.create_table_def(&create, &render::table(&def, Secrets::Shown)).await?;
        self.table(&name).await
    }

    /// Checks the definition and reaches out; creates nothing. Errors only when the definition is wrong.
    pub async fn test_new_table(&self, new: NewTable) -> Result<TestResult> {
        let catalog = self.catalog();
        let name = new.name.clone().unwrap_or_else(|| "test".to_string());
        let create = statement(&catalog, &name, new)?;
        let begun = Instant::now();
        let values = self.values(&catalog);
        let create = self.planner.with_outside_columns(&catalog.snapshot, &create, &values).await?;
        let def = self.planner.check_table(&catalog.snapshot, &create, &values)?;
        let stage = |ok: bool, message: String| TestStage { stage: "table".to_string(), ok, message };
        match self.planner.check_outside(&catalog.snapshot, &def, &values).await {
            Ok(()) => {
                Ok(test_result(vec![stage(true, "the outside system has what the table names".to_string())], begun))
            }
            Err(error) if is_outside(error.code()) => Ok(test_result(vec![stage(false, error.to_string())], begun)),
            Err(error) => Err(error),
        }
    }

    /// Errors: `unknown_table`, `in_use`.
    pub async fn delete_table(&self, id: &str) -> Result<()> {
        let _guard = self.changing.lock().await;
        let catalog = self.catalog();
        let name = catalog.object(ObjectKind::Table, id).map_or(id, |(object, _)| object.name.as_str());
        self.drop_object(ObjectKind::Table, &Name::new(name), false).await.map(drop)
    }

    fn table_info(&self, catalog: &Catalog, object: &ObjectRef, entry: &Entry) -> Option<TableInfo> {
        let def = catalog.snapshot.tables.get(&object.name)?;
        let connection = def.connection.as_deref().and_then(|c| catalog.object(ObjectKind::Connection, c));
        let event_time = def.options.get("event_time_field").map(str::to_string);
        Some(TableInfo {
            id: entry.id.clone(),
            name: def.name.clone(),
            connector: def.connector.clone(),
            connection: def.connection.clone(),
            connection_profile_id: connection.map(|(_, e)| e.id.clone()),
            table_type: role_text(def.role).to_string(),
            schema: TableSchemaInfo { fields: fields(def) },
            config: masked(&def.options, &self.password_options(&def.connector)),
            event_time_field: def.watermark.as_ref().map(|w| w.column.clone()).or(event_time),
            watermark_delay: def.watermark.as_ref().map(|w| format!("{:?}", w.delay)),
            created_at: time_text(entry.created_at),
            updated_at: time_text(entry.updated_at),
            used_by: catalog.users(object).into_iter().map(|u| u.name).collect(),
        })
    }
}

fn role_text(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Source) => "source",
        Some(Role::Sink) => "sink",
        None => "source_sink",
    }
}

fn fields(def: &TableDef) -> Vec<FieldInfo> {
    let field = |c: &laminar_planner::catalog::ColumnDef| FieldInfo {
        name: c.name.clone(),
        data_type: c.sql_type.to_string(),
        nullable: c.nullable,
        description: None,
        metadata: c.metadata.clone(),
    };
    def.columns.iter().map(field).collect()
}

/// The CREATE TABLE that the request means.
fn statement(catalog: &Catalog, name: &str, new: NewTable) -> Result<CreateTable> {
    let mut options = options_from_json(&new.config)?;
    let connection = match &new.connection_profile_id {
        Some(id) => {
            let found = catalog.object(ObjectKind::Connection, id);
            let (object, _) = found.ok_or_else(|| {
                catalog.unknown(ObjectKind::Connection, &Name::new(id)).with_field("connection_profile_id")
            })?;
            Some(object.name.clone())
        }
        None => None,
    };
    let connector = match (&connection, &new.connector) {
        (Some(_), _) => None,
        (None, Some(connector)) => Some(connector.clone()),
        (None, None) => {
            return Err(Error::new(Code::InvalidRequest, "a table needs connector or connection_profile_id")
                .with_field("connector"));
        }
    };
    let given = [
        ("connection", connection),
        ("connector", connector),
        ("type", new.table_type),
        ("event_time_field", new.event_time_field),
        ("watermark_delay", new.watermark_delay),
    ];
    for (key, value) in given {
        let Some(value) = value else { continue };
        set_once(&mut options, key, value)?;
    }
    let columns = new.schema.fields.iter().map(column).collect::<Result<_>>()?;
    Ok(CreateTable {
        name: Name::new(name),
        columns,
        primary_key: vec![],
        watermark: None,
        options,
        query: None,
        on_existing: OnExisting::Fail,
    })
}

fn set_once(options: &mut Options, key: &str, value: String) -> Result<()> {
    if options.get(key).is_some_and(|in_config| in_config != value) {
        return Err(Error::new(Code::ConflictingOptions, format!("{key} is given twice, in config and beside it"))
            .with_field(key));
    }
    options.set(OptionEntry { key: key.to_string(), value, location: None });
    Ok(())
}

fn column(field: &FieldInfo) -> Result<ColumnSyntax> {
    Ok(ColumnSyntax {
        name: Name::new(&field.name),
        sql_type: SqlType::parse(&field.data_type)
            .map_err(|e| e.with_field(format!("schema.fields.{}", field.name)))?,
        nullable: field.nullable,
        default: None,
        generated: None,
        metadata: field.metadata.as_deref().map(Name::new),
    })
}

//! SHOW, DESCRIBE and SHOW CREATE.

use std::sync::Arc;

use laminar_core::options::nearest;
use laminar_core::{Code, Error, Result};
use laminar_planner::catalog::{ObjectRef, Relation};
use laminar_planner::statement::{Name, ObjectKind, ObjectName, ShowKind};
use laminar_planner::types::SqlType;

use crate::catalog::Catalog;
use crate::render::{self, Secrets};
use crate::resources::masked;
use crate::settings::Settings;
use crate::system::ColumnType::{self, Text};
use crate::system::{Row, Source, TABLES, batch, table};
use crate::{Outcome, System};

/// A few columns of the system table of the same name.
pub(crate) async fn show(system: &Arc<System>, settings: &Settings, kind: ShowKind) -> Result<Outcome> {
    let (name, columns): (&str, &[&str]) = match kind {
        ShowKind::Secrets => return secrets(system),
        ShowKind::Connections => ("connections", &["name", "connector", "options"]),
        ShowKind::Tables => ("tables", &["name", "connector", "connection", "type"]),
        ShowKind::Views => ("views", &["name", "query"]),
        ShowKind::Pipelines => ("pipelines", &["name", "state", "parallelism", "sources", "sinks", "failure_message"]),
        ShowKind::Jobs => {
            ("jobs", &["id", "pipeline_name", "run_id", "state", "restarts", "start_time", "failure_message"])
        }
        ShowKind::Connectors => ("connectors", &["name", "type", "formats", "description"]),
        ShowKind::Functions => ("functions", &["name", "kind"]),
    };
    let Some(table) = table(name) else {
        return Err(Error::internal(format!("there is no system table {name}")));
    };
    let source = Source { system: Arc::clone(system), settings: settings.clone(), connection: None };
    let all = batch(&table.shape(), (table.rows)(&source).await?)?;
    let indices: Vec<usize> =
        columns.iter().filter_map(|c| table.columns.iter().position(|(name, ..)| name == c)).collect();
    Ok(Outcome::rows("SHOW", all.project(&indices)?))
}

/// The error for a word behind SHOW that is no list, and no setting.
pub(crate) fn unknown(error: Error, name: &Name) -> Error {
    let error = error.at(name.location);
    let lists = ShowKind::WORDS.map(|(word, _)| word);
    if let Some(near) = nearest(name.as_str(), lists) {
        return error.with_hint(format!("did you mean SHOW {near}?"));
    }
    if table(name.as_str()).is_some() {
        return error.with_hint(format!("SELECT * FROM system.{}", name.value));
    }
    match error.hint() {
        Some(near) if near.starts_with("did you mean") => error,
        _ => error.with_hint(format!(
            "SHOW {}, ALL (settings), or SHOW CREATE an object; the system tables are in system: SELECT * FROM system.metrics",
            lists.join(", ")
        )),
    }
}

fn secrets(system: &System) -> Result<Outcome> {
    let rows = system.catalog().snapshot.secrets.iter().map(|name| vec![name.clone().into()]).collect();
    Ok(Outcome::rows("SHOW", batch(&[("name", Text)], rows)?))
}

/// Columns of a relation; options of a connection; what is known of a pipeline that writes to sinks.
pub(crate) async fn describe(system: &System, object: &ObjectName) -> Result<Outcome> {
    let catalog = system.catalog();
    if let Some(name) = object.name.value.strip_prefix("system.").filter(|_| object.kind.is_none()) {
        return describe_system(name, &object.name);
    }
    let (kind, name) = (resolve(&catalog, object)?, &object.name);
    match kind {
        ObjectKind::Table | ObjectKind::View => describe_relation(system, &catalog, name),
        ObjectKind::Pipeline if catalog.snapshot.pipelines.get(&name.value).is_some_and(|p| p.result.is_some()) => {
            describe_relation(system, &catalog, name)
        }
        ObjectKind::Pipeline => describe_pipeline(system, name).await,
        ObjectKind::Connection => {
            let def = catalog.snapshot.connection(name)?;
            let options = masked(&def.options, &system.password_options(&def.connector));
            let text = |value: serde_json::Value| value.as_str().map(str::to_string).unwrap_or_default();
            let mut rows: Vec<Row> = vec![vec!["connector".into(), def.connector.clone().into()]];
            rows.extend(options.into_iter().map(|(key, value)| vec![key.into(), text(value).into()]));
            Ok(Outcome::rows("DESCRIBE", batch(&[("option", Text), ("value", Text)], rows)?))
        }
        ObjectKind::Secret => {
            let users: Vec<_> =
                catalog.users(&ObjectRef::new(kind, &name.value)).iter().map(ToString::to_string).collect();
            let rows = vec![vec!["used_by".into(), users.join(", ").into()]];
            Ok(Outcome::rows("DESCRIBE", batch(&[("property", Text), ("value", Text)], rows)?))
        }
    }
}

fn describe_relation(system: &System, catalog: &Catalog, name: &Name) -> Result<Outcome> {
    const COLUMNS: [(&str, ColumnType); 4] = [("column", Text), ("type", Text), ("nullable", Text), ("extra", Text)];
    let schema = system.planner.relation_schema(&catalog.snapshot, name)?;
    let table = match catalog.snapshot.relation(name)? {
        Relation::Table(table) => Some(table),
        Relation::View(_) | Relation::Result(_) => None,
    };
    let mut rows = Vec::new();
    for field in schema.fields() {
        let sql_type = SqlType::from_arrow(field);
        let nullable = if field.is_nullable() { "yes" } else { "no" };
        let mut extra = Vec::new();
        if let Some(table) = table {
            if table.primary_key.contains(field.name()) {
                extra.push("primary key".to_string());
            }
            if let Some(watermark) = table.watermark.as_ref().filter(|w| w.column == *field.name()) {
                extra.push(format!("watermark, delay {:?}", watermark.delay));
            }
            if let Some(column) = table.columns.iter().find(|c| c.name == *field.name()) {
                extra.extend(column.metadata.iter().map(|key| format!("metadata '{key}'")));
                extra.extend(column.generated.iter().map(|sql| format!("generated as {sql}")));
                extra.extend(column.default.iter().map(|sql| format!("default {sql}")));
            }
        }
        rows.push(vec![
            field.name().clone().into(),
            sql_type.to_string().into(),
            nullable.into(),
            extra.join(", ").into(),
        ]);
    }
    Ok(Outcome::rows("DESCRIBE", batch(&COLUMNS, rows)?))
}

fn describe_system(name: &str, written: &Name) -> Result<Outcome> {
    let Some(table) = table(name) else {
        let names: Vec<&str> = TABLES.iter().map(|t| t.name).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean system.{near}?"),
            None => format!("system tables: {}", names.join(", ")),
        };
        let error = Error::new(Code::UnknownTable, format!("there is no table system.{name}"));
        return Err(error.with_hint(hint).at(written.location));
    };
    let row = |(column, column_type, about): &(&str, ColumnType, &str)| -> Row {
        vec![(*column).into(), column_type.sql().into(), (*about).into()]
    };
    let rows = table.columns.iter().map(row).collect();
    Ok(Outcome::rows("DESCRIBE", batch(&[("column", Text), ("type", Text), ("meaning", Text)], rows)?))
}

async fn describe_pipeline(system: &System, name: &Name) -> Result<Outcome> {
    let info = system.pipeline(&name.value).await?;
    let rows = [
        ("id", info.id),
        ("state", info.state),
        ("parallelism", info.parallelism.to_string()),
        ("checkpoint_interval", format!("{:?}", std::time::Duration::from_micros(info.checkpoint_interval_micros))),
        ("sources", info.sources.join(", ")),
        ("sinks", info.sinks.join(", ")),
        ("failure", info.failure_message.unwrap_or_default()),
        ("hint", info.failure_hint.unwrap_or_default()),
    ];
    let rows = rows.into_iter().map(|(property, value)| vec![property.into(), value.into()]).collect();
    Ok(Outcome::rows("DESCRIBE", batch(&[("property", Text), ("value", Text)], rows)?))
}

/// The statement that would create the object, in canonical form, credentials masked.
pub(crate) fn show_create(system: &System, object: &ObjectName) -> Result<Outcome> {
    let catalog = system.catalog();
    let (kind, name) = (resolve(&catalog, object)?, object.name.value.as_str());
    let snapshot = &catalog.snapshot;
    let unknown = || catalog.unknown(kind, &object.name);
    let sql = match kind {
        ObjectKind::Secret => format!("CREATE SECRET {} AS '****'", render::identifier(name)),
        ObjectKind::Connection => {
            let def = snapshot.connections.get(name).ok_or_else(unknown)?;
            render::connection(def, Secrets::Masked(&system.password_options(&def.connector)))
        }
        ObjectKind::Table => {
            let def = snapshot.tables.get(name).ok_or_else(unknown)?;
            render::table(def, Secrets::Masked(&system.password_options(&def.connector)))
        }
        ObjectKind::View => render::view(snapshot.views.get(name).ok_or_else(unknown)?),
        ObjectKind::Pipeline => system.shown_sql(catalog.pipelines.get(name).ok_or_else(unknown)?),
    };
    let rows = batch(&[("name", Text), ("statement", Text)], vec![vec![name.into(), sql.into()]])?;
    Ok(Outcome::rows("SHOW", rows))
}

/// What kind of object is meant. Errors: the name is unknown.
fn resolve(catalog: &Catalog, object: &ObjectName) -> Result<ObjectKind> {
    let name = &object.name;
    if let Some(kind) = object.kind {
        let exists = catalog.contains(&ObjectRef::new(kind, &name.value));
        return if exists { Ok(kind) } else { Err(catalog.unknown(kind, name)) };
    }
    catalog.relation_kind(&name.value).ok_or_else(|| catalog.snapshot.unknown_relation(name))
}

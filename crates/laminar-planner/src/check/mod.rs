//! Statements to definitions: every check of a CREATE that needs no I/O, and the two that do.

mod columns;
mod table;

use std::sync::Arc;

use laminar_core::cluster::SharedClusterAdmin;
use laminar_core::connector::{Connector, Role, TestStage};
use laminar_core::options::OptionEntry;
use laminar_core::table::Column;
use laminar_core::{Code, Error, Options, Result};

pub(crate) use self::table::{bind, fits, spec, table};
use crate::catalog::{CatalogSnapshot, ConnectionDef, TableDef, ViewDef};
use crate::planner::Planner;
use crate::resolver::{Resolver, substitute};
use crate::settings::TableSettings;
use crate::statement::{ColumnSyntax, CreateConnection, CreateTable, CreateView, Name};
use crate::tables::{CatalogTables, Reads};
use crate::types::SqlType;

pub(crate) fn connection(
    planner: &Planner,
    statement: &CreateConnection,
    resolver: &dyn Resolver,
) -> Result<ConnectionDef> {
    let connector = planner.registry.get(&statement.connector.value).map_err(|e| e.at(statement.connector.location))?;
    let subject = format!("connection {}", statement.name.value);
    let (settings, theirs) = TableSettings::split(&statement.options, &subject)?;
    for key in ["connector", "connection"] {
        if let Some(entry) = statement.options.entry(key) {
            return Err(Error::new(Code::ConflictingOptions, format!("option {key} belongs to a table"))
                .with_hint(format!("the connector is the word after TO: {}", statement.connector.value))
                .with_field(key)
                .at(entry.location));
        }
    }
    if let Some(role) = settings.table_type.map(Role::from) {
        refuse_role(role, &Planner::roles(connector.as_ref()), connector.name(), statement.options.entry("type"))?;
    }
    connector.check_connection(&substitute(&theirs, resolver)?).map_err(|e| e.at(statement.name.location))?;
    Ok(ConnectionDef {
        name: statement.name.value.clone(),
        connector: connector.name().to_string(),
        options: without_places(&statement.options),
    })
}

/// Refuses a role that the connector cannot have.
pub(crate) fn refuse_role(role: Role, can: &[Role], connector: &str, entry: Option<&OptionEntry>) -> Result<()> {
    if can.contains(&role) {
        return Ok(());
    }
    let (cannot, hint) = match role {
        Role::Source => ("a source", "type = 'sink'"),
        Role::Sink => ("a sink", "type = 'source'"),
    };
    Err(Error::new(Code::InvalidOption, format!("connector {connector} cannot be {cannot}"))
        .with_hint(hint)
        .with_field("type")
        .at(entry.and_then(|e| e.location)))
}

/// Places are of the statement that gave the options; stored options have none.
pub(crate) fn without_places(options: &Options) -> Options {
    Options::from_pairs(options.iter().map(|e| (e.key.clone(), e.value.clone())))
}

pub(crate) async fn outside(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    resolver: &dyn Resolver,
) -> Result<()> {
    let bound = bind(planner, catalog, table, resolver)?;
    let role = table.role.unwrap_or(Role::Source);
    bound.connector.check_outside(role, &bound.options).await
}

/// The columns that the outside system says a table has that lists none; none where it says nothing, or the table is no source.
pub(crate) async fn outside_columns(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    statement: &CreateTable,
    resolver: &dyn Resolver,
) -> Result<Vec<ColumnSyntax>> {
    if !statement.columns.is_empty() || statement.query.is_some() {
        return Ok(Vec::new());
    }
    let bound = table::bind_new(planner, catalog, statement, resolver)?;
    let is_sink = bound.settings.table_type.map(Role::from) == Some(Role::Sink);
    if is_sink || !Planner::roles(bound.connector.as_ref()).contains(&Role::Source) {
        return Ok(Vec::new());
    }
    let columns = bound.connector.outside_columns(&bound.options).await;
    let columns = columns.map_err(|error| error.at(statement.name.location))?.unwrap_or_default();
    // As for names in SQL that are not quoted; what a record calls them may differ in case.
    let lower = |name: &str| match columns.iter().filter(|c| c.name.eq_ignore_ascii_case(name)).count() {
        1 => name.to_ascii_lowercase(),
        _ => name.to_string(),
    };
    let syntax = |column: &Column| {
        let written = SqlType::from_arrow(&column.field());
        let sql_type = SqlType::parse(written.as_str()).map_err(|error| {
            Error::new(Code::NotSupported, format!("column {} of the schema has no SQL type", column.name))
                .with_detail(error.to_string())
                .with_hint("list the columns in brackets after the table's name")
                .at(statement.name.location)
        })?;
        Ok(ColumnSyntax {
            name: Name { value: lower(&column.name), location: statement.name.location },
            sql_type,
            nullable: column.nullable,
            default: None,
            generated: None,
            metadata: None,
        })
    };
    columns.iter().map(syntax).collect()
}

pub(crate) async fn test_connection(
    planner: &Planner,
    connection: &ConnectionDef,
    resolver: &dyn Resolver,
) -> Result<Vec<TestStage>> {
    let (connector, theirs) = connected(planner, connection)?;
    Ok(connector.test(&substitute(&theirs, resolver)?).await)
}

pub(crate) fn cluster(
    planner: &Planner,
    connection: &ConnectionDef,
    resolver: &dyn Resolver,
) -> Result<Option<SharedClusterAdmin>> {
    let (connector, theirs) = connected(planner, connection)?;
    connector.cluster(&substitute(&theirs, resolver)?)
}

/// A connection's connector, and those of its options that are the connector's.
fn connected(planner: &Planner, connection: &ConnectionDef) -> Result<(Arc<dyn Connector>, Options)> {
    let connector = planner.registry.get(&connection.connector)?;
    let (_, theirs) = TableSettings::split(&connection.options, &format!("connection {}", connection.name))?;
    Ok((Arc::clone(connector), theirs))
}

pub(crate) fn view(planner: &Planner, catalog: &CatalogSnapshot, statement: &CreateView) -> Result<ViewDef> {
    let name = &statement.name.value;
    let tables = CatalogTables::new(&planner.sql, catalog, Reads::View).creating(name);
    let plan = planner.sql.plan(&statement.query, &tables)?;
    let plan = planner.sql.analyze(plan, &statement.query, &tables)?;
    let found = plan.schema().fields().len();
    if !statement.columns.is_empty() && statement.columns.len() != found {
        let message = format!("view {name} names {} columns, its query has {found}", statement.columns.len());
        return Err(Error::new(Code::ColumnCount, message).at(statement.columns.first().and_then(|c| c.location)));
    }
    columns::refuse_duplicate_names(&statement.columns)?;
    if statement.columns.is_empty() {
        let names = plan.schema().fields().iter().map(|f| f.name().as_str());
        refuse_duplicates(names, "the query of the view").map_err(|e| e.at(statement.query.start))?;
    }
    Ok(ViewDef {
        name: name.clone(),
        columns: statement.columns.iter().map(|c| c.value.clone()).collect(),
        query: statement.query.text.clone(),
        depends_on: tables.used(),
    })
}

/// Columns of a query that become columns of something named.
pub(crate) fn refuse_duplicates<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::new(Code::DuplicateColumn, format!("{what} has two columns {name}"))
                .with_hint("name one of them with AS"));
        }
    }
    Ok(())
}

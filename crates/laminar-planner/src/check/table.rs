//! CREATE TABLE: which connector, which role, and whether the connector takes the options and columns.

use std::sync::Arc;

use laminar_core::connector::{Connector, DeadLettersOf, Role};
use laminar_core::table::{Column, EventTime, TableSpec};
use laminar_core::{Code, Error, Options, Result};

use super::columns::{Metadata, columns, event_time_column, watermark};
use super::{refuse_role, without_places};
use crate::catalog::{CatalogSnapshot, ConnectionDef, TableDef};
use crate::planner::Planner;
use crate::resolver::{Resolver, substitute};
use crate::settings::TableSettings;
use crate::statement::{CreateTable, Name};

/// Options that only a source has.
const SOURCE_OPTIONS: &[&str] = &[
    "include_metadata",
    "event_time_field",
    "watermark_delay",
    "idle_timeout",
    "max_watermark_drift",
    "bad_data",
    "dlq_topic",
    "max_errors_per_batch",
];

/// A table with its connector and the options in force.
pub(crate) struct Bound {
    pub connector: Arc<dyn Connector>,
    pub settings: TableSettings,
    /// The connector's, secrets and environment substituted.
    pub options: Options,
}

impl Bound {
    pub fn dead_letters_of<'a>(&'a self, table: &'a TableSpec) -> DeadLettersOf<'a> {
        DeadLettersOf { options: &self.options, table, destination: self.settings.dlq_topic.as_deref() }
    }
}

/// The table's connector and options as they are now: its connection may have been replaced since.
pub(crate) fn bind(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    resolver: &dyn Resolver,
) -> Result<Bound> {
    let connection = match &table.connection {
        Some(name) => Some(catalog.connection(&Name::new(name))?),
        None => None,
    };
    let connector = Arc::clone(planner.registry.get(&table.connector)?);
    bound(connector, connection, &table.options, &table.name, resolver)
}

/// Does a stored table fit the options of its connection as `catalog` has it? Errors: those of the connector.
pub(crate) fn fits(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    resolver: &dyn Resolver,
) -> Result<()> {
    let bound = bind(planner, catalog, table, resolver)?;
    let roles = table.role.map_or_else(|| Planner::roles(bound.connector.as_ref()), |role| vec![role]);
    for role in roles {
        check_table(&bound, role, &spec(table, &bound.settings, role))?;
    }
    Ok(())
}

fn bound(
    connector: Arc<dyn Connector>,
    connection: Option<&ConnectionDef>,
    own: &Options,
    table: &str,
    resolver: &dyn Resolver,
) -> Result<Bound> {
    let merged = match connection {
        Some(connection) => connection.options.overridden_by(own),
        None => own.clone(),
    };
    let (settings, theirs) = TableSettings::split(&merged, &format!("table {table}"))?;
    Ok(Bound { connector, settings, options: substitute(&theirs, resolver)? })
}

/// The connector and options of a table that is being created.
pub(crate) fn bind_new(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    statement: &CreateTable,
    resolver: &dyn Resolver,
) -> Result<Bound> {
    let name = &statement.name.value;
    let (own, _) = TableSettings::split(&statement.options, &format!("table {name}"))?;
    let (connector, connection) = connector_of(planner, catalog, statement, &own)?;
    bound(connector, connection, &statement.options, name, resolver)
}

/// The whole check of a CREATE TABLE.
pub(crate) fn table(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    statement: &CreateTable,
    resolver: &dyn Resolver,
) -> Result<TableDef> {
    let here = statement.name.location;
    let name = &statement.name.value;
    let (own, _) = TableSettings::split(&statement.options, &format!("table {name}"))?;
    let (connector, connection) = connector_of(planner, catalog, statement, &own)?;
    if let Some(connection) = connection {
        refuse_other_type(connection, statement)?;
    }
    let bound = bound(connector, connection, &statement.options, name, resolver)?;
    let role = bound.settings.table_type.map(Role::from);
    let mut roles = Planner::roles(bound.connector.as_ref());
    let was_both = roles.len() > 1;
    if let Some(role) = role {
        refuse_role(role, &roles, bound.connector.name(), statement.options.entry("type")).map_err(|e| e.at(here))?;
        roles = vec![role];
    }
    let roles = narrow(roles, statement)?;
    if statement.columns.is_empty() && statement.query.is_none() && role.is_none() && was_both {
        return Err(no_columns(statement));
    }
    let mut def = TableDef {
        name: name.clone(),
        connection: connection.map(|c| c.name.clone()),
        connector: bound.connector.name().to_string(),
        role: None,
        columns: columns(planner, statement, metadata(&bound, role, statement))?,
        primary_key: statement.primary_key.iter().map(|k| k.value.clone()).collect(),
        watermark: None,
        options: without_places(&statement.options),
    };
    if let Some(syntax) = &statement.watermark {
        def.watermark = Some(watermark(syntax, &def.columns)?);
        refuse_two_event_times(statement)?;
        if def.is_by_arrival() {
            refuse_waiting(statement)?;
        }
    } else if let Some(field) = &bound.settings.event_time_field {
        let location = statement.options.entry("event_time_field").and_then(|e| e.location).or(here);
        event_time_column(&Name { value: field.clone(), location }, &def.columns, "event time")?;
    }
    def.role = only(&accepted(&bound, &def, statement, roles)?);
    Ok(def)
}

/// `connector` names a connection, else a connector; `connection` names a connection.
fn connector_of<'a>(
    planner: &Planner,
    catalog: &'a CatalogSnapshot,
    statement: &CreateTable,
    own: &TableSettings,
) -> Result<(Arc<dyn Connector>, Option<&'a ConnectionDef>)> {
    let place = |key: &str| statement.options.entry(key).and_then(|e| e.location);
    let named = |name: &str, key: &str| Name { value: name.to_string(), location: place(key) };
    let (connection, connector) = match (&own.connection, &own.connector) {
        (Some(connection), connector) => {
            (Some(catalog.connection(&named(connection, "connection"))?), connector.as_deref())
        }
        (None, Some(connector)) => match catalog.connections.get(connector) {
            Some(connection) => (Some(connection), None),
            None => (None, Some(connector.as_str())),
        },
        (None, None) => return Err(no_connector(statement)),
    };
    let Some(connection) = connection else {
        let written = connector.unwrap_or_default();
        let found = planner.registry.get(written).map_err(|error| {
            let names = planner.registry.iter().map(|c| c.name()).chain(catalog.connections.keys().map(String::as_str));
            let names: Vec<String> = names.map(str::to_string).collect();
            let ours = Error::new(Code::UnknownConnector, format!("there is no connection or connector {written}"))
                .with_field("connector");
            match laminar_core::options::nearest(written, names.iter().map(String::as_str)) {
                Some(near) => ours.with_hint(format!("did you mean {near}?")),
                None => ours.with_hint(error.hint().unwrap_or_default().to_string()),
            }
            .at(place("connector"))
        })?;
        return Ok((Arc::clone(found), None));
    };
    if let Some(written) = connector.filter(|c| !c.eq_ignore_ascii_case(&connection.connector)) {
        return Err(Error::new(
            Code::ConflictingOptions,
            format!("connection {} is of connector {}, not {written}", connection.name, connection.connector),
        )
        .with_field("connector")
        .at(place("connector")));
    }
    Ok((Arc::clone(planner.registry.get(&connection.connector)?), Some(connection)))
}

fn no_connector(statement: &CreateTable) -> Error {
    let error = Error::new(Code::MissingOption, format!("table {} needs option connector", statement.name.value))
        .with_field("connector")
        .at(statement.name.location);
    match &statement.query {
        Some(_) if statement.options.is_empty() => error.with_hint("for a named query, write CREATE VIEW"),
        _ => error.with_hint("WITH (connector = 'kafka', …), or the name of a connection"),
    }
}

/// Only a sink has no columns, and nothing says that the table is one.
fn no_columns(statement: &CreateTable) -> Error {
    Error::new(Code::MissingOption, format!("table {} has no columns, and no type", statement.name.value))
        .with_hint(
            "list its columns in brackets after its name: (id BIGINT, …); a sink that takes those of its INSERT says \
             type = 'sink', and a source that takes those of its schema, outside of a script, type = 'source'",
        )
        .with_field("type")
        .at(statement.name.location)
}

fn refuse_other_type(connection: &ConnectionDef, statement: &CreateTable) -> Result<()> {
    let (Some(theirs), Some(ours)) = (connection.options.get("type"), statement.options.entry("type")) else {
        return Ok(());
    };
    if theirs.eq_ignore_ascii_case(&ours.value) {
        return Ok(());
    }
    Err(Error::new(
        Code::ConflictingOptions,
        format!(
            "connection {} is of type '{theirs}', table {} of type '{}'",
            connection.name, statement.name.value, ours.value
        ),
    )
    .with_hint("leave the type out of the connection to use it for both")
    .with_field("type")
    .at(ours.location))
}

fn metadata<'a>(bound: &'a Bound, role: Option<Role>, statement: &CreateTable) -> Metadata<'a> {
    let written = role == Some(Role::Sink) || statement.query.is_some();
    let raw = bound
        .options
        .get("format")
        .is_some_and(|f| f.eq_ignore_ascii_case("raw") || f.eq_ignore_ascii_case("raw_bytes"));
    Metadata { connector: bound.connector.as_ref(), included: bound.settings.include_metadata, written, raw }
}

fn refuse_two_event_times(statement: &CreateTable) -> Result<()> {
    for key in ["event_time_field", "watermark_delay"] {
        if let Some(entry) = statement.options.entry(key) {
            return Err(Error::new(
                Code::ConflictingOptions,
                format!("option {key} and WATERMARK FOR exclude each other"),
            )
            .with_field(key)
            .at(entry.location));
        }
    }
    Ok(())
}

/// By processing time no row is late, and no partition silent.
fn refuse_waiting(statement: &CreateTable) -> Result<()> {
    let found = ["allowed_lateness", "idle_timeout", "late_data"].iter().find_map(|key| statement.options.entry(key));
    let Some(entry) = found else { return Ok(()) };
    let message = format!("option {} means nothing where the event time of rows is their arrival", entry.key);
    Err(Error::new(Code::ConflictingOptions, message)
        .with_hint("leave it out: time goes on with the clock, and no row is late")
        .with_field(&entry.key)
        .at(entry.location))
}

/// Leaves out the roles that the statement itself rules out.
fn narrow(roles: Vec<Role>, statement: &CreateTable) -> Result<Vec<Role>> {
    let name = &statement.name.value;
    let generated = statement.columns.iter().find(|c| c.generated.is_some());
    // In a sink they are metadata of what is written.
    let from_metadata = match roles.as_slice() {
        [Role::Sink] => None,
        _ => statement.columns.iter().find_map(|c| c.metadata.as_ref()),
    };
    let source_only = SOURCE_OPTIONS.iter().find_map(|key| statement.options.entry(key));
    let why_source = match (generated, from_metadata, &statement.watermark, source_only) {
        (Some(column), ..) => Some((format!("column {} is generated", column.name.value), column.name.location)),
        (_, Some(key), ..) => Some((format!("metadata {} is read from records", key.value), key.location)),
        (_, _, Some(watermark), _) => Some(("it has a watermark".to_string(), watermark.column.location)),
        (_, _, _, Some(entry)) => Some((format!("it has option {}", entry.key), entry.location)),
        _ => None,
    };
    let why_sink = match &statement.query {
        Some(query) => Some(("it is filled AS SELECT".to_string(), Some(query.start))),
        None if statement.columns.is_empty() => Some(("it has no columns".to_string(), statement.name.location)),
        None => None,
    };
    let conflict = |is: &str, must: &str, why: (String, Option<laminar_core::Location>)| {
        Error::new(Code::WrongObjectKind, format!("table {name} cannot be {is}: {}", why.0))
            .with_hint(format!("only {must} can"))
            .at(why.1)
    };
    let keep = |role: Role| {
        roles.contains(&role)
            && !(role == Role::Sink && why_source.is_some())
            && !(role == Role::Source && why_sink.is_some())
    };
    let left: Vec<Role> = [Role::Source, Role::Sink].into_iter().filter(|role| keep(*role)).collect();
    match (left.is_empty(), why_source, why_sink) {
        (false, ..) => Ok(left),
        (true, Some(why), _) if roles.contains(&Role::Sink) => Err(conflict("a sink", "a source", why)),
        (true, _, Some(why)) => {
            let error = conflict("a source", "a sink", why);
            Err(if statement.query.is_none() {
                error.with_hint("list its columns in brackets after its name")
            } else {
                error
            })
        }
        _ => Err(Error::internal(format!("table {name} can neither be read nor written"))),
    }
}

/// The roles in which the connector takes the table. An error if there is none: the first role's.
fn accepted(bound: &Bound, def: &TableDef, statement: &CreateTable, roles: Vec<Role>) -> Result<Vec<Role>> {
    let mut accepted = Vec::new();
    let mut first_error = None;
    for role in roles {
        // a sink without columns is checked when its query is known
        let spec = spec(def, &bound.settings, role);
        match check_table(bound, role, &spec) {
            Ok(()) => accepted.push(role),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        Some(error) if accepted.is_empty() => Err(placed(error, statement)),
        _ => Ok(accepted),
    }
}

/// Does the connector take the table in that role, and keep its dead letters if it should?
fn check_table(bound: &Bound, role: Role, spec: &TableSpec) -> Result<()> {
    bound.connector.check_table(role, &bound.options, spec)?;
    match role == Role::Source && bound.settings.keeps_dead_letters() {
        true => bound.connector.check_dead_letters(&bound.dead_letters_of(spec)),
        false => Ok(()),
    }
}

/// The place of the column or option that a connector blames, else of the table's name.
fn placed(error: Error, statement: &CreateTable) -> Error {
    let field = error.field().map(str::to_string);
    let column = statement.columns.iter().find(|c| Some(&c.name.value) == field.as_ref()).and_then(|c| c.name.location);
    let option = field.as_deref().and_then(|f| statement.options.entry(f)).and_then(|e| e.location);
    error.at(option).at(column).at(statement.name.location)
}

fn only(roles: &[Role]) -> Option<Role> {
    match roles {
        [role] => Some(*role),
        _ => None,
    }
}

/// The table as its connector sees it, all columns projected. Generated columns are not among them.
pub(crate) fn spec(def: &TableDef, settings: &TableSettings, role: Role) -> TableSpec {
    let stored = def.columns.iter().filter(|c| c.generated.is_none());
    let columns: Vec<Column> = stored
        .map(|c| Column {
            name: c.name.clone(),
            data_type: c.sql_type.data_type.clone(),
            // a record may leave out what has a default
            nullable: c.nullable || (role == Role::Source && c.default.is_some()),
            json: c.sql_type.json,
            metadata: c.metadata.clone(),
        })
        .collect();
    let event_time = match (&def.watermark, &settings.event_time_field) {
        _ if role == Role::Sink || def.is_by_arrival() => None,
        (Some(watermark), _) => Some(EventTime { column: watermark.column.clone(), delay: watermark.delay }),
        (None, Some(column)) => Some(EventTime { column: column.clone(), delay: settings.watermark_delay() }),
        (None, None) => None,
    };
    TableSpec {
        name: def.name.clone(),
        projection: (0..columns.len()).collect(),
        columns,
        event_time,
        primary_key: def.primary_key.clone(),
    }
}

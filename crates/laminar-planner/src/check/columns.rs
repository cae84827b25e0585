//! The columns of CREATE TABLE: names, types, metadata, defaults, generated expressions, keys, watermark.

use std::time::Duration;

use arrow::compute::can_cast_types;
use arrow::compute::kernels::cast_utils::IntervalParseConfig;
use arrow::compute::kernels::cast_utils::IntervalUnit;
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano_config;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::ExprSchemable;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, ValueWithSpan};
use laminar_core::connector::{Connector, MetadataColumn};
use laminar_core::options::nearest;
use laminar_core::table::timestamp_type;
use laminar_core::{Code, Error, Result};

use crate::catalog::{ColumnDef, WatermarkDef, did_you_mean};
use crate::parse::identifier_text;
use crate::planner::Planner;
use crate::statement::{ColumnSyntax, CreateTable, Name, SqlExpr, WatermarkSyntax};
use crate::types::{SqlType, sql_name};

pub(crate) fn refuse_duplicate_names(names: &[Name]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        if names.iter().take(i).any(|earlier| earlier.value == name.value) {
            return Err(
                Error::new(Code::DuplicateColumn, format!("column {} is given twice", name.value)).at(name.location)
            );
        }
    }
    Ok(())
}

/// The columns with their metadata resolved and their expressions checked.
pub(crate) fn columns(planner: &Planner, statement: &CreateTable, metadata: Metadata<'_>) -> Result<Vec<ColumnDef>> {
    let names: Vec<Name> = statement.columns.iter().map(|c| c.name.clone()).collect();
    refuse_duplicate_names(&names)?;
    let mut columns = Vec::with_capacity(names.len());
    for column in &statement.columns {
        columns.push(ColumnDef {
            name: column.name.value.clone(),
            sql_type: column_type(column)?,
            nullable: column.nullable && !statement.primary_key.iter().any(|k| k.value == column.name.value),
            default: column.default.as_ref().map(|e| e.text.clone()),
            generated: column.generated.as_ref().map(|e| e.text.clone()),
            metadata: metadata.of(column)?,
        });
    }
    check_expressions(planner, statement, &columns)?;
    for key in &statement.primary_key {
        known(key, &columns, "primary key")?;
    }
    refuse_duplicate_names(&statement.primary_key)?;
    Ok(columns)
}

fn column_type(column: &ColumnSyntax) -> Result<SqlType> {
    match column.sql_type.data_type {
        DataType::Interval(_) => {
            Err(Error::new(Code::TypeMismatch, format!("column {} cannot be of type INTERVAL", column.name.value))
                .with_hint("store it as BIGINT or TEXT, and cast it in the query")
                .at(column.name.location))
        }
        _ => Ok(column.sql_type.clone()),
    }
}

fn known<'a>(name: &Name, columns: &'a [ColumnDef], what: &str) -> Result<&'a ColumnDef> {
    columns.iter().find(|c| c.name == name.value).ok_or_else(|| {
        let error = Error::new(Code::UnknownColumn, format!("the {what} names {}, which is not a column", name.value));
        did_you_mean(error, &name.value, columns.iter().map(|c| &c.name)).at(name.location)
    })
}

/// Which columns are filled from the record's metadata.
#[derive(Clone, Copy)]
pub(crate) struct Metadata<'a> {
    pub connector: &'a dyn Connector,
    /// `include_metadata = true`.
    pub included: bool,
    /// The table is a sink: columns become metadata of the records that it writes.
    pub written: bool,
    /// In the raw format, a record's only value column leaves the bare metadata names free.
    pub raw: bool,
}

impl Metadata<'_> {
    fn of(&self, column: &ColumnSyntax) -> Result<Option<String>> {
        let all = match self.written {
            true => self.connector.sink_metadata_columns(),
            false => self.connector.metadata_columns(),
        };
        if let Some(key) = &column.metadata {
            if let Some(found) = all.iter().find(|m| m.key == key.value) {
                if self.written {
                    return Ok(Some(found.key.to_string()));
                }
                return holds(column, found).map(Some);
            }
            let keys: Vec<&str> = all.iter().map(|m| m.key).collect();
            let error = Error::new(
                Code::UnknownColumn,
                match self.written {
                    true => format!("a sink of connector {} writes no metadata {}", self.connector.name(), key.value),
                    false => format!("connector {} has no metadata {}", self.connector.name(), key.value),
                },
            );
            return Err(match (nearest(&key.value, keys.iter().copied()), keys.is_empty()) {
                (Some(near), _) => error.with_hint(format!("did you mean {near}?")),
                (None, false) => error.with_hint(format!("metadata: {}", keys.join(", "))),
                (None, true) => error,
            }
            .at(key.location));
        }
        // The connector knows the names of a sink's columns, and checks their types.
        if self.written {
            return Ok(None);
        }
        let name = column.name.value.as_str();
        let by_name = all.iter().find(|m| m.column == name);
        match (by_name, self.included) {
            (Some(found), true) => holds(column, found).map(Some),
            (Some(found), false) => Err(Error::new(
                Code::MissingOption,
                format!("column {name} is metadata of the record, which is not included"),
            )
            .with_hint(format!(
                "add include_metadata = 'true', or write {name} {} METADATA FROM '{}'{}",
                column.sql_type,
                found.key,
                match self.connector.sink_metadata_columns().iter().any(|m| m.column == name) {
                    true => "; in a table to write to, add type = 'sink'",
                    false => "",
                }
            ))
            .with_field(name)
            .at(column.name.location)),
            (None, true) if self.raw => {
                all.iter().find(|m| m.key == name).map(|found| holds(column, found)).transpose()
            }
            (None, _) => Ok(None),
        }
    }
}

/// The metadata's key, if the column's type can hold it: its own type, a wider or narrower integer, text.
fn holds(column: &ColumnSyntax, metadata: &MetadataColumn) -> Result<String> {
    let (own, wanted) = (SqlType::parse(metadata.sql_type)?.data_type, &column.sql_type.data_type);
    let fits = own == *wanted
        || (own.is_integer() && wanted.is_integer())
        || *wanted == DataType::Utf8
        || (metadata.key == "headers" && matches!(wanted, DataType::Map(..)));
    if fits {
        return Ok(metadata.key.to_string());
    }
    let (name, key) = (&column.name.value, metadata.key);
    Err(Error::new(
        Code::TypeMismatch,
        format!("column {name} is {}, metadata {key} is {}", column.sql_type, metadata.sql_type),
    )
    .with_hint(format!("declare {name} {}", metadata.sql_type))
    .at(column.name.location))
}

/// Defaults and generated expressions: they plan, and their types fit.
fn check_expressions(planner: &Planner, statement: &CreateTable, columns: &[ColumnDef]) -> Result<()> {
    let stored = columns.iter().filter(|c| c.generated.is_none());
    let stored: Vec<_> = stored.map(|c| c.sql_type.field(&c.name, true)).collect();
    let schema = DFSchema::try_from(Schema::new(stored)).map_err(crate::translate::translate)?;
    for column in &statement.columns {
        let name = &column.name.value;
        if let (Some(generated), Some(_)) = (&column.generated, &column.default) {
            return Err(Error::new(Code::ConflictingOptions, format!("column {name} has a DEFAULT and is generated"))
                .at(generated.start));
        }
        if let (Some(_), Some(metadata)) = (column.generated.as_ref().or(column.default.as_ref()), &column.metadata) {
            return Err(Error::new(
                Code::ConflictingOptions,
                format!("column {name} is filled from metadata and from an expression"),
            )
            .at(metadata.location));
        }
        if let Some(default) = &column.default {
            check_expression(planner, default, &DFSchema::empty(), column)?;
        }
        if let Some(generated) = &column.generated {
            check_expression(planner, generated, &schema, column)?;
        }
    }
    Ok(())
}

fn check_expression(planner: &Planner, expr: &SqlExpr, schema: &DFSchema, column: &ColumnSyntax) -> Result<()> {
    crate::refuse::expression(&planner.sql, expr)?;
    let planned = planner.sql.expr(expr, schema)?;
    let planned = planner.sql.coerce(planned, schema).map_err(|e| e.at(expr.start))?;
    let data_type = planned.get_type(schema).map_err(|e| crate::translate::translate(e).at(expr.start))?;
    if can_cast_types(&data_type, &column.sql_type.data_type) {
        return Ok(());
    }
    Err(Error::new(
        Code::TypeMismatch,
        format!("column {} is {}, its expression is {}", column.name.value, column.sql_type, sql_name(&data_type)),
    )
    .at(expr.start))
}

/// `WATERMARK FOR c [AS c - INTERVAL '…']`.
pub(crate) fn watermark(syntax: &WatermarkSyntax, columns: &[ColumnDef]) -> Result<WatermarkDef> {
    let column = timestamp_column(&syntax.column, columns, "watermark")?;
    if column.generated.as_deref().is_some_and(is_processing_time) {
        return by_arrival(syntax);
    }
    refuse_generated(column, &syntax.column, "watermark")?;
    let delay = match &syntax.expr {
        None => Duration::ZERO,
        Some(expr) => delay(&expr.ast, &syntax.column.value).ok_or_else(|| {
            let column = &syntax.column.value;
            Error::new(
                Code::NotSupported,
                format!("the watermark of {column} is not {column} minus a constant interval"),
            )
            .with_hint(format!("WATERMARK FOR {column} AS {column} - INTERVAL '5 seconds'"))
            .at(expr.start)
        })?,
    };
    Ok(WatermarkDef { column: syntax.column.value.clone(), delay })
}

/// The watermark of rows that are timed by their arrival.
fn by_arrival(syntax: &WatermarkSyntax) -> Result<WatermarkDef> {
    let column = &syntax.column.value;
    match &syntax.expr {
        None => Ok(WatermarkDef { column: column.clone(), delay: Duration::ZERO }),
        Some(expr) => Err(Error::new(
            Code::NotSupported,
            format!("column {column} is when rows arrive: they are never out of order, and its watermark has no delay"),
        )
        .with_hint(format!("WATERMARK FOR {column}"))
        .at(expr.start)),
    }
}

/// Is it `PROCTIME()`?
fn is_processing_time(generated: &str) -> bool {
    fn is_call(expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) => is_call(inner),
            Expr::Function(call) => {
                call.name.to_string().eq_ignore_ascii_case(crate::functions::clock::PROCESSING_TIME)
            }
            _ => false,
        }
    }
    crate::parse::parse_expr(generated).is_ok_and(|expr| is_call(&expr.ast))
}

/// A column that can say when a row happened.
pub(crate) fn event_time_column(name: &Name, columns: &[ColumnDef], what: &str) -> Result<()> {
    refuse_generated(timestamp_column(name, columns, what)?, name, what)
}

fn timestamp_column<'a>(name: &Name, columns: &'a [ColumnDef], what: &str) -> Result<&'a ColumnDef> {
    let column = known(name, columns, what)?;
    if column.sql_type.data_type != timestamp_type() {
        return Err(Error::new(
            Code::TypeMismatch,
            format!("the {what} column {} is {}, not TIMESTAMP", column.name, column.sql_type),
        )
        .with_hint(format!("declare {} TIMESTAMP; timestamp_format says how it is written in the record", column.name))
        .at(name.location));
    }
    Ok(column)
}

fn refuse_generated(column: &ColumnDef, name: &Name, what: &str) -> Result<()> {
    if column.generated.is_none() {
        return Ok(());
    }
    Err(Error::new(Code::NotSupported, format!("the {what} column {} cannot be a generated one", column.name))
        .with_hint("name a column of the record; or for the time of arrival, one GENERATED ALWAYS AS (PROCTIME()), by WATERMARK FOR")
        .at(name.location))
}

/// The interval of `column - INTERVAL '…'`, in any number of brackets.
fn delay(expr: &Expr, column: &str) -> Option<Duration> {
    match expr {
        Expr::Nested(inner) => delay(inner, column),
        Expr::Identifier(ident) if identifier_text(ident) == column => Some(Duration::ZERO),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => {
            delay(left, column).filter(Duration::is_zero)?;
            constant_interval(right)
        }
        _ => None,
    }
}

fn constant_interval(expr: &Expr) -> Option<Duration> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let Expr::Interval(interval) = expr else {
        return match expr {
            Expr::Nested(inner) => constant_interval(inner),
            _ => None,
        };
    };
    let Expr::Value(ValueWithSpan { value, .. }) = interval.value.as_ref() else { return None };
    let number = match value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => text,
        _ => return None,
    };
    let text = match &interval.leading_field {
        Some(unit) => format!("{number} {unit}"),
        None => number.clone(),
    };
    let parsed = parse_interval_month_day_nano_config(&text, IntervalParseConfig::new(IntervalUnit::Second)).ok()?;
    let micros = i64::from(parsed.days).checked_mul(MICROS_PER_DAY)?.checked_add(parsed.nanoseconds / 1_000)?;
    let whole = parsed.months == 0;
    u64::try_from(micros).ok().filter(|_| whole).map(Duration::from_micros)
}

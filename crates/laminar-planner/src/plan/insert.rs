//! A query's columns to a sink's: by position, cast to the sink's types; what is not given gets its default or NULL.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Spanned};
use datafusion_functions_json::udfs::json_union_to_text_udf;
use laminar_core::table::{Column, TYPE_KEY, timestamp_type};
use laminar_core::{Code, Error, Location, Result};

use crate::catalog::{ColumnDef, TableDef, did_you_mean};
use crate::check::refuse_duplicates;
use crate::parse;
use crate::planner::Planner;
use crate::statement::{Insert, Name, SqlQuery};
use crate::translate::translate;
use crate::types::sql_name;

/// The plan with a projection to the sink's columns, and those columns.
pub(crate) fn to_sink(
    planner: &Planner,
    plan: LogicalPlan,
    table: &TableDef,
    insert: &Insert,
) -> Result<(LogicalPlan, Vec<Column>)> {
    if table.columns.is_empty() {
        if let Some(column) = insert.columns.first() {
            return Err(Error::new(
                Code::UnknownColumn,
                format!("table {} has no columns of its own to list", table.name),
            )
            .with_hint("it takes those of the query: leave the list out")
            .at(column.location));
        }
        return to_own_columns(plan, &insert.query, &format!("table {}", table.name));
    }
    let targets = targets(table, insert)?;
    let given: Vec<_> =
        plan.schema().iter().map(|(q, f)| (datafusion::common::Column::from((q, f)), Arc::clone(f))).collect();
    if given.len() != targets.len() {
        return Err(wrong_count(table, insert, given.len(), targets.len()));
    }
    let mut exprs = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let position = targets.iter().position(|target| target.name == column.name);
        let (expr, nullable) = match position.and_then(|i| given.get(i).map(|g| (i, g))) {
            Some((i, (from, field))) => {
                let place = item_place(&insert.query, i);
                let expr = fit(Expr::Column(from.clone()), field, column, table, i).map_err(|e| e.at(place))?;
                (expr, field.is_nullable())
            }
            None => missing(planner, column, table, insert)?,
        };
        let expr = if nullable && !column.nullable {
            crate::functions::not_null(expr, &table.name, &column.name)
        } else {
            expr
        };
        exprs.push(expr.alias(&column.name));
    }
    let columns = table.columns.iter().map(sink_column).collect();
    Ok((project(plan, exprs)?, columns))
}

/// The plan whose result is kept: its columns have types that SQL names, and different names.
pub(crate) fn to_result(plan: LogicalPlan, query: &SqlQuery) -> Result<LogicalPlan> {
    Ok(to_own_columns(plan, query, "the result")?.0)
}

fn to_own_columns(plan: LogicalPlan, query: &SqlQuery, what: &str) -> Result<(LogicalPlan, Vec<Column>)> {
    refuse_duplicates(plan.schema().fields().iter().map(|f| f.name().as_str()), what).map_err(|e| e.at(query.start))?;
    let (mut exprs, mut columns) = (Vec::new(), Vec::new());
    for (qualifier, field) in plan.schema().iter() {
        let expr = Expr::Column(datafusion::common::Column::from((qualifier, field)));
        let (expr, data_type, json) = plain(expr, field);
        exprs.push(expr.alias(field.name()));
        columns.push(Column {
            name: field.name().clone(),
            data_type,
            nullable: field.is_nullable(),
            json,
            metadata: None,
        });
    }
    Ok((project(plan, exprs)?, columns))
}

fn project(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    LogicalPlanBuilder::from(plan).project(exprs).and_then(|p| p.build()).map_err(translate)
}

/// The sink's columns that the query fills, in the query's order.
fn targets<'a>(table: &'a TableDef, insert: &Insert) -> Result<Vec<&'a ColumnDef>> {
    if insert.columns.is_empty() {
        return Ok(table.columns.iter().collect());
    }
    let find = |name: &Name| {
        table.columns.iter().find(|c| c.name == name.value).ok_or_else(|| {
            let error = Error::new(Code::UnknownColumn, format!("table {} has no column {}", table.name, name.value));
            did_you_mean(error, &name.value, table.columns.iter().map(|c| &c.name)).at(name.location)
        })
    };
    for (i, name) in insert.columns.iter().enumerate() {
        if insert.columns.iter().take(i).any(|earlier| earlier.value == name.value) {
            return Err(
                Error::new(Code::DuplicateColumn, format!("column {} is given twice", name.value)).at(name.location)
            );
        }
    }
    insert.columns.iter().map(find).collect()
}

fn wrong_count(table: &TableDef, insert: &Insert, given: usize, wanted: usize) -> Error {
    let columns = |n: usize| if n == 1 { "1 column".to_string() } else { format!("{n} columns") };
    let what = if insert.columns.is_empty() { "has" } else { "is given" };
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let error = Error::new(
        Code::ColumnCount,
        format!("the query has {}, table {} {what} {}", columns(given), table.name, columns(wanted)),
    );
    let error = if insert.columns.is_empty() {
        error.with_hint(format!(
            "columns of {}: {}; to fill some of them: INSERT INTO {} (column, …)",
            table.name,
            names.join(", "),
            table.name
        ))
    } else {
        error
    };
    error.at(insert.query.start)
}

/// What a column gets that the INSERT does not name, and whether it can be null.
fn missing(planner: &Planner, column: &ColumnDef, table: &TableDef, insert: &Insert) -> Result<(Expr, bool)> {
    let data_type = column.sql_type.data_type.clone();
    if let Some(text) = &column.default {
        let default = planner.sql.expr(&parse::parse_expr(text)?, &DFSchema::empty())?;
        return Ok((cast(default, data_type), true));
    }
    if !column.nullable {
        let place = insert.columns.first().and_then(|c| c.location);
        return Err(Error::new(
            Code::ColumnCount,
            format!("column {} of table {} is NOT NULL and gets no value", column.name, table.name),
        )
        .with_hint("add it to the list, or give it a DEFAULT")
        .at(place));
    }
    Ok((cast(lit(ScalarValue::Null), data_type), true))
}

/// The query's column `index` as the sink's type.
fn fit(expr: Expr, from: &Field, to: &ColumnDef, table: &TableDef, index: usize) -> Result<Expr> {
    let (expr, data_type, _) = plain(expr, from);
    let wanted = &to.sql_type.data_type;
    if data_type == *wanted {
        return Ok(expr);
    }
    if can_cast_types(&data_type, wanted) && is_kindred(&data_type, wanted) {
        return Ok(cast(expr, wanted.clone()));
    }
    Err(Error::new(
        Code::TypeMismatch,
        format!(
            "column {} of the query ({}) is {}, column {} of table {} is {}",
            index + 1,
            from.name(),
            sql_name(&data_type),
            to.name,
            table.name,
            to.sql_type
        ),
    )
    .with_hint(format!("write an expression of type {}, such as CAST(… AS {})", to.sql_type, to.sql_type)))
}

/// Is the cast one that a person expects without writing it? A time is not a number, a number is not a truth value.
fn is_kindred(from: &DataType, to: &DataType) -> bool {
    let is_text = |t: &DataType| *t == DataType::Utf8;
    let is_time = |t: &DataType| t.is_temporal();
    let is_bytes = |t: &DataType| *t == DataType::Binary;
    let is_bool = |t: &DataType| *t == DataType::Boolean;
    for kind in [is_time as fn(&DataType) -> bool, is_bytes, is_bool, DataType::is_numeric] {
        if kind(from) != kind(to) {
            return is_text(from) || is_text(to);
        }
    }
    true
}

/// The expression in a type that SQL names: JSON of any kind as text, times in microseconds; and whether it is JSON.
fn plain(expr: Expr, field: &Field) -> (Expr, DataType, bool) {
    let marked =
        field.metadata().get(TYPE_KEY).is_some_and(|t| t == "json") || field.metadata().contains_key("is_json");
    match field.data_type() {
        DataType::Union(..) => (json_union_to_text_udf().call(vec![expr]), DataType::Utf8, true),
        DataType::Timestamp(..) if *field.data_type() != timestamp_type() => {
            (cast(expr, timestamp_type()), timestamp_type(), false)
        }
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => {
            (cast(expr, DataType::Utf8), DataType::Utf8, marked)
        }
        DataType::BinaryView | DataType::LargeBinary => (cast(expr, DataType::Binary), DataType::Binary, false),
        DataType::Dictionary(_, value) => (cast(expr, value.as_ref().clone()), value.as_ref().clone(), marked),
        other => (expr, other.clone(), marked && *other == DataType::Utf8),
    }
}

fn sink_column(column: &ColumnDef) -> Column {
    Column {
        name: column.name.clone(),
        data_type: column.sql_type.data_type.clone(),
        nullable: column.nullable,
        json: column.sql_type.json,
        metadata: column.metadata.clone(),
    }
}

/// Where the query's column stands, if its SELECT list says so item by item.
fn item_place(query: &SqlQuery, index: usize) -> Option<Location> {
    let span = match query.ast.body.as_ref() {
        SetExpr::Select(select) => {
            let wildcard =
                |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
            if select.projection.iter().take(index + 1).any(wildcard) {
                return Some(query.start);
            }
            select.projection.get(index)?.span()
        }
        SetExpr::Values(values) => values.rows.first()?.content.get(index)?.span(),
        _ => return Some(query.start),
    };
    crate::script::location(span.start).or(Some(query.start))
}

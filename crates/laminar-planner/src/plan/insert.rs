//! A query's columns to a sink's: by position, cast to the sink's types; what is not given gets its default or NULL.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr, Spanned};
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
                let given = Given { from, field, position: i, literal: is_literal(&plan, i), query: &insert.query };
                (fit(given, column, table)?, field.is_nullable())
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

/// A column of the query.
struct Given<'a> {
    from: &'a datafusion::common::Column,
    field: &'a Field,
    position: usize,
    /// Written as a literal, which takes the type that is wanted.
    literal: bool,
    query: &'a SqlQuery,
}

/// The query's column as the sink's type. Casts are PostgreSQL's of an assignment: none that fails for most values.
fn fit(given: Given<'_>, to: &ColumnDef, table: &TableDef) -> Result<Expr> {
    let (expr, data_type, _) = plain(Expr::Column(given.from.clone()), given.field);
    let wanted = &to.sql_type.data_type;
    if data_type == *wanted {
        return Ok(expr);
    }
    let free = given.literal || *given.field.data_type() == DataType::Null;
    let castable = can_cast_types(&data_type, wanted) && is_kindred(&data_type, wanted);
    if castable && (free || !is_parsed(&data_type, wanted)) {
        return Ok(cast(expr, wanted.clone()));
    }
    let (place, text) = item(given.query, given.position);
    let text = text.filter(|text| text.chars().count() <= MAX_SHOWN);
    let message = format!(
        "column {} of the query ({}) is {}, column {} of table {} is {}",
        given.position + 1,
        text.as_ref().unwrap_or(given.field.name()),
        sql_name(&data_type),
        to.name,
        table.name,
        to.sql_type
    );
    let text = text.as_deref().unwrap_or("…");
    let hint = match castable {
        true => {
            format!("CAST({text} AS {0}), or TRY_CAST({text} AS {0}), which gives NULL for what is none", to.sql_type)
        }
        false => format!("write an expression of type {0}, such as CAST(… AS {0})", to.sql_type),
    };
    Err(Error::new(Code::TypeMismatch, message).with_hint(hint).at(place))
}

/// Longest expression that an error repeats, in characters.
const MAX_SHOWN: usize = 60;

/// Is the cast one of values of a kind? A time is not a number, a number is not a truth value; all can be text.
fn is_kindred(from: &DataType, to: &DataType) -> bool {
    let is_text = |t: &DataType| *t == DataType::Utf8;
    let is_time = |t: &DataType| t.is_temporal();
    let is_bytes = |t: &DataType| *t == DataType::Binary;
    let is_bool = |t: &DataType| *t == DataType::Boolean;
    for kind in [is_time as fn(&DataType) -> bool, is_bytes, is_bool, DataType::is_numeric, DataType::is_nested] {
        if kind(from) != kind(to) {
            return is_text(from) || is_text(to);
        }
    }
    true
}

/// Does the cast read text, so that a value may be none of the type?
fn is_parsed(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Utf8, to) => !matches!(to, DataType::Utf8 | DataType::Binary),
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from, _), DataType::Map(to, _)) => {
            is_parsed(from.data_type(), to.data_type())
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.iter().zip(to).any(|(from, to)| is_parsed(from.data_type(), to.data_type()))
        }
        _ => false,
    }
}

/// Is the column a literal in every row?
fn is_literal(plan: &LogicalPlan, index: usize) -> bool {
    fn literal(expr: &Expr) -> bool {
        match expr {
            Expr::Literal(..) => true,
            Expr::Alias(alias) => literal(&alias.expr),
            // what the planner adds to give the rows of VALUES one type
            Expr::Cast(cast) => matches!(*cast.expr, Expr::Literal(..)),
            _ => false,
        }
    }
    match plan {
        LogicalPlan::Projection(p) => match (p.expr.get(index), p.input.as_ref()) {
            (Some(Expr::Column(_)), input @ LogicalPlan::Values(_)) => is_literal(input, index),
            (expr, _) => expr.is_some_and(literal),
        },
        LogicalPlan::Values(values) => values.values.iter().all(|row| row.get(index).is_some_and(literal)),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_literal(input, index)),
        _ => false,
    }
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

/// Where the query's column stands and how it is written, if its SELECT list says so item by item.
fn item(query: &SqlQuery, index: usize) -> (Option<Location>, Option<String>) {
    let unknown = (Some(query.start), None);
    let expr = match query.ast.body.as_ref() {
        SetExpr::Select(select) => {
            let wildcard =
                |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
            if select.projection.iter().take(index + 1).any(wildcard) {
                return unknown;
            }
            match select.projection.get(index) {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr,
                _ => return unknown,
            }
        }
        SetExpr::Values(values) => {
            let column = || values.rows.iter().filter_map(|row| row.content.get(index));
            match column().find(|expr| !matches!(expr, ast::Expr::Value(_))).or_else(|| column().next()) {
                Some(expr) => expr,
                None => return unknown,
            }
        }
        _ => return unknown,
    };
    (crate::script::location(expr.span().start).or(Some(query.start)), Some(expr.to_string()))
}

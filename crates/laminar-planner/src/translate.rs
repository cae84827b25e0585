//! DataFusion's errors in our words: our codes, SQL's type names, the place from its diagnostics.

use datafusion::common::{DataFusionError, Diagnostic, SchemaError, Spans};
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Location};
use laminar_engine::operators::evaluation_error;

use crate::known::{known, no_function, wrong_call};

/// What the message of an unknown column begins with; its name follows.
pub(crate) const NO_COLUMN: &str = "there is no column ";

/// An error of planning or running a query as a user may see it.
pub fn translate(error: DataFusionError) -> Error {
    let at = place(&error);
    let error = unplaced(error);
    error.at(at)
}

/// The place that the outermost diagnostic knows.
fn place(error: &DataFusionError) -> Option<Location> {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => span_of(diagnostic).or_else(|| place(inner)),
        DataFusionError::Context(_, inner) => place(inner),
        DataFusionError::Collection(errors) => errors.first().and_then(place),
        DataFusionError::Shared(inner) => place(inner),
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, .. } | SchemaError::AmbiguousReference { field } => {
                first(field.spans())
            }
            _ => None,
        },
        _ => None,
    }
}

fn span_of(diagnostic: &Diagnostic) -> Option<Location> {
    diagnostic.span.map(|span| Location { line: span.start.line, column: span.start.column }).filter(|at| at.line > 0)
}

fn first(spans: &Spans) -> Option<Location> {
    spans.first().map(|span| Location { line: span.start.line, column: span.start.column }).filter(|at| at.line > 0)
}

fn unplaced(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => unplaced(*inner),
        DataFusionError::Collection(errors) => {
            errors.into_iter().next().map_or_else(|| Error::internal("an error without a cause"), unplaced)
        }
        DataFusionError::Shared(inner) => shared(&inner),
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::new(Code::InvalidValue, clean(&other.to_string())),
        },
        DataFusionError::SchemaError(inner, _) => schema_error(&inner),
        DataFusionError::NotImplemented(message) if message == "TOP" => {
            Error::new(Code::NotSupported, "SELECT TOP is not supported").with_hint("end the query with LIMIT")
        }
        DataFusionError::NotImplemented(message) => not_implemented(&message),
        DataFusionError::Plan(message) => from_text(&message),
        DataFusionError::SQL(error, _) => Error::new(Code::SyntaxError, clean(&error.to_string())),
        DataFusionError::ArrowError(inner, _) => match *inner {
            arrow::error::ArrowError::ExternalError(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => unplaced(*inner),
                Err(other) => Error::new(Code::InvalidValue, clean(&other.to_string())),
            },
            other => evaluation_error(DataFusionError::ArrowError(Box::new(other), None)),
        },
        DataFusionError::Execution(message) => Error::new(Code::InvalidValue, clean(&message)),
        DataFusionError::ResourcesExhausted(message) => out_of_memory(&message),
        DataFusionError::Configuration(message) => Error::new(Code::InvalidRequest, clean(&message)),
        other => {
            let message = other.to_string();
            known(&message).unwrap_or_else(|| Error::internal(clean(&message)))
        }
    }
}

/// What DataFusion has no plan for. Its text may end with the syntax tree.
fn not_implemented(message: &str) -> Error {
    if let Some(error) = known(message) {
        return error;
    }
    let is_tree = ["Span(", " { ", "([", "Ident"].iter().any(|part| message.contains(part));
    match message.split(['{', '(', ':']).next().map(clean) {
        Some(text) if is_tree && !text.contains("ast node") => Error::new(Code::NotSupported, text),
        _ if is_tree => Error::new(Code::NotSupported, "this kind of expression is not supported"),
        _ => Error::new(Code::NotSupported, clean(message)),
    }
}

/// What all that wait for one input of a join are told.
fn shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => out_of_memory(message),
        DataFusionError::External(inner) if let Some(ours) = inner.downcast_ref::<Error>() => ours.clone(),
        _ => from_text(&error.to_string()),
    }
}

fn out_of_memory(message: &str) -> Error {
    Error::new(Code::LimitExceeded, "the query needs more memory than one-off queries may take")
        .with_detail(clean(&message.replace(" (DiskManager is disabled)", "")))
        .with_hint("let it gather fewer rows or columns, or start the server with more --query-memory")
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let written = &field.name;
            let message = match &field.relation {
                Some(relation) => format!("{NO_COLUMN}{written} in {}", relation.table()),
                None => format!("{NO_COLUMN}{written}"),
            };
            let error = Error::new(Code::UnknownColumn, message);
            let names: Vec<&str> = valid_fields.iter().map(|f| f.name.as_str()).collect();
            match nearest(written, names.iter().copied()) {
                Some(name) => error.with_hint(format!("did you mean {name}?")),
                None if names.is_empty() => error.with_hint("no column can be named here"),
                None => error.with_hint(format!("columns: {}", shorten(&names))),
            }
        }
        // qualified: an output column of this name beside an input's
        SchemaError::AmbiguousReference { field } if field.relation.is_some() => duplicate(&field.name),
        SchemaError::AmbiguousReference { field } => {
            Error::new(Code::AmbiguousColumn, format!("more than one relation has a column {}", field.name))
                .with_hint(format!("write table.{}", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            duplicate(name)
        }
    }
}

fn duplicate(name: &str) -> Error {
    Error::new(Code::DuplicateColumn, format!("two columns have the name {name}")).with_hint("name one of them with AS")
}

fn shorten(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// The kinds of planning errors, told by their text: DataFusion has no codes.
fn from_text(message: &str) -> Error {
    if let Some(error) = known(message).or_else(|| wrong_call(message)) {
        return error;
    }
    let text = clean(message);
    if let Some(name) = between(message, "Invalid function '", "'") {
        let error = no_function(&name);
        let suggested = between(message, "Did you mean '", "'").filter(|s| nearest(&name, [s.as_str()]).is_some());
        return match suggested {
            _ if error.hint().is_some() => error,
            Some(other) => error.with_hint(format!("did you mean {other}?")),
            None => error.with_hint("SHOW FUNCTIONS lists all functions"),
        };
    }
    if message.contains("must be part of an aggregate function") {
        let column = between(&text, "column '", "' must appear").unwrap_or_default();
        let column = column.rsplit_once('.').map_or(column.as_str(), |(_, column)| column);
        return Error::new(
            Code::InvalidRequest,
            format!("column {column} is neither grouped nor in an aggregate function"),
        )
        .with_hint(format!("GROUP BY {column}, with the others if there are some; or take one value: min({column})"));
    }
    if let Some((_, found)) = text.split_once("non-boolean predicate ") {
        let found = found.rsplit_once(" returning ").map_or(found, |(_, data_type)| data_type);
        return Error::new(Code::TypeMismatch, format!("the condition is {found}, not BOOLEAN"))
            .with_hint("compare it with something: … <> 0, … = 'text', … IS NOT NULL");
    }
    let operation = between(&text, "coerce arithmetic expression ", " to valid types").or_else(|| {
        text.split_once("common argument type for comparison operation ").map(|(_, operation)| operation.to_string())
    });
    let operation = operation.or_else(|| between(&text, "result type for temporal operation ", ":"));
    if let Some(operation) = operation {
        return Error::new(Code::TypeMismatch, format!("there is no operator {operation}"))
            .with_hint("cast one side: CAST(… AS type), or …::type");
    }
    let has = |part: &str| message.contains(part);
    let code = if has("Projections require unique expression names") {
        let position = |text: &str| text.split(' ').next().and_then(|n| n.parse::<usize>().ok()).map_or(0, |n| n + 1);
        let mut positions = message.split("at position ").skip(1).map(position);
        let (first, second) = (positions.next().unwrap_or_default(), positions.next().unwrap_or_default());
        let text = format!("columns {first} and {second} of the query have the same name");
        return Error::new(Code::DuplicateColumn, text).with_hint("name one of them with AS");
    } else if has("No function matches")
        || has("signature")
        || has("expects")
        || has("coercion failed")
        || has("argument")
    {
        Code::WrongArguments
    } else if has("coerce")
        || has("type")
        || has("must return BOOLEAN")
        || has("Unsupported CAST")
        || has("Cannot cast")
    {
        Code::TypeMismatch
    } else if has("have different number of columns") || has("same number of columns") {
        Code::ColumnCount
    } else if has("not found") && has("table") {
        Code::UnknownTable
    } else {
        Code::InvalidRequest
    };
    Error::new(code, text)
}

pub(crate) fn between(text: &str, open: &str, close: &str) -> Option<String> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0.to_string())
}

/// DataFusion's text as a message of ours: one sentence, SQL's type names, no advice about its own code.
pub(crate) fn clean(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or_default();
    let message = message.split("This issue was likely caused by").next().unwrap_or_default();
    let message = message.split("Candidate functions:").next().unwrap_or_default();
    let message = message.split(". No function matches the given name").next().unwrap_or_default();
    let mut text = message.trim();
    for prefix in [
        "Error during planning: ",
        "Internal error: ",
        "Execution error: ",
        "type_coercion\ncaused by\n",
        "External error: ",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = sql_type_names(&one_line);
    for (theirs, ours) in [("DataFusion", "Laminar"), ("`", "'"), ("\"", "'")] {
        out = out.replace(theirs, ours);
    }
    let out = out.trim_end_matches(['.', ' ', ';']);
    let mut chars = out.chars();
    match chars.next() {
        Some(first) if !chars.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => out.to_string(),
    }
}

/// Arrow's names of types as SQL's.
pub(crate) fn sql_type_names(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("Timestamp(Nanosecond, None)", "TIMESTAMP"),
        ("Timestamp(Microsecond, None)", "TIMESTAMP"),
        ("Timestamp(ns)", "TIMESTAMP"),
        ("Timestamp(µs)", "TIMESTAMP"),
        ("Timestamp(us)", "TIMESTAMP"),
        ("Interval(MonthDayNano)", "INTERVAL"),
        ("LargeUtf8", "TEXT"),
        ("Utf8View", "TEXT"),
        ("Utf8", "TEXT"),
        ("UInt8", "TINYINT UNSIGNED"),
        ("UInt16", "SMALLINT UNSIGNED"),
        ("UInt32", "INT UNSIGNED"),
        ("UInt64", "BIGINT UNSIGNED"),
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("Float32", "REAL"),
        ("Float64", "DOUBLE"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Binary", "BYTEA"),
    ];
    NAMES.iter().fold(text.to_string(), |text, (arrow, sql)| text.replace(arrow, sql))
}

//! A `.proto` file from a table's columns, for a sink that is given none.
//!
//! Field numbers are the columns' places, so columns may be added at the end. A column that may be NULL is `optional`.

use std::fmt::Write;

use arrow::datatypes::{DataType, Field};
use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error, Result};

use crate::columns::map_fields;

/// The text of a file with one message for the columns, called `name`, which may have a package, or else after the table.
///
/// Errors: `not_supported` for a column that has no Protobuf form, `invalid_option` for a name that Protobuf does not allow.
pub(super) fn schema_of(columns: &[Field], name: Option<&str>, table: &str) -> Result<String> {
    let table_name = camel_case(table);
    let full = name.unwrap_or(&table_name);
    if !full.split('.').all(is_identifier) {
        let text = format!("a Protobuf message cannot be called {full}");
        return Err(Error::new(Code::InvalidOption, text).with_field("protobuf.message"));
    }
    let (package, name) = full.rsplit_once('.').map_or((None, full), |(package, name)| (Some(package), name));
    let mut body = String::new();
    write_message(name, columns, 0, &mut body)?;
    let mut text = String::from("syntax = \"proto3\";\n");
    if let Some(package) = package {
        let _ = writeln!(text, "package {package};");
    }
    for import in ["timestamp", "duration"] {
        if body.contains(&format!("google.protobuf.{}", camel_case(import))) {
            let _ = writeln!(text, "import \"google/protobuf/{import}.proto\";");
        }
    }
    Ok(text + "\n" + &body)
}

fn write_message(name: &str, columns: &[Field], depth: usize, out: &mut String) -> Result<()> {
    let indent = "  ".repeat(depth);
    let _ = writeln!(out, "{indent}message {name} {{");
    for (at, column) in columns.iter().enumerate() {
        if !is_identifier(column.name()) {
            let text = format!(
                "column {} cannot be a Protobuf field: its name may have letters, digits and _ only",
                column.name()
            );
            return Err(Error::new(Code::NotSupported, text).with_field(column.name()));
        }
        let inner = camel_case(column.name()) + "_";
        let (label, kind) = match column.data_type() {
            DataType::List(item) => ("repeated ", one(column, item, &inner, depth, out)?),
            DataType::Map(entries, _) => {
                let Some((key, value)) = map_fields(entries) else { return Err(no_form(column)) };
                let key = match key.data_type() {
                    DataType::Utf8 | DataType::Boolean => scalar(key).ok_or_else(|| no_form(column))?,
                    other if other.is_integer() => scalar(key).ok_or_else(|| no_form(column))?,
                    _ => return Err(no_form(column)),
                };
                ("", format!("map<{key}, {}>", one(column, value, &inner, depth, out)?))
            }
            DataType::Struct(_) => ("", one(column, column, &inner, depth, out)?),
            _ if column.is_nullable() => ("optional ", one(column, column, &inner, depth, out)?),
            _ => ("", one(column, column, &inner, depth, out)?),
        };
        let _ = writeln!(out, "{indent}  {label}{kind} {} = {};", column.name(), at + 1);
    }
    let _ = writeln!(out, "{indent}}}");
    Ok(())
}

/// The type of one value; a STRUCT's message is declared before.
fn one(column: &Field, value: &Field, message: &str, depth: usize, out: &mut String) -> Result<String> {
    if let DataType::Struct(fields) = value.data_type() {
        let fields: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
        write_message(message, &fields, depth + 1, out)?;
        return Ok(message.to_string());
    }
    scalar(value).map(str::to_string).ok_or_else(|| no_form(column))
}

fn scalar(field: &Field) -> Option<&'static str> {
    Some(match field.data_type() {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        // Decimals, dates and times have no type of their own; text loses nothing.
        DataType::Utf8 | DataType::Decimal128(..) | DataType::Date32 | DataType::Time64(_) => "string",
        DataType::Binary => "bytes",
        DataType::Timestamp(..) => "google.protobuf.Timestamp",
        DataType::Interval(_) => "google.protobuf.Duration",
        _ => return None,
    })
}

#[cold]
fn no_form(column: &Field) -> Error {
    let text = format!("column {} of type {} has no Protobuf form", column.name(), sql_name(column.data_type()));
    Error::new(Code::NotSupported, text).with_field(column.name())
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `order_lines` is `OrderLines`; what is no letter or digit is left out.
fn camel_case(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    let name: String = words.map(capital).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("M{name}") }
}

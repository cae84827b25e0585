//! Texts with placeholders, filled from each row: `device-${.clientid}`, `v = ${.value}`, `${.}`.
//!
//! ```text
//!  ${.a}    what column a has       ${.a.b}  field b of it: of a struct, a map or JSON       ${.}  the row as JSON
//!  ${a}     the same as ${.a}       ${$}     a dollar sign
//! ```
//!
//! The rules are those of EMQX's bridges: what is null or absent is empty text, text stands as it is, anything else as JSON
//! has it. A column that the table does not have is refused when the table is created.
//!
//! A batch is rendered column by column: each placeholder becomes one array first, then the rows are put together. Only
//! fields inside JSON text are looked for row by row.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::options::nearest;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Changes, Code, Error, Result};
use laminar_formats::FormatOptions;
use serde_json::Value;

/// A template that fits its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The whole row.
    Row,
    Field {
        column: usize,
        path: Vec<String>,
    },
}

impl Template {
    /// `option` is where the text was written, for messages.
    ///
    /// Errors: `invalid_option`, `unknown_column`.
    pub fn parse(text: &str, table: &TableSpec, option: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inside, behind)) = after.split_once('}') else {
                let what = format!("option {option} of connector kafka cannot be '{text}'");
                return Err(Error::new(Code::InvalidOption, what)
                    .with_detail("a placeholder that begins with ${ does not end")
                    .with_hint("write ${.column}, or ${$} for a dollar sign")
                    .with_field(option));
            };
            push_text(&mut parts, before);
            match inside.trim() {
                "." => parts.push(Part::Row),
                "$" => push_text(&mut parts, "$"),
                name => parts.push(field(name.strip_prefix('.').unwrap_or(name), table, option)?),
            }
            rest = behind;
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_string())),
    }
}

fn field(written: &str, table: &TableSpec, option: &str) -> Result<Part> {
    if let Some(column) = column_index(written, table) {
        return Ok(Part::Field { column, path: Vec::new() });
    }
    let (name, path) = written.split_once('.').unwrap_or((written, ""));
    let Some(column) = column_index(name, table) else { return Err(unknown_column(name, table, option)) };
    Ok(Part::Field { column, path: path.split('.').map(str::to_string).collect() })
}

/// The column of that name; in any case where none has it exactly.
pub(crate) fn column_index(name: &str, table: &TableSpec) -> Option<usize> {
    let columns = &table.columns;
    let exact = columns.iter().position(|c| c.name == name);
    exact.or_else(|| columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
}

/// The error for an option that names a column the table does not have.
pub(crate) fn unknown_column(name: &str, table: &TableSpec, option: &str) -> Error {
    let names = table.columns.iter().map(|c| c.name.as_str());
    let error =
        Error::new(Code::UnknownColumn, format!("table {} has no column {name}", table.name)).with_field(option);
    match nearest(name, names) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// Renders a template for one batch after another.
pub(crate) struct Renderer {
    parts: Vec<RenderPart>,
    /// Of whole rows, as JSON; its columns among the table's.
    row: Option<(Box<dyn Encoder>, Vec<usize>)>,
}

#[allow(clippy::large_enum_variant)] // one a placeholder and sink
enum RenderPart {
    Text(String),
    Row,
    /// `rest`: of the path, behind structs.
    Field {
        column: usize,
        rest: Vec<String>,
        json: JsonOf,
    },
}

impl Renderer {
    /// `value` is the table of the columns that are part of the value, at `columns` among those of `table`.
    pub fn new(
        template: &Template,
        table: &TableSpec,
        value: &TableSpec,
        columns: &[usize],
        options: &FormatOptions,
    ) -> Result<Self> {
        let json = FormatOptions { timestamp_format: options.timestamp_format, ..FormatOptions::default() };
        let part = |part: &Part| -> Result<RenderPart> {
            Ok(match part {
                Part::Text(text) => RenderPart::Text(text.clone()),
                Part::Row => RenderPart::Row,
                Part::Field { column, path } => {
                    let Some(of) = table.columns.get(*column) else { return Err(gone()) };
                    let (leaf, rest) = leaf_of(of, path);
                    RenderPart::Field { column: *column, rest, json: JsonOf::new(leaf, path, &json) }
                }
            })
        };
        let row = match template.parts.contains(&Part::Row) {
            true => Some((laminar_formats::encoder(&json, value)?, columns.to_vec())),
            false => None,
        };
        Ok(Self { parts: template.parts.iter().map(part).collect::<Result<_>>()?, row })
    }

    /// Appends one text a row to `out`, whatever the change does with the row.
    pub fn render(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        let mut rows = EncodedValues::default();
        if let Some((encoder, columns)) = &mut self.row {
            let value = Changes::inserts(changes.rows().project(columns)?, changes.times().clone())?;
            encoder.encode(&value, &mut rows)?;
        }
        let mut filled = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            filled.push(match part {
                RenderPart::Text(text) => Filled::Same(text.as_bytes()),
                RenderPart::Row => Filled::Encoded(&rows),
                RenderPart::Field { column, rest, json } => {
                    let column = changes.rows().columns().get(*column).ok_or_else(gone)?;
                    fill(column, rest, json, changes)?
                }
            });
        }
        for row in 0..changes.num_rows() {
            filled.iter().for_each(|part| part.append(row, &mut out.bytes));
            out.end_value();
        }
        Ok(())
    }
}

fn gone() -> Error {
    Error::internal("a column of a template is missing")
}

/// The column that a path ends in, going through structs, and what is left of the path.
fn leaf_of(column: &Column, path: &[String]) -> (Column, Vec<String>) {
    let mut leaf = column.clone();
    let mut rest = path;
    while let (DataType::Struct(fields), [name, more @ ..]) = (&leaf.data_type, rest) {
        let Some(field) = fields.iter().find(|f| f.name() == name) else { break };
        leaf = Column { data_type: field.data_type().clone(), json: false, nullable: true, ..leaf };
        rest = more;
    }
    (leaf, rest.to_vec())
}

/// Follows `path` through structs as [`leaf_of`] does: a child of a null is null.
fn descend(column: &ArrayRef, path: &[String], rest: &[String]) -> Result<ArrayRef> {
    let mut array = ArrayRef::clone(column);
    for name in path.iter().take(path.len().saturating_sub(rest.len())) {
        let parent: &StructArray = array.as_struct_opt().ok_or_else(gone)?;
        let child = parent.column_by_name(name).ok_or_else(gone)?;
        let nulls = NullBuffer::union(parent.nulls(), child.nulls());
        array = make_array(child.to_data().into_builder().nulls(nulls).build()?);
    }
    Ok(array)
}

/// One placeholder's texts for a batch.
enum Filled<'a> {
    Same(&'a [u8]),
    Encoded(&'a EncodedValues),
    Text(StringArray),
    Bytes(BinaryArray),
    Made(EncodedValues),
}

impl Filled<'_> {
    fn append(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Same(text) => out.extend_from_slice(text),
            Self::Encoded(texts) => out.extend_from_slice(texts.get(row)),
            Self::Made(texts) => out.extend_from_slice(texts.get(row)),
            Self::Text(texts) if texts.is_valid(row) => out.extend_from_slice(texts.value(row).as_bytes()),
            Self::Bytes(texts) if texts.is_valid(row) => out.extend_from_slice(texts.value(row)),
            Self::Text(_) | Self::Bytes(_) => {}
        }
    }
}

fn fill<'a>(column: &ArrayRef, rest: &[String], json: &mut JsonOf, changes: &Changes) -> Result<Filled<'a>> {
    let array = descend(column, &json.path, rest)?;
    let plain = rest.is_empty();
    Ok(match array.data_type() {
        DataType::Utf8 if plain => Filled::Text(array.as_string::<i32>().clone()),
        DataType::Binary if plain => Filled::Bytes(array.as_binary::<i32>().clone()),
        data_type if plain && (data_type.is_integer() || *data_type == DataType::Boolean) => {
            Filled::Text(cast(&array, &DataType::Utf8)?.as_string::<i32>().clone())
        }
        DataType::Utf8 => Filled::Made(parsed(array.as_string::<i32>(), rest)),
        _ => Filled::Made(json.render(&array, rest, changes)?),
    })
}

/// Fields inside texts that hold JSON.
fn parsed(texts: &StringArray, path: &[String]) -> EncodedValues {
    let mut out = EncodedValues::default();
    for text in texts {
        if let Some(Ok(value)) = text.map(serde_json::from_str::<Value>) {
            append_part(&value, path, &mut out.bytes);
        }
        out.end_value();
    }
    out
}

fn append_part(value: &Value, path: &[String], out: &mut Vec<u8>) {
    let part = path.iter().try_fold(value, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    });
    match part {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        Some(other) => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

/// Values of one column as JSON has them, without the quotes of a text.
struct JsonOf {
    /// From the table's column on.
    path: Vec<String>,
    leaf: Column,
    options: FormatOptions,
    encoder: Option<Box<dyn Encoder>>,
}

impl JsonOf {
    fn new(leaf: Column, path: &[String], options: &FormatOptions) -> Self {
        Self { path: path.to_vec(), leaf, options: options.clone(), encoder: None }
    }

    fn render(&mut self, array: &ArrayRef, path: &[String], changes: &Changes) -> Result<EncodedValues> {
        const NAME: &str = "v";
        let column = Column { name: NAME.into(), nullable: true, metadata: None, ..self.leaf.clone() };
        let table = TableSpec {
            name: NAME.into(),
            columns: vec![column],
            projection: vec![0],
            event_time: None,
            primary_key: Vec::new(),
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(laminar_formats::encoder(&self.options, &table)?),
        };
        let rows = RecordBatch::try_new(table.schema(), vec![ArrayRef::clone(array)])?;
        let mut objects = EncodedValues::default();
        encoder.encode(&Changes::inserts(rows, changes.times().clone())?, &mut objects)?;
        let mut out = EncodedValues::default();
        for object in objects.iter() {
            // {"v":…}
            let text = object.get("{\"v\":".len()..object.len().saturating_sub(1)).unwrap_or_default();
            let is_plain = path.is_empty() && !text.starts_with(b"\"") && text != b"null";
            if is_plain {
                out.bytes.extend_from_slice(text);
            } else if let Ok(value) = serde_json::from_slice::<Value>(text) {
                append_part(&value, path, &mut out.bytes);
            }
            out.end_value();
        }
        Ok(out)
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;

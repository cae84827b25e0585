//! A schema's text, parsed once, with its named types within reach.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, RecordSchema, ResolvedSchema};
use laminar_core::{Code, Error, Result};

use crate::registry::RegisteredSchema;

/// A longer text is refused: it would only cost time and memory.
const MAX_SCHEMA_BYTES: usize = 1 << 20;
/// More references are refused.
const MAX_REFERENCES: usize = 1000;

/// A parsed schema and those that it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub root: Schema,
    others: Vec<Schema>,
}

impl Parsed {
    /// `of` names the schema in messages. Errors with `invalid_schema`.
    pub fn text(text: &str, of: &str) -> Result<Self> {
        Self::with_references(text, &[], of)
    }

    pub fn registered(schema: &RegisteredSchema) -> Result<Self> {
        let references: Vec<&str> = schema.references.iter().map(|reference| reference.text.as_str()).collect();
        Self::with_references(&schema.text, &references, &format!("schema {} of the registry", schema.id))
    }

    fn with_references(text: &str, references: &[&str], of: &str) -> Result<Self> {
        let invalid = |detail: String| Error::new(Code::InvalidSchema, format!("{of} is not Avro")).with_detail(detail);
        let size: usize = references.iter().map(|text| text.len()).sum::<usize>() + text.len();
        if size > MAX_SCHEMA_BYTES || references.len() > MAX_REFERENCES {
            return Err(invalid(format!("it has {size} bytes and {} references, too many", references.len())));
        }
        let parsed = match references {
            [] => Schema::parse_str(text).map(|root| (root, Vec::new())),
            _ => Schema::parse_str_with_list(text, references),
        };
        let (root, others) = parsed.map_err(|error| invalid(error.to_string()))?;
        Ok(Self { root, others })
    }

    /// The types by their full names.
    pub fn names(&self) -> Result<Names<'_>> {
        let all = self.others.iter().chain([&self.root]).collect();
        let resolved = ResolvedSchema::new_with_schemata(all);
        let resolved = resolved
            .map_err(|error| Error::new(Code::InvalidSchema, "a type is not defined").with_detail(error.to_string()))?;
        Ok(Names(resolved.get_names().clone()))
    }

    /// The full name of the record, of which a subject may be named; empty if it is none.
    pub fn full_name(&self) -> String {
        self.root.name().map(|name| name.fullname(None)).unwrap_or_default()
    }
}

/// Named types.
#[derive(Clone, Debug)]
pub(crate) struct Names<'a>(HashMap<Name, &'a Schema>);

impl<'a> Names<'a> {
    /// What a reference stands for; any other schema is itself.
    pub fn resolve(&self, schema: &'a Schema) -> Option<&'a Schema> {
        match schema {
            Schema::Ref { name } => self.0.get(name).copied(),
            other => Some(other),
        }
    }

    /// The record that this is or may be: a record itself, or the only one of a union.
    pub fn record(&self, schema: &'a Schema) -> Option<&'a RecordSchema> {
        match self.resolve(schema)? {
            Schema::Record(record) => Some(record),
            Schema::Union(union) => {
                let mut records = union.variants().iter().filter_map(|variant| match self.resolve(variant) {
                    Some(Schema::Record(record)) => Some(record),
                    _ => None,
                });
                records.next().filter(|_| records.next().is_none())
            }
            _ => None,
        }
    }

    /// The schema without null, where null is its only alternative.
    pub fn not_null(&self, schema: &'a Schema) -> Option<&'a Schema> {
        match self.resolve(schema)? {
            Schema::Union(union) => {
                let mut others = union.variants().iter().filter(|variant| !matches!(variant, Schema::Null));
                others.next().filter(|_| others.next().is_none()).and_then(|only| self.resolve(only))
            }
            other => Some(other),
        }
    }
}

/// What a type is called in messages.
pub(crate) fn type_name(schema: &Schema) -> String {
    match schema {
        Schema::Null => "null".into(),
        Schema::Boolean => "boolean".into(),
        Schema::Int => "int".into(),
        Schema::Long => "long".into(),
        Schema::Float => "float".into(),
        Schema::Double => "double".into(),
        Schema::Bytes => "bytes".into(),
        Schema::String => "string".into(),
        Schema::Array(_) => "array".into(),
        Schema::Map(_) => "map".into(),
        Schema::Union(_) => "union".into(),
        Schema::Record(record) => format!("record {}", record.name.fullname(None)),
        Schema::Enum(symbols) => format!("enum {}", symbols.name.fullname(None)),
        Schema::Fixed(fixed) => format!("fixed {}", fixed.name.fullname(None)),
        Schema::Decimal(decimal) => format!("decimal({}, {})", decimal.precision, decimal.scale),
        Schema::BigDecimal => "big-decimal".into(),
        Schema::Uuid(_) => "uuid".into(),
        Schema::Date => "date".into(),
        Schema::TimeMillis => "time-millis".into(),
        Schema::TimeMicros => "time-micros".into(),
        Schema::TimestampMillis => "timestamp-millis".into(),
        Schema::TimestampMicros => "timestamp-micros".into(),
        Schema::TimestampNanos => "timestamp-nanos".into(),
        Schema::LocalTimestampMillis => "local-timestamp-millis".into(),
        Schema::LocalTimestampMicros => "local-timestamp-micros".into(),
        Schema::LocalTimestampNanos => "local-timestamp-nanos".into(),
        Schema::Duration(_) => "duration".into(),
        Schema::Ref { name } => name.fullname(None),
    }
}

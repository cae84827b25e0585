//! A writer's schema and a table's columns to the program that reads the one into the other.
//!
//! ```text
//!  column  ◄── field of the writer with its name, exactly, else but for case
//!          ◄── field of the writer that the reader's schema calls by an alias
//!          ◄── default of the reader's schema, else null
//! ```
//!
//! The table is what resolves: a column takes every type of the writer that means something in it, by Avro's promotions and by
//! SQL's (an `int` fills a DECIMAL, a `long` an INT if it fits). The reader's schema only adds aliases and defaults, and may
//! be absent.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, RecordSchema, UuidSchema};
use arrow::datatypes::DataType;
use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error, Result};

use super::columns::{Column, Columns, Slot};
use super::default::encode_default;
use super::program::{Field, Op, Program, Record, Rescale, Wire};
use super::schema::{Names, Parsed, type_name};
use super::skip::{SkipCompiler, least_size};
use super::within;
use crate::columns::Scalar;
use crate::text_column::digits_of;
use crate::times::Scale;

/// What is compiled for: all columns of a table's values, and which of them are read.
pub(super) struct Target<'a> {
    /// Names of all, read or not: a field of another column's exact name is not taken for this one.
    pub all: &'a [String],
    pub columns: &'a Columns,
    /// Decimal digits behind the second that a plain number has in a TIMESTAMP.
    pub digits: u32,
}

/// The program that reads records of `writer`. Errors: `type_mismatch`, `invalid_schema`.
pub(super) fn compile(writer: &Parsed, reader: Option<&Parsed>, target: &Target<'_>) -> Result<Program> {
    let names = writer.names()?;
    let reader_names = reader.map(Parsed::names).transpose()?;
    let reader = reader.zip(reader_names.as_ref()).map(|(reader, names)| (&reader.root, names));
    compile_type(&writer.root, &names, reader, target)
}

/// The same for rows that are a type of the writer's, of the reader's too.
pub(super) fn compile_type<'a>(
    writer: &'a Schema,
    names: &'a Names<'a>,
    reader: Option<(&'a Schema, &'a Names<'a>)>,
    target: &'a Target<'a>,
) -> Result<Program> {
    let mut compiler =
        Compiler { names, target, reader_names: reader.map(|(_, names)| names), skips: SkipCompiler::new(names) };
    let root = compiler.rows(writer, reader.map(|(root, _)| root))?;
    Ok(Program { root, skipper: compiler.skips.finish() })
}

/// Can the writer's schema lack what the table reads, so that a reader's schema must say what stands there?
pub(super) fn lacks_columns(writer: &Parsed, target: &Target<'_>) -> bool {
    let Ok(names) = writer.names() else { return false };
    let Some(record) = names.record(&writer.root) else { return false };
    target.columns.top().iter().filter_map(|slot| target.columns.node(*slot)).any(|node| {
        let field = record.fields.iter().find(|field| field.name.eq_ignore_ascii_case(&node.name));
        // What is nested may lack something too; then it is worth a look.
        field.is_none_or(|_| node.data_type.is_nested())
    })
}

struct Compiler<'a> {
    names: &'a Names<'a>,
    target: &'a Target<'a>,
    reader_names: Option<&'a Names<'a>>,
    skips: SkipCompiler<'a>,
}

impl<'a> Compiler<'a> {
    /// A whole record, or one of several kinds of records.
    fn rows(&mut self, writer: &'a Schema, reader: Option<&'a Schema>) -> Result<Op> {
        match self.resolve(writer)? {
            Schema::Record(record) => {
                let top: Vec<Slot> = self.target.columns.top().to_vec();
                let all = self.target.all;
                self.record(record, reader, None, &top, all)
            }
            Schema::Union(union) => {
                let variant = |compiler: &mut Self, variant: &'a Schema| match variant {
                    Schema::Null => Ok(Op::Refuse("the record is null".into())),
                    variant => compiler.rows(variant, reader),
                };
                Ok(Op::Union(union.variants().iter().map(|v| variant(self, v)).collect::<Result<_>>()?))
            }
            other => match (self.target.all, self.target.columns.top()) {
                ([_], [slot]) => self.value(other, reader, *slot),
                ([_], []) => Ok(Op::Skip(self.skips.skip(other))),
                _ => Err(Error::new(
                    Code::TypeMismatch,
                    format!("an Avro {} has no fields, so it fills a table of one column", type_name(other)),
                )),
            },
        }
    }

    /// `slots` are the columns that are read, `all` the names of those that there are.
    fn record(
        &mut self,
        writer: &'a RecordSchema,
        reader: Option<&'a Schema>,
        slot: Option<Slot>,
        slots: &[Slot],
        all: &[String],
    ) -> Result<Op> {
        let reader = reader.zip(self.reader_names).and_then(|(schema, names)| names.record(schema));
        let mut taken: Vec<Option<Slot>> = vec![None; writer.fields.len()];
        let mut absent = Vec::new();
        // Exact names first, so that none is taken by a column that only resembles it.
        for exactly in [true, false] {
            for slot in slots {
                if taken.contains(&Some(*slot)) {
                    continue;
                }
                let name = self.target.columns.node(*slot).map(|node| &*node.name).unwrap_or_default();
                let found = match exactly {
                    true => writer.fields.iter().position(|field| field.name == name),
                    false => find_field(writer, reader, name, all),
                };
                match found.and_then(|index| taken.get_mut(index)) {
                    Some(place @ None) => *place = Some(*slot),
                    _ if !exactly => absent.push(*slot),
                    _ => {}
                }
            }
        }
        let mut fields = Vec::with_capacity(writer.fields.len() + absent.len());
        for (field, slot) in writer.fields.iter().zip(taken) {
            fields.push(match slot {
                None => Field { name: "".into(), op: Op::Skip(self.skips.skip(&field.schema)) },
                Some(slot) => {
                    let node = self.target.columns.node(slot);
                    let name = node.map(|node| node.name.clone()).unwrap_or_default();
                    let reader = reader.and_then(|record| reader_field(record, &name)).map(|field| &field.schema);
                    Field { op: self.value(&field.schema, reader, slot).map_err(|e| within(e, &name))?, name }
                }
            });
        }
        for slot in absent {
            let name = self.target.columns.node(slot).map(|node| node.name.clone()).unwrap_or_default();
            fields.push(Field { op: self.absent(reader, slot, &name).map_err(|e| within(e, &name))?, name });
        }
        Ok(Op::Record(Box::new(Record { slot, fields: fields.into() })))
    }

    /// What stands in a column that the writer's schema does not have.
    fn absent(&mut self, reader: Option<&'a RecordSchema>, slot: Slot, name: &str) -> Result<Op> {
        let field = reader.and_then(|record| reader_field(record, name));
        if let (Some(field), Some(names)) = (field, self.reader_names)
            && let Some(default) = &field.default
        {
            let mut encoded = Vec::new();
            encode_default(&field.schema, names, default, &mut encoded)?;
            // The default is a value of the reader's schema, which is its own writer.
            let mut own = Compiler { names, target: self.target, reader_names: None, skips: SkipCompiler::new(names) };
            let root = own.value(&field.schema, None, slot)?;
            // It names the types that it steps over by their numbers, so it runs with its own.
            let value = Program { root, skipper: own.skips.finish() };
            return Ok(Op::Constant { encoded: encoded.into(), value: Box::new(value) });
        }
        match self.target.columns.node(slot) {
            Some(node) if node.nullable => Ok(Op::Null(slot)),
            _ => Ok(Op::Missing),
        }
    }

    /// One value into one column.
    fn value(&mut self, writer: &'a Schema, reader: Option<&'a Schema>, slot: Slot) -> Result<Op> {
        let writer = self.resolve(writer)?;
        if let Schema::Union(union) = writer {
            return self.union(union.variants(), reader, slot);
        }
        let Some(node) = self.target.columns.node(slot) else {
            return Err(crate::internal("a column is missing"));
        };
        match (writer, &node.column) {
            (Schema::Null, _) => Ok(Op::Null(slot)),
            (Schema::Array(array), Column::List { item, .. }) => {
                let names = self.reader_names;
                let reader = reader.zip(names).and_then(|(schema, names)| names.not_null(schema));
                let items = reader
                    .and_then(|schema| if let Schema::Array(array) = schema { Some(&*array.items) } else { None });
                let least = least_size(&array.items, self.names);
                let item = self.value(&array.items, items, *item)?;
                Ok(Op::Array { slot, item: Box::new(item), least })
            }
            (Schema::Map(map), Column::Map { value, .. }) => {
                let names = self.reader_names;
                let reader = reader.zip(names).and_then(|(schema, names)| names.not_null(schema));
                let values =
                    reader.and_then(|schema| if let Schema::Map(map) = schema { Some(&*map.types) } else { None });
                let value = self.value(&map.types, values, *value)?;
                Ok(Op::Map { slot, value: Box::new(value) })
            }
            (Schema::Record(record), Column::Struct { children, .. }) => {
                let name = |slot: &Slot| self.target.columns.node(*slot).map(|node| node.name.to_string());
                let all: Vec<String> = children.iter().filter_map(name).collect();
                let children = children.clone();
                self.record(record, reader, Some(slot), &children, &all)
            }
            (plain, _) => scalar(plain, slot, self.target).ok_or_else(|| {
                let message =
                    format!("an Avro {} cannot fill a column of type {}", type_name(plain), sql_name(&node.data_type));
                Error::new(Code::TypeMismatch, message)
            }),
        }
    }

    fn union(&mut self, variants: &'a [Schema], reader: Option<&'a Schema>, slot: Slot) -> Result<Op> {
        if let [a, b] = variants {
            let null = i64::from(matches!(b, Schema::Null));
            if matches!(a, Schema::Null) != matches!(b, Schema::Null) {
                let value = self.value(if null == 0 { b } else { a }, reader, slot)?;
                return Ok(Op::Nullable { slot, null, value: Box::new(value) });
            }
        }
        let mut ops = Vec::with_capacity(variants.len());
        let mut first_error = None;
        let mut fits = false;
        for variant in variants {
            ops.push(match self.value(variant, reader, slot) {
                Ok(op) => {
                    fits |= !matches!(variant, Schema::Null);
                    op
                }
                // Only a record that has this branch is bad.
                Err(error) => {
                    let op = Op::Refuse(error.message().into());
                    first_error = first_error.or(Some(error));
                    op
                }
            });
        }
        match first_error {
            Some(error) if !fits => Err(error),
            _ => Ok(Op::Union(ops.into())),
        }
    }

    fn resolve(&self, schema: &'a Schema) -> Result<&'a Schema> {
        self.names
            .resolve(schema)
            .ok_or_else(|| Error::new(Code::InvalidSchema, format!("Avro type {} is not defined", type_name(schema))))
    }
}

/// The operation for a type without parts; `None` if the column cannot be filled with it.
fn scalar(writer: &Schema, slot: Slot, target: &Target<'_>) -> Option<Op> {
    let node = target.columns.node(slot)?;
    let decimal = |from: usize| match &node.data_type {
        DataType::Decimal128(precision, scale) => {
            let (from, to) = (i32::try_from(from).ok()?, i32::from(*scale));
            Some(Rescale { from, to, limit: 10u128.saturating_pow(u32::from(*precision)) })
        }
        _ => None,
    };
    let timestamp = |from: u32| match &node.data_type {
        DataType::Timestamp(unit, _) => Some(Op::Scaled(slot, Scale::digits(from, digits_of(*unit)))),
        DataType::Int64 => Some(Op::Long(slot)),
        _ => None,
    };
    let time = |from: u32| match &node.data_type {
        DataType::Time64(unit) => Some(Op::TimeOfDay(slot, Scale::digits(from, digits_of(*unit)))),
        _ if from == 3 && node.data_type == DataType::Int32 => Some(Op::Integer(slot)),
        DataType::Int64 => Some(Op::Long(slot)),
        _ => None,
    };
    use Scalar as C;
    let Column::Scalar(column) = &node.column else { return None };
    Some(match (writer, column) {
        (Schema::Boolean, C::Boolean(_)) => Op::Boolean(slot),
        (Schema::Int | Schema::Long, C::Int64(_)) => Op::Long(slot),
        (Schema::Int | Schema::Long, C::Int8(_) | C::Int16(_) | C::Int32(_)) => Op::Integer(slot),
        (Schema::Int | Schema::Long, C::UInt8(_) | C::UInt16(_) | C::UInt32(_) | C::UInt64(_)) => Op::Integer(slot),
        (Schema::Int | Schema::Long, C::Float32(_) | C::Float64(_)) => Op::LongAsFloat(slot),
        (Schema::Int | Schema::Long, C::Decimal(_)) => Op::LongAsDecimal(slot, decimal(0)?),
        (Schema::Long, C::Timestamp(_)) => timestamp(target.digits)?,
        (Schema::Float, C::Float32(_) | C::Float64(_)) => Op::Float(slot),
        (Schema::Double, C::Float32(_) | C::Float64(_)) => Op::Double(slot),
        (Schema::String | Schema::Bytes, C::Text(_)) if node.json => Op::Json(slot),
        (Schema::String | Schema::Bytes, C::Text(_)) => Op::Text(slot),
        (Schema::String | Schema::Bytes, C::Binary(_)) => Op::Binary(slot),
        (Schema::Enum(symbols), C::Text(_)) if !node.json => {
            Op::Enum(slot, symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect())
        }
        (Schema::Fixed(fixed), C::Binary(_)) => Op::Fixed(slot, fixed.size),
        (Schema::Decimal(schema), C::Decimal(_)) => {
            let wire = match &schema.inner {
                InnerDecimalSchema::Bytes => Wire::Bytes,
                InnerDecimalSchema::Fixed(fixed) => Wire::Fixed(fixed.size),
            };
            Op::Decimal(slot, wire, decimal(schema.scale)?)
        }
        (Schema::BigDecimal, C::Decimal(_)) => Op::BigDecimal(slot, decimal(0)?.to),
        (Schema::Uuid(UuidSchema::String), C::Text(_)) if !node.json => Op::Text(slot),
        (Schema::Uuid(UuidSchema::Bytes), C::Text(_)) if !node.json => Op::Uuid(slot, Wire::Bytes),
        (Schema::Uuid(UuidSchema::Fixed(fixed)), C::Text(_)) if !node.json => Op::Uuid(slot, Wire::Fixed(fixed.size)),
        (Schema::Uuid(UuidSchema::Bytes), C::Binary(_)) => Op::Binary(slot),
        (Schema::Uuid(UuidSchema::Fixed(fixed)), C::Binary(_)) => Op::Fixed(slot, fixed.size),
        (Schema::Date, C::Date(_)) => Op::Days(slot),
        (Schema::Date, C::Int32(_)) => Op::Integer(slot),
        (Schema::TimeMillis, _) => time(3)?,
        (Schema::TimeMicros, _) => time(6)?,
        (Schema::TimestampMillis | Schema::LocalTimestampMillis, _) => timestamp(3)?,
        (Schema::TimestampMicros | Schema::LocalTimestampMicros, _) => timestamp(6)?,
        (Schema::TimestampNanos | Schema::LocalTimestampNanos, _) => timestamp(9)?,
        (Schema::Duration(fixed), C::Interval(_)) if fixed.size == 12 => Op::Duration(slot),
        (Schema::Duration(fixed), C::Text(_)) if fixed.size == 12 && !node.json => Op::DurationText(slot),
        (Schema::Duration(fixed), C::Binary(_)) => Op::Fixed(slot, fixed.size),
        _ => return None,
    })
}

/// The writer's field for a column that none is named exactly like.
fn find_field(writer: &RecordSchema, reader: Option<&RecordSchema>, name: &str, all: &[String]) -> Option<usize> {
    let position = |name: &str| writer.fields.iter().position(|field| field.name == name);
    let resembling =
        writer.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name) && !all.contains(&field.name));
    let renamed = || {
        let field = reader.and_then(|record| reader_field(record, name))?;
        position(&field.name).or_else(|| field.aliases.iter().find_map(|alias| position(alias)))
    };
    resembling.or_else(renamed)
}

fn reader_field<'a>(record: &'a RecordSchema, name: &str) -> Option<&'a apache_avro::schema::RecordField> {
    let exact = record.fields.iter().find(|field| field.name == name);
    exact.or_else(|| record.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)))
}

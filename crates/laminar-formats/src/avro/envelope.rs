//! `debezium_avro`: one change a record, in the envelope of Debezium; which rows it adds and takes away is as with
//! `debezium_json`.
//!
//! Two passes: one steps over the envelope and notes where its rows stand, one reads those that the change is made of.

use apache_avro::Schema;
use laminar_core::{ChangeKind, Code, Error, Result};

use super::columns::Columns;
use super::compile::{Target, compile_type};
use super::program::{Program, expect_end_of_record};
use super::schema::{Names, Parsed};
use super::skip::{Skip, SkipCompiler, Skipper, no_variant};
use super::wire;
use crate::fault::{Fault, fault};

/// One schema's envelopes to one table's rows.
pub(super) struct Envelope {
    parts: Vec<(Part, Skip)>,
    skipper: Skipper,
    before: Option<Program>,
    after: Program,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Op,
    /// A row image: branch of null and of the row, if it is a union.
    Before(Option<(i64, i64)>),
    After(Option<(i64, i64)>),
    Other,
}

impl Envelope {
    /// Errors: `invalid_schema` if the writer's is no envelope, and those of the row's.
    pub fn compile(writer: &Parsed, reader: Option<&Parsed>, target: &Target<'_>) -> Result<Self> {
        let names = writer.names()?;
        let reader_names = reader.map(Parsed::names).transpose()?;
        let reader = reader.zip(reader_names.as_ref());
        let image = |name: &str| {
            reader.and_then(|(reader, names)| field(names.record(&reader.root)?, name).map(|schema| (schema, names)))
        };
        let not_one = |what: &str| {
            Error::new(Code::InvalidSchema, format!("the schema {} is no envelope of Debezium", writer.full_name()))
                .with_detail(format!("it has no field {what}"))
                .with_hint("for records that are rows use format avro")
        };
        let Some(record) = names.record(&writer.root) else { return Err(not_one("op")) };
        let mut skips = SkipCompiler::new(&names);
        let mut parts = Vec::with_capacity(record.fields.len());
        let (mut before, mut after, mut has_op) = (None, None, false);
        for field in &record.fields {
            let part = match field.name.as_str() {
                "op" if matches!(names.resolve(&field.schema), Some(Schema::String)) => {
                    has_op = true;
                    Part::Op
                }
                "before" => {
                    let (row, branches) =
                        row_of(&field.schema, &names).ok_or_else(|| not_one("before that is a row"))?;
                    before = Some(compile_type(row, &names, image("before"), target)?);
                    Part::Before(branches)
                }
                "after" => {
                    let (row, branches) =
                        row_of(&field.schema, &names).ok_or_else(|| not_one("after that is a row"))?;
                    after = Some(compile_type(row, &names, image("after"), target)?);
                    Part::After(branches)
                }
                _ => Part::Other,
            };
            let skip = match part {
                Part::Before(_) | Part::After(_) => {
                    skips.skip(row_of(&field.schema, &names).map_or(&field.schema, |(row, _)| row))
                }
                _ => skips.skip(&field.schema),
            };
            parts.push((part, skip));
        }
        let after = after.ok_or_else(|| not_one("after"))?;
        if !has_op {
            return Err(not_one("op that is a string"));
        }
        Ok(Self { parts, skipper: skips.finish(), before, after })
    }

    /// Appends the rows of the change whose envelope starts at `at`.
    pub fn rows(&self, bytes: &[u8], at: usize, columns: &mut Columns) -> Result<&'static [ChangeKind], Fault> {
        let (mut next, mut op, mut before, mut after) = (at, None, None, None);
        for (part, skip) in &self.parts {
            match part {
                Part::Op => {
                    let (text, end) = wire::slice(bytes, next)?;
                    (op, next) = (Some((text, next)), end);
                }
                Part::Before(branches) => (before, next) = self.image(*branches, skip, bytes, next)?,
                Part::After(branches) => (after, next) = self.image(*branches, skip, bytes, next)?,
                Part::Other => next = self.skipper.run(skip, bytes, next)?,
            }
        }
        expect_end_of_record(bytes, next)?;
        let before = |op: &str, columns: &mut Columns| match (&self.before, before) {
            (Some(program), Some(at)) => row("before", program, bytes, at, columns),
            _ => {
                let needs = "a row that is updated or deleted must be in it whole";
                let how = "PostgreSQL's REPLICA IDENTITY FULL";
                Err(fault(at, format!("op is {op} and before is missing: {needs}, as with {how}")))
            }
        };
        let after = |op: &str, columns: &mut Columns| match after {
            Some(at) => row("after", &self.after, bytes, at, columns),
            None => Err(fault(at, format!("op is {op} and after is missing"))),
        };
        match op {
            Some((b"c", _)) => after("c", columns).map(|()| [ChangeKind::Insert].as_slice()),
            Some((b"r", _)) => after("r", columns).map(|()| [ChangeKind::Insert].as_slice()),
            Some((b"u", _)) => {
                before("u", columns)?;
                after("u", columns)?;
                Ok(&[ChangeKind::UpdateBefore, ChangeKind::UpdateAfter])
            }
            Some((b"d", _)) => before("d", columns).map(|()| [ChangeKind::Delete].as_slice()),
            Some((other, at)) => {
                let other = String::from_utf8_lossy(other.get(..20).unwrap_or(other));
                Err(fault(at, format!("op is {other}, expected c, r, u or d")))
            }
            None => Err(fault(at, "the envelope has no op")),
        }
    }

    /// Where the row image stands, if there is one, and the index after it.
    fn image(
        &self,
        branches: Option<(i64, i64)>,
        skip: &Skip,
        bytes: &[u8],
        at: usize,
    ) -> Result<(Option<usize>, usize), Fault> {
        let Some((null, row)) = branches else { return Ok((Some(at), self.skipper.run(skip, bytes, at)?)) };
        let (branch, next) = wire::long(bytes, at)?;
        match branch {
            branch if branch == row => Ok((Some(next), self.skipper.run(skip, bytes, next)?)),
            branch if branch == null => Ok((None, next)),
            branch => Err(no_variant(at, branch, 2)),
        }
    }
}

fn row(name: &str, program: &Program, bytes: &[u8], at: usize, columns: &mut Columns) -> Result<(), Fault> {
    program.value(bytes, at, columns).map(|_| columns.end_row()).map_err(|mut fault| {
        fault.message = format!("in {name}: {}", fault.message);
        fault
    })
}

/// The row's type, and the branches of null and of the row where it may be null.
fn row_of<'a>(schema: &'a Schema, names: &Names<'a>) -> Option<(&'a Schema, Option<(i64, i64)>)> {
    match names.resolve(schema)? {
        record @ Schema::Record(_) => Some((record, None)),
        Schema::Union(union) => match union.variants() {
            [Schema::Null, row] => names.resolve(row).map(|row| (row, Some((0, 1)))),
            [row, Schema::Null] => names.resolve(row).map(|row| (row, Some((1, 0)))),
            _ => None,
        },
        _ => None,
    }
    .filter(|(row, _)| matches!(row, Schema::Record(_)))
}

/// The row's type in a reader's envelope.
fn field<'a>(record: &'a apache_avro::schema::RecordSchema, name: &str) -> Option<&'a Schema> {
    record.fields.iter().find(|field| field.name == name).map(|field| &field.schema)
}

/// The row of an envelope's schema, for the columns of a table that lists none.
pub(super) fn row_schema<'a>(root: &'a Schema, names: &Names<'a>) -> Option<&'a Schema> {
    names.not_null(field(names.record(root)?, "after")?)
}

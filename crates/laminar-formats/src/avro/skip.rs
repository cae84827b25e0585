//! Values that nobody reads: stepped over, an array's or map's blocks in one step where the writer says how long they are.
//!
//! Named types are compiled once and refer to each other by number, so a schema that repeats its types, or is recursive, costs
//! no more than its text. How deep a value nests and how often types are entered has a bound for the same reason: see [`Skipper`].

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name, UuidSchema};

use super::schema::Names;
use super::wire;
use crate::fault::{Fault, fault};

/// Types within types deeper than this are not followed, whether they have names or not: each is a step of recursion.
const MAX_DEPTH: usize = 256;

/// How to step over a value.
#[derive(Clone, Debug)]
pub(super) enum Skip {
    Fixed(usize),
    Varint,
    Bytes,
    Sequence(Box<[Skip]>),
    Union(Box<[Skip]>),
    /// With the least size of an item.
    Array(Box<Skip>, usize),
    Map(Box<Skip>),
    Named(usize),
}

/// Steps over the values of one schema.
#[derive(Debug, Default)]
pub(super) struct Skipper {
    named: Vec<Skip>,
}

impl Skipper {
    pub fn run(&self, skip: &Skip, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        // A type that is entered reads a byte at least, or contains one that does, or is empty: this many entries are enough
        // for every record, and what needs more is a schema made to burn time.
        let mut entries = bytes.len().saturating_add(16).saturating_mul(MAX_DEPTH);
        self.step(skip, bytes, at, 0, &mut entries)
    }

    fn step(&self, skip: &Skip, bytes: &[u8], at: usize, depth: usize, entries: &mut usize) -> Result<usize, Fault> {
        let too_deep = || fault(at, format!("the value is nested deeper than {MAX_DEPTH} types"));
        let depth = depth + 1;
        match skip {
            Skip::Sequence(_) | Skip::Union(_) | Skip::Array(..) | Skip::Map(_) | Skip::Named(_)
                if depth > MAX_DEPTH =>
            {
                Err(too_deep())
            }
            Skip::Fixed(0) => Ok(at),
            Skip::Fixed(length) => wire::fixed(bytes, at, *length).map(|(_, end)| end),
            Skip::Varint => wire::long(bytes, at).map(|(_, end)| end),
            Skip::Bytes => wire::slice(bytes, at).map(|(_, end)| end),
            Skip::Sequence(fields) => {
                fields.iter().try_fold(at, |at, field| self.step(field, bytes, at, depth, entries))
            }
            Skip::Union(variants) => {
                let (index, next) = wire::long(bytes, at)?;
                let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
                let variant = variant.ok_or_else(|| no_variant(at, index, variants.len()))?;
                self.step(variant, bytes, next, depth, entries)
            }
            Skip::Array(item, least) => self.blocks(bytes, at, *least, |at| self.step(item, bytes, at, depth, entries)),
            Skip::Map(value) => self.blocks(bytes, at, 1, |at| {
                let (_, at) = wire::slice(bytes, at)?;
                self.step(value, bytes, at, depth, entries)
            }),
            Skip::Named(index) => {
                *entries = entries.checked_sub(1).ok_or_else(too_deep)?;
                self.step(self.named.get(*index).ok_or_else(too_deep)?, bytes, at, depth, entries)
            }
        }
    }

    fn blocks(
        &self,
        bytes: &[u8],
        mut at: usize,
        least: usize,
        mut entry: impl FnMut(usize) -> Result<usize, Fault>,
    ) -> Result<usize, Fault> {
        loop {
            let (block, next) = wire::block(bytes, at, least)?;
            at = match (block.count, block.end) {
                (0, _) => return Ok(next),
                (_, Some(end)) => end,
                (count, None) => {
                    let mut at = next;
                    for _ in 0..count {
                        let end = entry(at)?;
                        // An entry without bytes is of a type without bytes: so are all the others.
                        if end == at {
                            break;
                        }
                        at = end;
                    }
                    at
                }
            };
        }
    }
}

#[cold]
pub(super) fn no_variant(at: usize, index: i64, variants: usize) -> Fault {
    fault(at, format!("the union has {variants} branches, and the value says branch {index}"))
}

/// Compiles the skips of one schema.
pub(super) struct SkipCompiler<'a> {
    names: &'a Names<'a>,
    skipper: Skipper,
    by_name: HashMap<&'a Name, usize>,
    /// Named types met and not compiled yet.
    waiting: Vec<(usize, &'a Schema)>,
}

impl<'a> SkipCompiler<'a> {
    pub fn new(names: &'a Names<'a>) -> Self {
        Self { names, skipper: Skipper::default(), by_name: HashMap::new(), waiting: Vec::new() }
    }

    pub fn skip(&mut self, schema: &'a Schema) -> Skip {
        match schema {
            Schema::Ref { name } => match self.names.resolve(schema) {
                Some(target) => self.named(name, target),
                None => Skip::Union(Box::new([])),
            },
            Schema::Record(record) => self.named(&record.name, schema),
            other => self.plain(other),
        }
    }

    fn named(&mut self, name: &'a Name, target: &'a Schema) -> Skip {
        if !matches!(target, Schema::Record(_)) {
            return self.plain(target);
        }
        let next = self.skipper.named.len();
        let index = *self.by_name.entry(name).or_insert(next);
        if index == next {
            self.skipper.named.push(Skip::Fixed(0));
            self.waiting.push((index, target));
        }
        Skip::Named(index)
    }

    fn plain(&mut self, schema: &'a Schema) -> Skip {
        match schema {
            Schema::Null => Skip::Fixed(0),
            Schema::Boolean => Skip::Fixed(1),
            Schema::Float => Skip::Fixed(4),
            Schema::Double => Skip::Fixed(8),
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                Skip::Fixed(fixed.size)
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Skip::Bytes,
                InnerDecimalSchema::Fixed(fixed) => Skip::Fixed(fixed.size),
            },
            Schema::Bytes | Schema::String | Schema::BigDecimal => Skip::Bytes,
            Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => Skip::Bytes,
            Schema::Array(array) => {
                let item = self.skip(&array.items);
                let least = least_size(&array.items, self.names);
                Skip::Array(Box::new(item), least)
            }
            Schema::Map(map) => Skip::Map(Box::new(self.skip(&map.types))),
            Schema::Union(union) => Skip::Union(union.variants().iter().map(|variant| self.skip(variant)).collect()),
            Schema::Record(record) => {
                Skip::Sequence(record.fields.iter().map(|field| self.skip(&field.schema)).collect())
            }
            Schema::Ref { .. } => self.skip(schema),
            Schema::Int
            | Schema::Long
            | Schema::Enum(_)
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Skip::Varint,
        }
    }

    pub fn finish(mut self) -> Skipper {
        while let Some((index, schema)) = self.waiting.pop() {
            let skip = self.plain(schema);
            if let Some(place) = self.skipper.named.get_mut(index) {
                *place = skip;
            }
        }
        self.skipper
    }
}

/// A lower bound of a value's size: 1 for all that has bytes at all, 0 for what may have none or is too large to tell.
pub(super) fn least_size<'a>(schema: &'a Schema, names: &Names<'a>) -> usize {
    // Records without bytes may multiply; whoever needs more than this gets by without the bound.
    let mut left = 200;
    usize::from(has_bytes(schema, names, &mut left))
}

fn has_bytes<'a>(schema: &'a Schema, names: &Names<'a>, left: &mut usize) -> bool {
    let Some(less) = left.checked_sub(1) else { return false };
    *left = less;
    match names.resolve(schema) {
        None | Some(Schema::Null) => false,
        Some(Schema::Fixed(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Duration(fixed)) => fixed.size > 0,
        Some(Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })) => fixed.size > 0,
        Some(Schema::Record(record)) => record.fields.iter().any(|field| has_bytes(&field.schema, names, left)),
        Some(_) => true,
    }
}

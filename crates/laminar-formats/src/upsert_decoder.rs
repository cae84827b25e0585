//! Records that replace each other: a value is the whole row of its key from then on, and a record without one, a tombstone, takes
//! the row away.
//!
//! ```text
//!  record key   value              change
//!  7            {"id":7,"v":1}     insert (7, 1)      whoever follows knows what was there before
//!  7            {"id":7,"v":2}     insert (7, 2)
//!  7            none               delete (7, NULL)
//! ```
//!
//! The primary key's columns are read as every other: from the value, or from metadata. Of a tombstone they are read from the record's
//! key, which is the column's text or bytes, JSON, or a record whose schema is registered: see `keys`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::source::RawRecord;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{ChangeKind, Changes, Code, Error, Result};

use crate::fault::{Fault, fault_of_record};
use crate::json::JsonDecoder;
use crate::json::scan::{expect_end, skip_space};
use crate::json::skip::skip_value;
use crate::keys::key_decoder;
use crate::options::TimestampFormat;
use crate::raw::RawDecoder;
use crate::record::{Plan, RecordDecoder};
use crate::{FormatContext, KeyForm, internal};

/// Rows of another decoder, one a record, and deletes.
pub(crate) struct UpsertDecoder {
    rows: Box<dyn Decoder>,
    /// Rows of the primary key's columns.
    keys: Box<dyn Decoder>,
    form: Form,
    /// A key is text, whatever it says.
    is_text: bool,
    /// The key in the form that `keys` reads, reused from record to record.
    object: Vec<u8>,
    /// Of each record since the last flush: is it a tombstone?
    tombstones: Vec<bool>,
    /// See [`TableSpec::keys_are_timeless`].
    are_timeless: bool,
    /// Of each column, which one of the key's it is.
    of_key: Vec<Option<usize>>,
    /// Of the rows; all may be NULL.
    schema: SchemaRef,
}

/// How a tombstone's key is written.
enum Form {
    /// The metadata says it all.
    Nothing,
    /// The bytes of one TEXT or BYTEA.
    Bytes,
    /// An object, or another record, of the columns.
    Object,
    /// An object of the one column, or its value.
    Value { column: String },
}

impl UpsertDecoder {
    /// `rows` decodes the projected columns of `table`.
    ///
    /// Errors: `missing_option` without a primary key, `conflicting_options` for a form that the key has not.
    pub fn new(
        rows: Box<dyn Decoder>,
        table: &TableSpec,
        form: Option<KeyForm>,
        format: TimestampFormat,
        ctx: &FormatContext,
    ) -> Result<Self> {
        let columns: Vec<Column> =
            table.columns.iter().filter(|c| table.primary_key.contains(&c.name)).cloned().collect();
        if table.primary_key.is_empty() {
            return Err(Error::new(Code::MissingOption, format!("table {} has no PRIMARY KEY", table.name))
                .with_detail("nothing says which rows replace each other")
                .with_hint("declare PRIMARY KEY (column, …)"));
        }
        if columns.len() < table.primary_key.len() {
            return Err(Error::new(
                Code::NotSupported,
                format!("a column of the primary key of {} is computed", table.name),
            )
            .with_hint("rows that take each other's place have a key that is stored in them"));
        }
        let schema = table.projected_schema();
        let place = |field: &Arc<Field>| columns.iter().position(|column| column.name == *field.name());
        let of_key = schema.fields().iter().map(place).collect::<Vec<_>>();
        if columns.len() > of_key.iter().flatten().count() {
            return Err(internal(format!("a column of the key of {} is not read", table.name)));
        }
        let keys = TableSpec {
            name: table.name.clone(),
            projection: (0..columns.len()).collect(),
            primary_key: Vec::new(),
            event_time: table.event_time.clone().filter(|time| columns.iter().any(|c| c.name == time.column)),
            columns,
        };
        let plan = Plan::new(&keys)?;
        let registered = form.filter(|form| form.is_registered());
        let form = form_of(&plan.value_columns, form)?;
        let is_bytes = matches!(plan.value_columns.as_slice(), [column] if column.data_type == DataType::Binary);
        let keys: Box<dyn Decoder> = match (&form, registered) {
            (Form::Object, Some(registered)) => key_decoder(registered, &keys, ctx)?,
            (Form::Nothing | Form::Bytes, _) => {
                Box::new(RecordDecoder::new(RawDecoder::new(plan.value_columns.clone())?, plan)?)
            }
            (Form::Object | Form::Value { .. }, _) => {
                let values = JsonDecoder::new(&plan.value_columns, &plan.wanted, format)?;
                Box::new(RecordDecoder::new(values, plan)?)
            }
        };
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Ok(Self {
            rows,
            keys,
            is_text: registered.is_none() && !matches!(form, Form::Nothing) && !is_bytes,
            form,
            object: Vec::new(),
            tombstones: Vec::new(),
            are_timeless: table.keys_are_timeless(),
            schema: Arc::new(Schema::new(nullable.collect::<Fields>())),
            of_key,
        })
    }

    fn push_key(&mut self, record: &RawRecord<'_>) -> Result<(), Fault> {
        if matches!(self.form, Form::Nothing) {
            return self.keys.push(record).map_err(Box::new);
        }
        let Some(key) = record.key else {
            return Err(fault_of_record("the record has neither a value nor a key: nothing says which row is gone"));
        };
        if self.is_text && key.first() == Some(&0) {
            return Err(fault_of_record(
                "it begins with a zero byte, as one that is framed with a schema's id, and is read as text",
            ));
        }
        let value = match &self.form {
            Form::Value { column } => as_object(column, key, &mut self.object)?,
            _ => key,
        };
        self.keys.push(&RawRecord { value: Some(value), ..*record }).map_err(Box::new)
    }

    /// The keys as rows whose other columns are NULL.
    fn widened(&self, keys: &Changes) -> Vec<ArrayRef> {
        let column =
            |(field, place): (&Arc<Field>, &Option<usize>)| match place.and_then(|i| keys.rows().columns().get(i)) {
                Some(column) => Arc::clone(column),
                None => new_null_array(field.data_type(), keys.num_rows()),
            };
        self.schema.fields().iter().zip(&self.of_key).map(column).collect()
    }

    fn times_of(&self, keys: &Changes) -> TimestampMicrosecondArray {
        if !self.are_timeless {
            return keys.times().clone();
        }
        let (_, values, _) = keys.times().clone().into_parts();
        let nulls = arrow::buffer::NullBuffer::new_null(values.len());
        TimestampMicrosecondArray::new(values, Some(nulls))
    }

    fn together(&self, rows: &Changes, keys: &Changes, tombstones: &[bool]) -> Result<Changes> {
        let mut next = [0, 0];
        let places: Vec<(usize, usize)> = tombstones
            .iter()
            .map(|gone| {
                let from = usize::from(*gone);
                let at = next.get_mut(from).map_or(0, |next| {
                    *next += 1;
                    *next - 1
                });
                (from, at)
            })
            .collect();
        let widened = self.widened(keys);
        let both = |row: &ArrayRef, key: &ArrayRef| interleave(&[row.as_ref(), key.as_ref()], &places);
        let columns = rows.rows().columns().iter().zip(&widened).map(|(row, key)| both(row, key));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let of_keys = self.times_of(keys);
        let times = interleave(&[rows.times(), &of_keys], &places)?;
        let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned();
        let times = times.ok_or_else(|| internal("event times are none any more"))?;
        let kinds = tombstones.iter().map(|gone| if *gone { ChangeKind::Delete } else { ChangeKind::Insert });
        Changes::new(RecordBatch::try_new(Arc::clone(&self.schema), columns)?, times, Some(kinds.collect()))
    }
}

impl Decoder for UpsertDecoder {
    fn push(&mut self, record: &RawRecord<'_>) -> std::result::Result<(), DecodeError> {
        if record.value.is_some() {
            // A record may be no row, such as a header.
            let before = self.rows.len();
            self.rows.push(record)?;
            self.tombstones.extend(std::iter::repeat_n(false, self.rows.len() - before));
            return Ok(());
        }
        self.push_key(record).map_err(|mut fault| {
            fault.message = format!("in the key: {}", fault.message);
            *fault
        })?;
        self.tombstones.push(true);
        Ok(())
    }

    fn len(&self) -> usize {
        self.tombstones.len()
    }

    fn flush(&mut self) -> Result<Option<Changes>> {
        let tombstones = std::mem::take(&mut self.tombstones);
        Ok(match (self.rows.flush()?, self.keys.flush()?) {
            (None, None) => None,
            (Some(rows), None) => {
                let columns = rows.rows().columns().to_vec();
                let rows_with_nulls = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
                Some(rows.with_rows(rows_with_nulls)?)
            }
            (None, Some(keys)) => {
                let rows = RecordBatch::try_new(Arc::clone(&self.schema), self.widened(&keys))?;
                let kinds = std::iter::repeat_n(ChangeKind::Delete, rows.num_rows()).collect();
                Some(Changes::new(rows, self.times_of(&keys), Some(kinds))?)
            }
            (Some(rows), Some(keys)) => Some(self.together(&rows, &keys, &tombstones)?),
        })
    }
}

fn form_of(columns: &[Column], asked: Option<KeyForm>) -> Result<Form> {
    let conflict = |what: &str, hint: &str| {
        Err(Error::new(Code::ConflictingOptions, what).with_hint(hint).with_field("key.format"))
    };
    if let Some(form) = asked
        && form.is_registered()
        && !columns.is_empty()
    {
        return Ok(Form::Object);
    }
    let [column] = columns else {
        return match (columns, asked) {
            ([], Some(_)) => conflict("key.format is given, and the primary key is metadata", "leave it out"),
            ([], None) => Ok(Form::Nothing),
            (_, Some(KeyForm::Raw)) => {
                conflict("key.format = 'raw' is for a key of one column", "use key.format = 'json'")
            }
            _ => Ok(Form::Object),
        };
    };
    let value = || Form::Value { column: column.name.clone() };
    match (&column.data_type, asked) {
        (DataType::Utf8 | DataType::Binary, None | Some(KeyForm::Raw)) => Ok(Form::Bytes),
        (data_type, Some(KeyForm::Raw)) if !data_type.is_integer() => {
            conflict("key.format = 'raw' is for text, an integer or bytes", "use key.format = 'json'")
        }
        _ => Ok(value()),
    }
}

/// `{"column": key}`, unless it is an object already.
fn as_object<'a>(column: &str, key: &'a [u8], object: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
    let start = skip_space(key, 0);
    if key.get(start) == Some(&b'{') {
        return Ok(key);
    }
    // One value and nothing behind it, so that the object is what it looks like.
    expect_end(key, skip_value(key, start, 0)?)?;
    object.clear();
    object.push(b'{');
    serde_json::to_writer(&mut *object, column).map_err(|error| fault_of_record(error.to_string()))?;
    object.push(b':');
    object.extend_from_slice(key);
    object.push(b'}');
    Ok(object)
}

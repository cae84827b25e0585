//! Which column of a sink's table becomes what of a record.
//!
//! ```text
//!  _kafka_key, _kafka_partition, _kafka_timestamp, _kafka_topic, _kafka_headers   (METADATA FROM 'key' under any name)
//!       │        in format raw also key, partition, timestamp, topic, headers     never part of the value
//!       ▼
//!  key_field, partition_field, timestamp_field, topic_field                       part of the value, but for value.exclude
//! ```
//!
//! The rule that must stay true: what a column says is done or is an error of that row; nothing is put right in silence.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray, TimestampMillisecondArray};
use arrow::compute::{CastOptions, cast, cast_with_options, min};
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMillisecondType};
use laminar_core::options::missing;
use laminar_core::sql_name::sql_name;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Changes, Code, Error, Result};

use super::headers::{self, Headers, RecordHeaders};
use super::key::{KeyColumns, KeyPlan};
use super::options::SinkSettings;
use super::template::{Template, column_index, unknown_column};
use crate::kafka::options::SUBJECT;
use crate::schema_registry::Patience;

/// Prefix of the columns that are never part of the value.
const PREFIX: &str = "_kafka_";

/// Where the parts of a table's records come from.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// The columns that are part of the value, as a table of their own.
    pub value: TableSpec,
    /// Where they are among all; `None`: they are all.
    value_columns: Option<Vec<usize>>,
    pub key: KeyPlan,
    /// Of the value, instead of the format.
    pub template: Option<Template>,
    partition: Option<usize>,
    timestamp: Option<usize>,
    topic: Option<usize>,
    headers: Option<usize>,
}

/// What columns say of a batch's rows; `None` where no column says it.
#[derive(Default)]
pub(crate) struct RowFields {
    pub partitions: Option<Int32Array>,
    /// Milliseconds since 1970.
    pub timestamps: Option<TimestampMillisecondArray>,
    pub topics: Option<StringArray>,
    pub headers: Option<RecordHeaders>,
}

impl Fields {
    /// Errors: `unknown_column`, `type_mismatch`, `conflicting_options`, `missing_option` for a topic that nothing names,
    /// `not_supported`, and those of the format for the columns of the value.
    pub fn new(settings: &SinkSettings, table: &TableSpec) -> Result<Self> {
        let options = &settings.fields;
        let metadata = Metadata::of(settings, table)?;
        let column = |option: &str, name: &Option<String>, metadata: Option<usize>| one(option, name, metadata, table);
        let partition = column("partition_field", &options.partition_field, metadata.partition)?;
        let timestamp = column("timestamp_field", &options.timestamp_field, metadata.timestamp)?;
        let topic = column("topic_field", &options.topic_field, metadata.topic)?;
        if settings.topic.is_none() && topic.is_none() {
            return Err(missing("topic", SUBJECT)
                .with_detail("no column names a row's topic")
                .with_hint("add topic = '…', or topic_field and the name of a column"));
        }
        let is = |index: Option<usize>, what, types, fits: fn(&DataType) -> bool| match at(table, index) {
            Some(column) if !fits(&column.data_type) => Err(wrong_type(column, what, types)),
            _ => Ok(()),
        };
        is(partition, "partition", "an integer", DataType::is_integer)?;
        is(timestamp, "timestamp", "a TIMESTAMP, or an integer of milliseconds", |data_type| {
            data_type.is_integer() || matches!(data_type, DataType::Timestamp(..))
        })?;
        is(topic, "topic", "TEXT", |data_type| *data_type == DataType::Utf8)?;
        if let Some(column) = at(table, metadata.headers) {
            headers::check_column(column)?;
        }
        let template = |option: &str, text: &Option<String>| {
            text.as_deref().map(|text| Template::parse(text, table, option)).transpose()
        };
        let key_template = template("sink.key", &options.key)?;
        let value_template = template("sink.value", &options.value)?;
        let by_default = key_template.is_none();
        let key_field = settings.key_field.as_deref();
        let (format, formats) = (settings.encoding.key_format, settings.formats(Patience::Job)?);
        let columns = KeyColumns::of(key_field, metadata.key, by_default, format, table, &formats)?;
        let key = KeyPlan { columns, format, template: key_template, encoding: settings.encoding.key };

        let excluded = excluded(&options.value_exclude, &metadata.all, table)?;
        let kept: Vec<usize> = (0..table.columns.len()).filter(|index| !excluded.contains(index)).collect();
        let value = value_table(table, &kept)?;
        let value_columns = (kept.len() < table.columns.len()).then_some(kept);
        let fields = Self {
            value,
            value_columns,
            key,
            template: value_template,
            partition,
            timestamp,
            topic,
            headers: metadata.headers,
        };
        fields.check_value(settings, table)?;
        Ok(fields)
    }

    fn check_value(&self, settings: &SinkSettings, table: &TableSpec) -> Result<()> {
        if self.template.is_some() && (settings.format.is_raw() || settings.format.yields_changes()) {
            let what =
                format!("sink.value and format = '{}' both say what the value is", settings.format.format.as_str());
            return Err(Error::new(Code::ConflictingOptions, what)
                .with_hint("leave one of them out")
                .with_field("sink.value"));
        }
        if self.value.columns.is_empty() && self.template.is_none() {
            let what = format!("table {} has no column for the records' values", table.name);
            return Err(Error::new(Code::ColumnCount, what).with_hint("add one, or sink.value"));
        }
        if self.template.is_none() {
            settings.format.check(&self.value)?;
        }
        let key = self.key.columns.indices().iter().filter_map(|index| at(table, Some(*index)));
        settings.encoding.check(&settings.format, &self.value, key.map(|column| &column.data_type))
    }

    /// Changes are written as rows and tombstones under their key: only if that key is the primary one, else a deleted row
    /// would take others with it.
    pub fn upserts(&self, settings: &SinkSettings, table: &TableSpec) -> bool {
        self.template.is_none() && settings.format.upserts(&self.value) && self.key.columns.is_primary(table)
    }

    /// Where the value's columns are in the table.
    pub fn value_indices(&self) -> Vec<usize> {
        self.value_columns.clone().unwrap_or_else(|| (0..self.value.columns.len()).collect())
    }

    /// The changes with the value's columns only; `None`: they have no others.
    pub fn value_of(&self, changes: &Changes) -> Result<Option<Changes>> {
        let Some(columns) = &self.value_columns else { return Ok(None) };
        let rows = changes.rows().project(columns)?;
        Changes::new(rows, changes.times().clone(), changes.kinds().cloned()).map(Some)
    }

    /// Rows may go to other topics than the sink's own.
    pub fn has_topics(&self) -> bool {
        self.topic.is_some()
    }

    /// What columns say of each row.
    ///
    /// Errors: `invalid_value` for a row whose partition, timestamp or headers cannot be.
    pub fn of(&self, changes: &Changes) -> Result<RowFields> {
        let column = |index: Option<usize>| index.and_then(|index| changes.rows().columns().get(index));
        Ok(RowFields {
            partitions: column(self.partition).map(partitions).transpose()?,
            timestamps: column(self.timestamp).map(timestamps).transpose()?,
            topics: column(self.topic).map(texts).transpose()?,
            headers: column(self.headers).map(RecordHeaders::of).transpose()?,
        })
    }
}

fn at(table: &TableSpec, index: Option<usize>) -> Option<&Column> {
    index.and_then(|index| table.columns.get(index))
}

/// The column that an option names, or the one that is there by its name.
fn one(option: &str, name: &Option<String>, metadata: Option<usize>, table: &TableSpec) -> Result<Option<usize>> {
    let Some(name) = name else { return Ok(metadata) };
    if let Some(column) = at(table, metadata) {
        let what = format!("{option} = '{name}' and column {} say the same", column.name);
        let error = Error::new(Code::ConflictingOptions, what);
        return Err(error.with_hint("leave one of them out").with_field(option));
    }
    column_index(name, table).map(Some).ok_or_else(|| unknown_column(name, table, option))
}

fn wrong_type(column: &Column, what: &str, types: &str) -> Error {
    Error::new(Code::TypeMismatch, format!("column {} cannot be the record's {what}", column.name))
        .with_detail(format!("a {what} is {types}, and the column is {}", sql_name(&column.data_type)))
        .with_field(&column.name)
}

fn excluded(names: &[String], metadata: &[usize], table: &TableSpec) -> Result<Vec<usize>> {
    let mut excluded = metadata.to_vec();
    for name in names {
        excluded.push(column_index(name, table).ok_or_else(|| unknown_column(name, table, "value.exclude"))?);
    }
    Ok(excluded)
}

fn value_table(table: &TableSpec, kept: &[usize]) -> Result<TableSpec> {
    let columns: Vec<Column> = kept.iter().filter_map(|index| table.columns.get(*index)).cloned().collect();
    let missing = table.primary_key.iter().find(|key| !columns.iter().any(|column| column.name == **key));
    if let Some(name) = missing {
        let what = format!("column {name} of the primary key is not part of the value");
        return Err(Error::new(Code::ConflictingOptions, what)
            .with_hint("leave PRIMARY KEY out, or keep the column in the value and name it in key_field")
            .with_field(name));
    }
    Ok(TableSpec { projection: (0..columns.len()).collect(), columns, event_time: None, ..table.clone() })
}

/// Columns that say by their name what they are.
#[derive(Default)]
struct Metadata {
    key: Option<usize>,
    partition: Option<usize>,
    timestamp: Option<usize>,
    topic: Option<usize>,
    headers: Option<usize>,
    all: Vec<usize>,
}

impl Metadata {
    fn of(settings: &SinkSettings, table: &TableSpec) -> Result<Self> {
        let mut found = Self::default();
        let bare = settings.format.is_raw() && table.columns.len() > 1;
        for (index, column) in table.columns.iter().enumerate() {
            let by_name = column.name.strip_prefix(PREFIX).or(bare.then_some(column.name.as_str()));
            let Some(key) = column.metadata.as_deref().or(by_name) else { continue };
            let place = match key {
                "key" => &mut found.key,
                "partition" => &mut found.partition,
                "timestamp" => &mut found.timestamp,
                "topic" => &mut found.topic,
                "headers" => &mut found.headers,
                _ if bare && column.metadata.is_none() && !column.name.starts_with(PREFIX) => continue,
                other => return Err(not_written(column, other)),
            };
            if let Some(first) = place.replace(index).and_then(|first| table.columns.get(first)) {
                let what = format!("columns {} and {} are both the record's {key}", first.name, column.name);
                return Err(Error::new(Code::ConflictingOptions, what).with_field(&column.name));
            }
            found.all.push(index);
        }
        Ok(found)
    }
}

fn not_written(column: &Column, key: &str) -> Error {
    Error::new(Code::NotSupported, format!("column {} of a sink table cannot be written: {key}", column.name))
        .with_detail("the broker decides it, or records have no such thing")
        .with_hint(
            "what a record can be given: _kafka_key, _kafka_partition, _kafka_timestamp, _kafka_topic, _kafka_headers",
        )
        .with_field(&column.name)
}

fn partitions(column: &ArrayRef) -> Result<Int32Array> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let partitions = cast_with_options(column, &DataType::Int32, &strict)?.as_primitive::<Int32Type>().clone();
    match min(&partitions) {
        Some(least) if least < 0 => Err(Error::new(Code::InvalidValue, format!("there is no partition {least}"))
            .with_hint("partitions count from 0; null lets the partitioner choose")),
        _ => Ok(partitions),
    }
}

fn timestamps(column: &ArrayRef) -> Result<TimestampMillisecondArray> {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let numbers =
        if column.data_type().is_integer() { cast(column, &DataType::Int64)? } else { ArrayRef::clone(column) };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let timestamps = cast_with_options(&numbers, &millis, &strict)?;
    let timestamps = timestamps.as_primitive::<TimestampMillisecondType>().clone();
    match min(&timestamps) {
        // For librdkafka, 0 means now.
        Some(least) if least <= 0 => Err(Error::new(
            Code::InvalidValue,
            format!("a record cannot have timestamp {least} (milliseconds since 1970)"),
        )
        .with_hint("timestamps are after 1970; null is the time at which the row is written")),
        _ => Ok(timestamps),
    }
}

fn texts(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

impl RowFields {
    /// Records need more than a key, a value and a partition.
    pub fn needs_more(&self) -> bool {
        self.timestamps.is_some() || self.headers.is_some()
    }
    pub fn partition(&self, row: usize) -> Option<i32> {
        let partitions = self.partitions.as_ref()?;
        (row < partitions.len() && partitions.is_valid(row)).then(|| partitions.value(row))
    }
    pub fn timestamp(&self, row: usize) -> Option<i64> {
        let timestamps = self.timestamps.as_ref()?;
        (row < timestamps.len() && timestamps.is_valid(row)).then(|| timestamps.value(row))
    }
    pub fn headers(&self, row: usize) -> Headers<'_> {
        self.headers.as_ref().map_or(Headers::NONE, |headers| headers.get(row))
    }
    pub fn topic(&self, row: usize) -> Option<&str> {
        let topics = self.topics.as_ref()?;
        (row < topics.len() && topics.is_valid(row)).then(|| topics.value(row))
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;

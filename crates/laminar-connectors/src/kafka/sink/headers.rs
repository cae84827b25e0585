//! The headers of a batch's records, from a column: a MAP, or JSON objects.
//!
//! ```text
//!  bytes    traceabc1hopsource       entries  (end of name, end of value, is null)       ends  entries before each row's end
//! ```
//!
//! All names and values lie end to end in one buffer, so a batch costs two allocations, not two a header.

use arrow::array::{Array, ArrayRef, AsArray, MapArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};
use serde_json::Value;

/// Headers of one record after another.
#[derive(Debug, Default)]
pub(crate) struct RecordHeaders {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name_end: usize,
    value_end: usize,
    is_null: bool,
}

/// The headers of one record, in order: name, and value or null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a> {
    all: Option<(&'a RecordHeaders, usize, usize)>,
}

impl<'a> Headers<'a> {
    pub const NONE: Headers<'static> = Headers { all: None };

    pub fn len(&self) -> usize {
        self.all.map_or(0, |(_, start, end)| end - start)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a {
        let all = self.all;
        let range = all.map_or(0..0, |(_, start, end)| start..end);
        range.filter_map(move |index| all.and_then(|(headers, ..)| headers.entry(index)))
    }

    /// Bytes of names and values.
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum()
    }
}

/// Can headers come from the column?
///
/// Errors: `type_mismatch`.
pub(crate) fn check_column(column: &Column) -> Result<()> {
    let fits = match &column.data_type {
        DataType::Utf8 => true,
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match fields.iter().as_slice() {
                [name, value] => {
                    *name.data_type() == DataType::Utf8
                        && matches!(value.data_type(), DataType::Utf8 | DataType::Binary)
                }
                _ => false,
            },
            _ => false,
        },
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(Code::TypeMismatch, format!("column {} cannot be the record's headers", column.name))
        .with_detail("headers are a MAP of TEXT to TEXT or BYTEA, or a JSON object")
        .with_field(&column.name))
}

impl RecordHeaders {
    /// The headers of each row of the column; none where it is null.
    ///
    /// Errors: `invalid_value` for JSON that is not an object.
    pub fn of(column: &ArrayRef) -> Result<Self> {
        let mut headers = Self::default();
        match column.data_type() {
            DataType::Map(..) => headers.take_maps(column.as_map())?,
            _ => {
                for text in cast(column, &DataType::Utf8)?.as_string::<i32>() {
                    if let Some(text) = text {
                        headers.take_object(text)?;
                    }
                    headers.end_record();
                }
            }
        }
        Ok(headers)
    }

    fn take_maps(&mut self, maps: &MapArray) -> Result<()> {
        let names = cast(maps.keys(), &DataType::Binary)?;
        let values = cast(maps.values(), &DataType::Binary)?;
        let (names, values) = (names.as_binary::<i32>(), values.as_binary::<i32>());
        let offsets = maps.value_offsets();
        for row in 0..maps.len() {
            if let (true, Some(start), Some(end)) = (maps.is_valid(row), offsets.get(row), offsets.get(row + 1)) {
                for index in usize::try_from(*start).unwrap_or(0)..usize::try_from(*end).unwrap_or(0) {
                    self.add(names.value(index), values.is_valid(index).then(|| values.value(index)));
                }
            }
            self.end_record();
        }
        Ok(())
    }

    fn take_object(&mut self, text: &str) -> Result<()> {
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(Value::Null) => return Ok(()),
            _ => {
                let shown: String = text.chars().take(40).collect();
                return Err(Error::new(Code::InvalidValue, format!("headers cannot be made of '{shown}'"))
                    .with_hint("headers are a JSON object of name and value, or null"));
            }
        };
        for (name, value) in &object {
            match value {
                Value::Null => self.add(name.as_bytes(), None),
                Value::String(text) => self.add(name.as_bytes(), Some(text.as_bytes())),
                other => self.add(name.as_bytes(), Some(other.to_string().as_bytes())),
            }
        }
        Ok(())
    }

    /// Adds a header to the record that [`Self::end_record`] will end.
    pub fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.entries.push(Entry { name_end, value_end: self.bytes.len(), is_null: value.is_none() });
    }

    pub fn end_record(&mut self) {
        self.ends.push(self.entries.len());
    }

    /// The headers of the record at `row`.
    pub fn get(&self, row: usize) -> Headers<'_> {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        Headers { all: Some((self, start, end)) }
    }

    fn entry(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let start = index.checked_sub(1).and_then(|before| self.entries.get(before)).map_or(0, |e| e.value_end);
        let entry = self.entries.get(index)?;
        let value = self.bytes.get(entry.name_end..entry.value_end)?;
        Some((self.bytes.get(start..entry.name_end)?, (!entry.is_null).then_some(value)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{MapBuilder, StringArray, StringBuilder};

    use super::*;

    #[track_caller]
    fn check(column: ArrayRef, expected: &[&str]) {
        let headers = RecordHeaders::of(&column).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = (0..column.len()).map(|row| {
            let one =
                |(name, value): (&[u8], Option<&[u8]>)| format!("{}={}", text(name), value.map_or("-".into(), text));
            headers.get(row).iter().map(one).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn objects_and_maps_are_headers_in_their_order() {
        let objects = [Some(r#"{"z":"1","a":null,"n":{"x":[1]}}"#), None, Some("{}"), Some(r#"{"b":""}"#)];
        check(Arc::new(StringArray::from(objects.to_vec())), &[r#"z=1 a=- n={"x":[1]}"#, "", "", "b="]);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (name, value) in [("a", Some("1")), ("a", None), ("a", Some(""))] {
            maps.keys().append_value(name);
            maps.values().append_option(value);
        }
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        maps.append(true).unwrap();
        check(Arc::new(maps.finish()), &["a=1 a=- a=", "", ""]);
    }

    #[test]
    fn what_is_no_object_is_an_error_of_the_row() {
        for text in ["[1]", "3", "{", "\"a\""] {
            let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
            assert_eq!(RecordHeaders::of(&column).unwrap_err().code(), Code::InvalidValue, "{text}");
        }
    }
}

//! Columns as text, a whole batch at once: for formats that write a value as text whatever its type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use laminar_core::Result;

use crate::times::{self, Instant, LastDate};

/// Decimal digits behind the second that a unit counts.
pub(crate) fn digits_of(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The values of a TIMESTAMP column, in its unit.
pub(crate) fn timestamps(column: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

/// Times as in ISO 8601, decimals with all their digits, the rest as Arrow shows it. A text of a null means nothing; ask the column.
pub(crate) fn texts(column: &ArrayRef) -> Result<StringArray> {
    let text = |text: times::Text| String::from_utf8_lossy(text.bytes.get(..text.len).unwrap_or_default()).into_owned();
    let strings: ArrayRef = match column.data_type() {
        DataType::Utf8 => Arc::clone(column),
        DataType::Timestamp(unit, _) => {
            let (digits, mut date) = (digits_of(*unit), LastDate::new());
            let values = timestamps(column, *unit);
            let values =
                values.iter().map(|value| text(times::timestamp_text(Instant::from_units(*value, digits), &mut date)));
            Arc::new(StringArray::from_iter_values(values))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().values();
            Arc::new(StringArray::from_iter_values(days.iter().map(|days| text(times::date_text(i64::from(*days))))))
        }
        DataType::Time64(_) => {
            let nanos = cast(column, &DataType::Time64(TimeUnit::Nanosecond))?;
            let nanos = nanos.as_primitive::<Time64NanosecondType>().values().clone();
            let nanos = nanos.iter().map(|nanos| text(times::time_text(Instant::from_units(*nanos, 9))));
            Arc::new(StringArray::from_iter_values(nanos))
        }
        _ => cast(column, &DataType::Utf8)?,
    };
    Ok(strings.as_string::<i32>().clone())
}

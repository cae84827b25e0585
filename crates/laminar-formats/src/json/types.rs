//! Names of types as SQL writes them, and which of them JSON can fill.

use arrow::datatypes::{DataType, TimeUnit};
use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

/// The type as a user wrote it: `BIGINT`, not `Int64`.
pub(crate) fn sql_type(data_type: &DataType) -> String {
    use DataType::*;
    match data_type {
        Boolean => "BOOLEAN".into(),
        Int8 => "TINYINT".into(),
        Int16 => "SMALLINT".into(),
        Int32 => "INT".into(),
        Int64 => "BIGINT".into(),
        UInt8 => "TINYINT UNSIGNED".into(),
        UInt16 => "SMALLINT UNSIGNED".into(),
        UInt32 => "INT UNSIGNED".into(),
        UInt64 => "BIGINT UNSIGNED".into(),
        Float32 => "REAL".into(),
        Float64 => "DOUBLE".into(),
        Utf8 | LargeUtf8 | Utf8View => "TEXT".into(),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => "BYTEA".into(),
        Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        Date32 | Date64 => "DATE".into(),
        Time32(_) | Time64(_) => "TIME".into(),
        Timestamp(_, None) => "TIMESTAMP".into(),
        Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        Interval(_) => "INTERVAL".into(),
        List(item) => format!("{}[]", sql_type(item.data_type())),
        Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Refuses a column that JSON cannot fill.
pub(crate) fn check_column(column: &Column) -> Result<()> {
    check_type(&column.data_type).map_err(|inner| {
        Error::new(Code::NotSupported, format!("column {} cannot be read from JSON", column.name))
            .with_detail(format!("type {} has no JSON form", sql_type(&inner)))
            .with_field(&column.name)
    })
}

/// Errors with the type, or the part of it, that is to blame.
fn check_type(data_type: &DataType) -> Result<(), DataType> {
    use DataType::*;
    match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 => Ok(()),
        Utf8 | Binary | Decimal128(_, _) | Date32 | Timestamp(_, _) => Ok(()),
        Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => Ok(()),
        List(item) => check_type(item.data_type()),
        Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        Map(entries, _) => match entries.data_type() {
            Struct(fields) => match fields.iter().as_slice() {
                [key, value] if *key.data_type() == Utf8 => check_type(value.data_type()),
                _ => Err(data_type.clone()),
            },
            _ => Err(data_type.clone()),
        },
        other => Err(other.clone()),
    }
}

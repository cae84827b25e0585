//! Which types JSON can fill.

use arrow::datatypes::{DataType, TimeUnit};
use laminar_core::sql_name::sql_name;
use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

use crate::columns::text_map_value;

/// Refuses a column that JSON cannot fill.
pub(crate) fn check_column(column: &Column) -> Result<()> {
    check_type(&column.data_type).map_err(|inner| {
        Error::new(Code::NotSupported, format!("column {} cannot be read from JSON", column.name))
            .with_detail(format!("type {} has no JSON form", sql_name(&inner)))
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
        Map(entries, _) => match text_map_value(entries) {
            Some(value) => check_type(value.data_type()),
            None => Err(data_type.clone()),
        },
        other => Err(other.clone()),
    }
}

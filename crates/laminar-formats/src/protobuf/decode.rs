//! One message, one row.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use laminar_core::Result;
use laminar_core::table::Column;
use prost_reflect::MessageDescriptor;

use super::message::MessageReader;
use super::plan;
use super::wire::Wire;
use crate::fault::{Fault, fault_of_record};
use crate::options::TimestampFormat;
use crate::record::ValueDecoder;
use crate::registry::looks_framed;

/// A record's value is one message; its fields fill the columns.
pub(crate) struct ProtobufDecoder {
    reader: MessageReader,
}

impl ProtobufDecoder {
    /// `columns` are all that the table has in its value; `wanted` says which are decoded, in which order.
    ///
    /// Errors: `unknown_column`, `type_mismatch`, `not_supported`, each naming the column.
    pub fn new(
        message: &MessageDescriptor,
        columns: &[Column],
        wanted: &[usize],
        format: TimestampFormat,
    ) -> Result<Self> {
        let fields: Vec<Field> = columns.iter().map(Column::field).collect();
        Ok(Self { reader: plan::reader(message, &fields, wanted, format)? })
    }
}

impl ValueDecoder for ProtobufDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(bytes) = value else { return Err(tombstone()) };
        let rows = self.reader.rows();
        match self.reader.read(Wire::new(bytes)) {
            Ok(()) => Ok(()),
            Err(mut fault) => {
                self.reader.truncate(rows);
                if looks_framed(bytes) {
                    let framed = "it begins like a record whose schema is in a registry";
                    fault.message = fault.message.replace("is this Protobuf?", framed);
                }
                Err(fault)
            }
        }
    }
    fn truncate(&mut self, rows: usize) {
        self.reader.truncate(rows);
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.reader.finish()
    }
}

#[cold]
pub(super) fn tombstone() -> Fault {
    fault_of_record("the record has no value (a tombstone), so it is not Protobuf")
}

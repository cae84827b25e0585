//! Changes to envelopes: one for each change that is left of a batch.
//!
//! Only what the rows say is written, no time and no source, so the same changes are the same bytes.

use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Kinds, Result};

use crate::json::JsonEncoder;
use crate::json::out::Out;
use crate::json::write::write_object;
use crate::net::{Net, net_by_key, net_of_pairs};
use crate::options::FormatOptions;
use crate::upsert::KeyEncoder;

/// Writes one envelope a change. With a primary key, changes of one key in one call become one.
pub(crate) struct DebeziumEncoder {
    json: JsonEncoder,
    keys: Option<KeyEncoder>,
    /// The rows as objects, reused from call to call.
    rows: EncodedValues,
}

impl DebeziumEncoder {
    pub fn new(options: &FormatOptions, table: &TableSpec) -> Result<Self> {
        let keys = (!table.primary_key.is_empty()).then(|| KeyEncoder::new(table)).transpose()?;
        Ok(Self { json: JsonEncoder::new(&table.schema(), options)?, keys, rows: EncodedValues::default() })
    }

    /// Nothing is taken together: straight to the envelopes.
    fn inserts(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        let mut fields = self.json.fields(changes.rows())?;
        let style = self.json.style();
        let mut bytes = Out::new(&mut out.bytes);
        for row in 0..changes.num_rows() {
            bytes.slice(b"{\"before\":null,\"after\":");
            write_object(&mut bytes, &mut fields, row, style);
            bytes.slice(b",\"op\":\"c\"}");
            out.ends.push(bytes.len());
        }
        Ok(())
    }

    fn net(&mut self, changes: &Changes, kinds: &Kinds) -> Result<Vec<Net>> {
        self.rows.clear();
        self.json.write(changes.rows(), &mut self.rows)?;
        match &mut self.keys {
            None => Ok(net_of_pairs(kinds, &self.rows)),
            Some(keys) => Ok(net_by_key(kinds, keys.of(changes.rows())?, &self.rows)),
        }
    }
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        let Some(kinds) = changes.kinds() else { return self.inserts(changes, out) };
        for net in self.net(changes, kinds)? {
            let op = match (net.before, net.after) {
                (_, None) => "d",
                (None, _) => "c",
                _ => "u",
            };
            for (name, row) in [("{\"before\":", net.before), (",\"after\":", net.after)] {
                out.bytes.extend_from_slice(name.as_bytes());
                out.bytes.extend_from_slice(row.map_or(b"null".as_slice(), |row| self.rows.get(row as usize)));
            }
            out.bytes.extend_from_slice(b",\"op\":\"");
            out.bytes.extend_from_slice(op.as_bytes());
            out.bytes.extend_from_slice(b"\"}");
            out.end_value();
            out.rows.extend(net.after.or(net.before));
        }
        Ok(())
    }
}

//! One record between two good ones, whatever its bytes: it panics nowhere, hurts nobody else, and what is read whole is read in
//! part too. The same body runs over random seeds and under cargo-fuzz.

use std::sync::Arc;

use laminar_core::format::Decoder;
use laminar_formats::decoder_with;
use laminar_formats::registry::{RegistryOptions, SchemaKind, avro_columns};

use crate::support::*;

const SCHEMA: &str = r#"{"type":"record","name":"r","fields":[
    {"name":"id","type":"long"},
    {"name":"tags","type":{"type":"array","items":["null","string"]}},
    {"name":"m","type":{"type":"map","values":{"type":"record","name":"i","fields":[
        {"name":"x","type":"int"},{"name":"n","type":"null"},{"name":"f","type":{"type":"fixed","name":"f","size":3}}]}}},
    {"name":"nothing","type":{"type":"array","items":{"type":"record","name":"e","fields":[]}}},
    {"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}]},
    {"name":"t","type":"string"}]}"#;

pub fn decoder(projection: Option<Vec<usize>>) -> Box<dyn Decoder> {
    let registry = Arc::new(Memory::default());
    registry.add("t-value", SchemaKind::Avro, SCHEMA);
    let columns = avro_columns(&SCHEMA.replace(r#"{"name":"n","type":"null"},"#, "")).unwrap();
    let mut table = table(columns);
    table.projection = projection.unwrap_or(table.projection);
    decoder_with(&options(&[]), &table, &registry.context(RegistryOptions::default())).unwrap()
}

pub fn good() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0];
    bytes.extend([14]); // id 7
    bytes.extend([4, 2, 2, b'a', 0, 0]); // tags: "a", null
    bytes.extend([1, 12, 2, b'k', 6, 1, 2, 3, 0]); // m: a block with its length, one entry
    bytes.extend([6, 0]); // nothing: three entries
    bytes.extend([2, 4, 0x04, 0xd2]); // d 1.234
    bytes.extend([4, b'h', b'i']); // t
    bytes
}

/// A table of all columns and one of two, used for record after record.
pub struct Judge {
    decoders: [Box<dyn Decoder>; 2],
}

impl Judge {
    pub fn new() -> Self {
        Self { decoders: [decoder(None), decoder(Some(vec![0, 5]))] }
    }

    /// Was the record good for the first table, and for the second?
    pub fn check(&mut self, bytes: &[u8]) -> (bool, bool) {
        let [whole, part] = self.decoders.each_mut().map(|decoder| {
            push(decoder.as_mut(), Some(&good())).unwrap();
            let ok = push(decoder.as_mut(), Some(bytes)).is_ok();
            push(decoder.as_mut(), Some(&good())).unwrap();
            let rows = rows(decoder.as_mut());
            assert_eq!(rows.num_rows(), 2 + usize::from(ok));
            for row in [0, rows.num_rows() - 1] {
                assert_eq!(cell(&rows, 0, row), "7");
                assert_eq!(cell(&rows, rows.num_columns() - 1, row), "hi");
            }
            ok
        });
        // Damage in a field that is stepped over may pass.
        assert!(part || !whole);
        (whole, part)
    }
}

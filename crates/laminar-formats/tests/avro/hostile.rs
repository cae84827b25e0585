//! Bytes that no writer wrote: nothing panics, nothing is left behind, nothing grows beyond its cause.

use std::sync::Arc;

use laminar_core::format::Decoder;
use laminar_formats::decoder_with;
use laminar_formats::registry::{RegistryOptions, SchemaKind, avro_columns};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::support::*;

const SCHEMA: &str = r#"{"type":"record","name":"r","fields":[
    {"name":"id","type":"long"},
    {"name":"tags","type":{"type":"array","items":["null","string"]}},
    {"name":"m","type":{"type":"map","values":{"type":"record","name":"i","fields":[
        {"name":"x","type":"int"},{"name":"n","type":"null"},{"name":"f","type":{"type":"fixed","name":"f","size":3}}]}}},
    {"name":"nothing","type":{"type":"array","items":{"type":"record","name":"e","fields":[]}}},
    {"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}]},
    {"name":"t","type":"string"}]}"#;

fn decoder(projection: Option<Vec<usize>>) -> Box<dyn Decoder> {
    let registry = Arc::new(Memory::default());
    registry.add("t-value", SchemaKind::Avro, SCHEMA);
    let columns = avro_columns(&SCHEMA.replace(r#"{"name":"n","type":"null"},"#, "")).unwrap();
    let mut table = table(columns);
    table.projection = projection.unwrap_or(table.projection);
    decoder_with(&options(&[]), &table, &registry.context(RegistryOptions::default())).unwrap()
}

fn good() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0];
    bytes.extend([14]); // id 7
    bytes.extend([4, 2, 2, b'a', 0, 0]); // tags: "a", null
    bytes.extend([1, 12, 2, b'k', 6, 1, 2, 3, 0]); // m: a block with its length, one entry
    bytes.extend([6, 0]); // nothing: three entries
    bytes.extend([2, 4, 0x04, 0xd2]); // d 1.234
    bytes.extend([4, b'h', b'i']); // t
    bytes
}

/// Random damage to a good record, by the seed.
fn damaged(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = good();
    for _ in 0..1 + random.next_u32() % 4 {
        let at = random.next_u32() as usize % bytes.len().max(1);
        match random.next_u32() % 4 {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.next_u32() as u8,
            2 => bytes.insert(at.min(bytes.len()), random.next_u32() as u8),
            _ => bytes.extend((0..random.next_u32() % 12).map(|_| random.next_u32() as u8)),
        }
    }
    bytes
}

#[test]
fn the_record_is_good() {
    let mut decoder = decoder(None);
    push(decoder.as_mut(), Some(&good())).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "7|[a, NULL]|{k: {x: 3, f: 010203}}|[{}, {}, {}]|1.234|hi");
}

/// The body of the fuzz target over random seeds, so that it runs where cargo-fuzz does not.
#[test]
fn damage_hurts_nobody_else() {
    let seeds = std::env::var("LAMINAR_FUZZ_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let mut all = decoder(None);
    let mut some = decoder(Some(vec![0, 5]));
    let (mut refused, mut lenient) = (0, 0);
    for seed in 0..seeds {
        let bytes = damaged(seed);
        for decoder in [&mut all, &mut some] {
            push(decoder.as_mut(), Some(&good())).unwrap();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (push(all.as_mut(), Some(&bytes)).is_ok(), push(some.as_mut(), Some(&bytes)).is_ok())
        }));
        let (whole, part) = outcome.unwrap_or_else(|_| panic!("seed {seed}"));
        // What is read whole is read in part too; damage in a field that is stepped over may pass.
        assert!(part || !whole, "seed {seed}");
        refused += usize::from(!whole);
        lenient += usize::from(part && !whole);
        for (decoder, ok) in [(&mut all, whole), (&mut some, part)] {
            push(decoder.as_mut(), Some(&good())).unwrap();
            let rows = rows(decoder.as_mut());
            assert_eq!(rows.num_rows(), 2 + usize::from(ok), "seed {seed}");
            for row in [0, rows.num_rows() - 1] {
                assert_eq!(cell(&rows, 0, row), "7", "seed {seed}");
                assert_eq!(cell(&rows, rows.num_columns() - 1, row), "hi", "seed {seed}");
            }
        }
    }
    assert!(refused > seeds as usize / 4, "{refused} of {seeds} were refused: the damage does not reach");
    assert!(lenient < refused, "{lenient}");
}

#[track_caller]
fn check(body: &[u8], expected: &str) {
    let mut decoder = decoder(None);
    let bytes = [&[0, 0, 0, 0, 0], body].concat();
    let error = push(decoder.as_mut(), Some(&bytes)).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn lengths_that_lie_are_refused_before_anything_grows() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    check(&[&[0], huge.as_slice()].concat(), "does not fit");
    check(&[&[0, 2, 2], huge.as_slice()].concat(), "ends too early");
    check(&[0, 2, 2, 1], "a length is negative");
    // A million entries without bytes.
    check(&[0, 0, 0, 0x80, 0x89, 0x7a, 0], "entries without bytes");
    // The least count is its own opposite.
    let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    check(&[&[0], least.as_slice(), &[0]].concat(), "does not fit");
}

#[test]
fn a_type_in_itself_is_stepped_over_and_not_read_endlessly() {
    let schema = r#"{"type":"record","name":"r","fields":[
        {"name":"next","type":["null","r"]},{"name":"a","type":"long"}]}"#;
    let error = avro_columns(schema).unwrap_err();
    assert_eq!(error.code(), laminar_core::Code::NotSupported);
    assert_eq!(error.field(), Some("next"));
    let mut decoder = plain(vec![column("a", arrow::datatypes::DataType::Int64)], schema).unwrap();
    push(decoder.as_mut(), Some(&[2, 0, 2, 4])).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "2");
    let deep = [vec![2; 100_000], vec![0], vec![2; 100_001]].concat();
    let error = push(decoder.as_mut(), Some(&deep)).unwrap_err();
    assert!(error.message.contains("nested deeper"), "{error}");
}

#[test]
fn a_schema_that_multiplies_costs_no_more_than_its_text() {
    let mut schema = r#"{"type":"record","name":"r0","fields":[]}"#.to_string();
    for at in 1..40 {
        schema = format!(
            r#"{{"type":"record","name":"r{at}","fields":[{{"name":"x","type":{schema}}},{{"name":"y","type":"r{}"}}]}}"#,
            at - 1
        );
    }
    let schema = format!(
        r#"{{"type":"record","name":"top","fields":[{{"name":"a","type":"long"}},{{"name":"b","type":{schema}}}]}}"#
    );
    let mut decoder = plain(vec![column("a", arrow::datatypes::DataType::Int64)], &schema).unwrap();
    let error = push(decoder.as_mut(), Some(&[2])).unwrap_err();
    assert!(error.message.contains("nested deeper"), "{error}");
}

//! Bytes that no writer wrote: nothing panics, nothing is left behind, nothing grows beyond its cause.

use laminar_formats::registry::avro_columns;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::damage::{Judge, decoder, good};
use crate::support::*;

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
    let seeds = std::env::var("LAMINAR_FUZZ_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000);
    let (mut refused, mut lenient) = (0, 0);
    let mut judge = Judge::new();
    for seed in 0..seeds {
        let bytes = damaged(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge.check(&bytes)));
        let (whole, part) = outcome.unwrap_or_else(|_| panic!("seed {seed}"));
        refused += usize::from(!whole);
        lenient += usize::from(part && !whole);
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

/// Types without names nest too: forty arrays in each of sixty records would be 2,400 steps of recursion.
#[test]
fn arrays_in_arrays_in_records_are_not_followed_endlessly() {
    let record = |at: usize| {
        let item = if at == 0 { "\"int\"".to_string() } else { format!("\"r{}\"", at - 1) };
        let arrays = format!("{}{item}{}", r#"{"type":"array","items":"#.repeat(40), "}".repeat(40));
        format!(
            r#"{{"name":"f{at}","type":{{"type":"record","name":"r{at}","fields":[{{"name":"x","type":{arrays}}}]}}}}"#
        )
    };
    let fields: Vec<String> = (0..60).map(record).collect();
    let schema =
        format!(r#"{{"type":"record","name":"top","fields":[{},{{"name":"a","type":"long"}}]}}"#, fields.join(","));
    let mut decoder = plain(vec![column("a", arrow::datatypes::DataType::Int64)], &schema).unwrap();
    push(decoder.as_mut(), Some(&[vec![0; 60], vec![2]].concat())).unwrap();
    let deep = [vec![0; 59], vec![2; 3000]].concat();
    let error = push(decoder.as_mut(), Some(&deep)).unwrap_err();
    assert!(error.message.contains("nested deeper than 256 types"), "{error}");
}

/// Records that each have several fields of the one before: a few KB of text, and fields without end.
fn multiplying(fields: usize, levels: usize) -> String {
    let mut schema = r#"{"type":"record","name":"r0","fields":[]}"#.to_string();
    for at in 1..levels {
        let field = |index: usize| match index {
            0 => format!(r#"{{"name":"f0","type":{schema}}}"#),
            _ => format!(r#"{{"name":"f{index}","type":"r{}"}}"#, at - 1),
        };
        let all: Vec<String> = (0..fields).map(field).collect();
        schema = format!(r#"{{"type":"record","name":"r{at}","fields":[{}]}}"#, all.join(","));
    }
    schema
}

#[test]
fn a_schema_that_multiplies_makes_no_columns_without_end() {
    let error = avro_columns(&multiplying(2, 30)).unwrap_err();
    assert_eq!(error.code(), laminar_core::Code::NotSupported);
    assert!(error.to_string().contains("more than 10000 fields"), "{error}");
    let record = |at: usize| match at {
        0 => r#"{"name":"f0","type":{"type":"record","name":"r0","fields":[{"name":"x","type":"int"}]}}"#.to_string(),
        _ => format!(
            r#"{{"name":"f{at}","type":{{"type":"record","name":"r{at}","fields":[{{"name":"x","type":"r{}"}}]}}}}"#,
            at - 1
        ),
    };
    let chain: Vec<String> = (0..100).map(record).collect();
    let chain = format!(r#"{{"type":"record","name":"top","fields":[{}]}}"#, chain.join(","));
    let error = avro_columns(&chain).unwrap_err();
    assert!(error.to_string().contains("nests deeper than 64 types"), "{error}");
}

/// Whether an item has bytes is asked once, when the schema is read, and the answer is not worth more than a look.
#[test]
fn items_that_multiply_are_not_counted_out() {
    let schema = format!(
        r#"{{"type":"record","name":"top","fields":[{{"name":"b","type":{{"type":"array","items":{}}}}},{{"name":"a","type":"long"}}]}}"#,
        multiplying(30, 12)
    );
    let mut decoder = plain(vec![column("a", arrow::datatypes::DataType::Int64)], &schema).unwrap();
    push(decoder.as_mut(), Some(&[0, 2])).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "1");
}

//! Records that are not what a table reads: at least 200 kinds of each format, made from good ones.
//!
//! What only some format knows as bad, and what all do, stands in `kinds.json`, which `crates/laminar-cli/tests/e2e/poison.py` reads too:
//! each kind is `text`, or bytes in `hex`, or the pieces in `repeat`, each so many times.

use serde_json::Value;

const KINDS: &str = include_str!("kinds.json");

/// A bad record: what it is called, and its bytes; `None` is a tombstone.
pub struct Poison {
    pub name: String,
    pub value: Option<Vec<u8>>,
    /// It is bad for certain, not by the chance of what the damage hits.
    pub sure: bool,
}

/// Every prefix and many damages of `good`, then the kinds of all formats and of this one. A kind that happens to be a good record is
/// for the caller to leave out.
pub fn of(format: &str, good: &[u8]) -> Vec<Poison> {
    let mut all = Vec::new();
    let mut add = |name: String, value: Vec<u8>| all.push(Poison { name, value: Some(value), sure: false });
    for at in 0..good.len() {
        add(format!("truncated at {at}"), good[..at].to_vec());
    }
    for at in 0..good.len() {
        let mut value = good.to_vec();
        value[at] = 0xff;
        add(format!("0xff at {at}"), value);
    }
    for at in 0..good.len() {
        let mut value = good.to_vec();
        value.insert(at, 0);
        add(format!("zero before {at}"), value);
    }
    for at in 0..good.len() {
        let mut value = good.to_vec();
        value[at] ^= 0x80;
        add(format!("top bit of {at}"), value);
    }
    add("twice".into(), [good, good].concat());
    add("behind a byte order mark".into(), [b"\xef\xbb\xbf", good].concat());
    add("behind a frame".into(), [b"\0\0\0\0\x01\0", good].concat());
    let kinds: Vec<Value> = serde_json::from_str(KINDS).unwrap();
    let common = all.len();
    for kind in kinds.iter().filter(|kind| kind["format"].as_str().is_none_or(|of| of == format)) {
        let (name, sure) = (kind["name"].as_str().unwrap().into(), !kind["format"].is_null());
        all.push(Poison { name, value: Some(bytes(kind)), sure });
    }
    assert!(all[common..].iter().any(|kind| kind.sure), "no kinds of {format}");
    all.push(Poison { name: "tombstone".into(), value: None, sure: true });
    all
}

fn bytes(kind: &Value) -> Vec<u8> {
    if let Some(text) = kind["text"].as_str() {
        return text.into();
    }
    match kind["repeat"].as_array() {
        Some(pieces) => pieces
            .iter()
            .flat_map(|piece| hex(&piece[0]).repeat(usize::try_from(piece[1].as_u64().unwrap()).unwrap()))
            .collect(),
        None => hex(&kind["hex"]),
    }
}

fn hex(text: &Value) -> Vec<u8> {
    let digits: Vec<u8> = text.as_str().unwrap().bytes().map(|c| (c as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

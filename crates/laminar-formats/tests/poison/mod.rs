//! Records that are not what a table reads: at least 200 kinds of each format, made from good ones.
//!
//! The Python twin, which produces the same kinds to Kafka, is `crates/laminar-cli/tests/e2e/poison.py`.

/// A bad record: what it is called, and its bytes; `None` is a tombstone.
pub struct Poison {
    pub name: String,
    pub value: Option<Vec<u8>>,
}

/// Every prefix and many damages of `good`, then what only this format knows as bad. A kind that happens to be a good record is for
/// the caller to leave out.
pub fn of(format: &str, good: &[u8]) -> Vec<Poison> {
    let mut all = Vec::new();
    let mut add = |name: String, value: Vec<u8>| all.push(Poison { name, value: Some(value) });
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
    for (name, value) in [
        ("empty", &b""[..]),
        ("space", b" "),
        ("line break", b"\n"),
        ("zero byte", b"\0"),
        ("byte order mark", b"\xef\xbb\xbf"),
        ("UTF-16", b"\xff\xfe{\0}\0"),
        ("null", b"null"),
        ("NaN", b"NaN"),
        ("text", b"poison"),
        ("not UTF-8", b"\xff\xfe\xfd"),
        ("array", b"[1,2]"),
        ("HTML", b"<html></html>"),
        ("magic byte and no id", b"\0\0\0"),
        ("unknown schema id", b"\0\x7f\xff\xff\xff\0"),
    ] {
        add(name.into(), value.to_vec());
    }
    add("twice".into(), [good, good].concat());
    add("behind a byte order mark".into(), [b"\xef\xbb\xbf", good].concat());
    add("behind a frame".into(), [b"\0\0\0\0\x01\0", good].concat());
    add("10 MB of zeros".into(), vec![0; 10 << 20]);
    add("10 MB of braces".into(), vec![b'{'; 10 << 20]);
    add("10 MB of 0xff".into(), vec![0xff; 10 << 20]);
    add("depth 10,000".into(), [b"[".repeat(10_000), b"]".repeat(10_000)].concat());
    add("depth 10,000 of objects".into(), [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat());
    add("depth 10,000 of groups".into(), b"\x0b".repeat(10_000));
    add("a length of 2^64".into(), b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec());
    add("a length of 2^31".into(), b"\x12\xff\xff\xff\xff\x07abc".to_vec());
    add("a varint of 20 bytes".into(), [b"\x08".to_vec(), vec![0xff; 20]].concat());
    let special: &[(&str, &[u8])] = match format {
        "json" => &[
            ("a number that is none", b"{\"id\":NaN,\"name\":\"x\",\"price\":1}"),
            ("overflow", b"{\"id\":9223372036854775808,\"name\":\"x\",\"price\":1}"),
            ("underflow", b"{\"id\":-9223372036854775809,\"name\":\"x\",\"price\":1}"),
            ("a double beyond all", b"{\"id\":1,\"name\":\"x\",\"price\":1e400}"),
            ("fraction", b"{\"id\":1.5,\"name\":\"x\",\"price\":1}"),
            ("text for a number", b"{\"id\":\"one\",\"name\":\"x\",\"price\":1}"),
            ("object for a number", b"{\"id\":{},\"name\":\"x\",\"price\":1}"),
            ("null in NOT NULL", b"{\"id\":null,\"name\":\"x\",\"price\":1}"),
            ("no value for NOT NULL", b"{\"name\":\"x\",\"price\":1}"),
            ("single quotes", b"{'id':1}"),
            ("trailing comma", b"{\"id\":1,}"),
            ("comment", b"{\"id\":1/*c*/}"),
            ("half a surrogate", b"{\"id\":1,\"name\":\"\\ud800\",\"price\":1}"),
            ("control character", b"{\"id\":1,\"name\":\"a\nb\",\"price\":1}"),
            ("leading zero", b"{\"id\":01,\"name\":\"x\",\"price\":1}"),
            ("plus sign", b"{\"id\":+1,\"name\":\"x\",\"price\":1}"),
            ("text behind", b"{\"id\":1,\"name\":\"x\",\"price\":1}x"),
        ],
        "csv" => &[
            ("overflow", b"9223372036854775808,x,1"),
            ("fraction", b"1.5,x,1"),
            ("text for a number", b"one,x,1"),
            ("null in NOT NULL", b",x,1"),
            ("too few", b"1,x"),
            ("too many", b"1,x,1,1"),
            ("quote within", b"1,x\"y,1"),
            ("text behind a quote", b"1,\"x\"y,1"),
            ("open quote", b"1,\"x,1"),
            ("line break", b"1,x\ny,1"),
            ("other delimiter", b"1;x;1"),
        ],
        _ => &[
            ("another wire type", b"\x0a\x01x"),
            ("no such wire type", b"\x0e\x01"),
            ("field 0", b"\x00\x01"),
            ("end of no group", b"\x0c"),
            ("open group", b"\x0b\x08\x01"),
            ("text that is none", b"\x12\x02\xff\xfe"),
            ("a double cut off", b"\x19\0\0\0"),
            ("JSON", b"{\"id\":1}"),
        ],
    };
    for (name, value) in special {
        add((*name).to_string(), value.to_vec());
    }
    all.push(Poison { name: "tombstone".into(), value: None });
    all
}

//! How registries name a schema: a number, or the UUID of a version of it.

use std::fmt;

/// A schema's name in its registry, as it stands in front of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaId {
    /// Of Confluent's protocol.
    Number(u32),
    /// Of AWS Glue: a UUID.
    Version(u128),
}

impl From<u32> for SchemaId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl SchemaId {
    /// The UUID that the text is, with or without dashes.
    pub fn of_uuid(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_hex = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(&digits, 16).ok().map(Self::Version)).flatten()
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Version(uuid) => f.write_str(&uuid_text(*uuid)),
        }
    }
}

/// RFC 9562 section 4.
pub(crate) fn uuid_text(uuid: u128) -> String {
    let part = |shift: u32, bits: u32| (uuid >> shift) & ((1u128 << bits) - 1);
    let (time, node) = (part(96, 32), part(0, 48));
    format!("{time:08x}-{:04x}-{:04x}-{:04x}-{node:012x}", part(80, 16), part(64, 16), part(48, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_comes_back() {
        let text = "b7b4a7f0-9c96-4e4a-a687-fb5de9ef0c63";
        let id = SchemaId::of_uuid(text).unwrap();
        assert_eq!(id, SchemaId::Version(0xb7b4_a7f0_9c96_4e4a_a687_fb5d_e9ef_0c63));
        assert_eq!(id.to_string(), text);
        assert_eq!(SchemaId::of_uuid("00000000-0000-0000-0000-000000000001"), Some(SchemaId::Version(1)));
        for noise in ["", "1", "b7b4a7f0-9c96-4e4a-a687-fb5de9ef0c6", "+7b4a7f0-9c96-4e4a-a687-fb5de9ef0c63"] {
            assert_eq!(SchemaId::of_uuid(noise), None, "{noise}");
        }
    }
}

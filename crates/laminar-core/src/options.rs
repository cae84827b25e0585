//! SQL options to typed values: `WITH (topic = 'orders', batch_size = 1000, 'auth.type' = 'sasl')`.
//!
//! An option is declared once, as a field of a serde struct with a doc comment. [`Options::parse`] turns the written list
//! into that struct; its JSON schema gives the known names (for "did you mean"), the reference page and the console's form.
//! A quoted value means the same as a bare one: the field's type decides how the text is read.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};

use crate::{Code, Error, Location, Result};

/// One `key = value` as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionEntry {
    pub key: String,
    /// The value's text without quotes.
    pub value: String,
    /// Where the key stands in the statement; `None` if it came from elsewhere (a stored connection, REST).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// An option list in the order written; keys are distinct.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(Vec<OptionEntry>);

impl Options {
    /// Refuses a key that is given twice.
    pub fn new(entries: Vec<OptionEntry>) -> Result<Self> {
        for (i, entry) in entries.iter().enumerate() {
            if entries.iter().take(i).any(|earlier| earlier.key == entry.key) {
                return Err(Error::new(Code::ConflictingOptions, format!("option {} is given twice", entry.key))
                    .with_hint("leave one out")
                    .with_field(&entry.key)
                    .at(entry.location));
            }
        }
        Ok(Self(entries))
    }

    /// From pairs that have no place in a statement.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let entry = |(k, v): (K, V)| OptionEntry { key: k.into(), value: v.into(), location: None };
        Self(pairs.into_iter().map(entry).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &OptionEntry> {
        self.0.iter()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|e| e.key == key).map(|e| e.value.as_str())
    }
    pub fn entry(&self, key: &str) -> Option<&OptionEntry> {
        self.0.iter().find(|e| e.key == key)
    }
    /// Removes the entry and returns it.
    pub fn remove(&mut self, key: &str) -> Option<OptionEntry> {
        let at = self.0.iter().position(|e| e.key == key)?;
        Some(self.0.remove(at))
    }
    /// Adds the entry, or replaces the one with the same key.
    pub fn set(&mut self, entry: OptionEntry) {
        match self.0.iter_mut().find(|e| e.key == entry.key) {
            Some(existing) => *existing = entry,
            None => self.0.push(entry),
        }
    }
    /// These options, with those of `over` added or winning.
    #[must_use]
    pub fn overridden_by(&self, over: &Options) -> Options {
        let mut merged = self.clone();
        over.iter().for_each(|entry| merged.set(entry.clone()));
        merged
    }
    /// Every value replaced by `f` of it, as substitution of secrets does; errors get the option's name and place.
    pub fn map_values(&self, mut f: impl FnMut(&str) -> Result<String>) -> Result<Options> {
        let map = |e: &OptionEntry| match f(&e.value) {
            Ok(value) => Ok(OptionEntry { value, ..e.clone() }),
            Err(error) => Err(error.with_field(&e.key).at(e.location)),
        };
        Ok(Options(self.0.iter().map(map).collect::<Result<_>>()?))
    }

    /// Splits into the options that `T` declares and the rest.
    pub fn split_known<T: JsonSchema>(&self) -> (Options, Options) {
        let known = names::<T>();
        let (ours, rest) = self.0.iter().cloned().partition(|e| known.contains(&e.key));
        (Options(ours), Options(rest))
    }

    /// Reads the list as a `T`. `subject` names the owner in messages: `connector kafka`, `pipeline p`.
    ///
    /// Errors, each with the option's name and place: `unknown_option` (with the nearest name as hint), `missing_option`,
    /// `invalid_option`.
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self, subject: &str) -> Result<T> {
        let known = names::<T>();
        if let Some(entry) = self.0.iter().find(|e| !known.contains(&e.key)) {
            return Err(unknown(entry, &known, subject));
        }
        let mut current = None;
        T::deserialize(EntriesDeserializer { entries: &self.0, current: &mut current }).map_err(|error| match error {
            ReadError::Missing(field) => missing(&field, subject),
            ReadError::Invalid(what) => self.invalid(current, subject).with_detail(what),
            ReadError::Unlisted(values) => {
                let error = self.invalid(current, subject).with_detail(ReadError::Unlisted(values).to_string());
                let written = current.and_then(|i| self.0.get(i)).map(|e| e.value.as_str());
                match written.and_then(|value| nearest(value, values.iter().copied())) {
                    Some(near) => error.with_hint(format!("did you mean {near}?")),
                    None => error,
                }
            }
        })
    }

    /// The error for a value that the entry cannot have.
    fn invalid(&self, entry: Option<usize>, subject: &str) -> Error {
        let entry = entry.and_then(|i| self.0.get(i));
        let (key, value) = entry.map_or(("", ""), |e| (e.key.as_str(), e.value.as_str()));
        Error::new(Code::InvalidOption, format!("option {key} of {subject} cannot be '{value}'"))
            .with_field(key)
            .at(entry.and_then(|e| e.location))
    }
}

/// The error for an option that must be given and is not.
pub fn missing(key: &str, subject: &str) -> Error {
    Error::new(Code::MissingOption, format!("{subject} needs option {key}"))
        .with_hint(format!("add {key} = '…'"))
        .with_field(key)
}

/// The error for an option that nobody declares, with the nearest known name as hint.
pub fn unknown(entry: &OptionEntry, known: &[String], subject: &str) -> Error {
    let error = Error::new(Code::UnknownOption, format!("{subject} has no option {}", entry.key))
        .with_field(&entry.key)
        .at(entry.location);
    match nearest(&entry.key, known.iter().map(String::as_str)) {
        Some(name) => error.with_hint(format!("did you mean {name}?")),
        None => error.with_hint(known_options(&entry.key, known)),
    }
}

/// The candidate that a person most likely meant, if one is near enough.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let score = |c: &&str| strsim::jaro_winkler(&written.to_lowercase(), &c.to_lowercase());
    let best = candidates.into_iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) > 0.84).then_some(best)
}

/// All names if they are few, else those nearest to what was written.
pub fn known_options(written: &str, known: &[String]) -> String {
    const MANY: usize = 16;
    const FEW: usize = 6;
    if known.len() <= MANY {
        return format!("known options: {}", known.join(", "));
    }
    let score = |name: &str| strsim::jaro_winkler(&written.to_lowercase(), name);
    let mut near: Vec<&str> = known.iter().map(String::as_str).collect();
    near.sort_by(|a, b| score(b).total_cmp(&score(a)));
    near.truncate(FEW);
    format!("the nearest of {} options: {}", known.len(), near.join(", "))
}

/// Key in an option's JSON schema under which its other names stand, where it has some.
pub const ALIASES: &str = "x-aliases";

/// Names of the options that `T` declares, in declaration order.
pub fn names<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(|p| p.as_object());
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

#[derive(Debug)]
enum ReadError {
    Missing(String),
    Invalid(String),
    /// The value is none of these.
    Unlisted(&'static [&'static str]),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "missing {field}"),
            Self::Invalid(what) => f.write_str(what),
            Self::Unlisted(values) => write!(f, "expected one of {}", values.join(", ")),
        }
    }
}
impl std::error::Error for ReadError {}
impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Invalid(message.to_string())
    }
    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field.to_string())
    }
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Unlisted(expected)
    }
}

/// The list as a serde map; `current` is the index of the entry being read when an error stopped it.
struct EntriesDeserializer<'a> {
    entries: &'a [OptionEntry],
    current: &'a mut Option<usize>,
}

impl<'de> Deserializer<'de> for EntriesDeserializer<'_> {
    type Error = ReadError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_map(EntriesAccess { entries: self.entries, next: 0, current: self.current })
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct EntriesAccess<'a> {
    entries: &'a [OptionEntry],
    next: usize,
    current: &'a mut Option<usize>,
}

impl<'de> MapAccess<'de> for EntriesAccess<'_> {
    type Error = ReadError;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some(entry) = self.entries.get(self.next) else {
            *self.current = None;
            return Ok(None);
        };
        *self.current = Some(self.next);
        self.next += 1;
        let key: StringDeserializer<ReadError> = entry.key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let value = self.current.and_then(|i| self.entries.get(i)).map(|e| e.value.as_str()).unwrap_or_default();
        seed.deserialize(TextDeserializer(value))
    }
}

/// One value's text, read as whatever type the field asks for.
struct TextDeserializer<'a>(&'a str);

impl TextDeserializer<'_> {
    fn number<T: std::str::FromStr>(&self, expected: &str) -> Result<T, ReadError> {
        let text = self.0.trim().replace('_', "");
        text.parse().map_err(|_| ReadError::Invalid(format!("expected {expected}")))
    }
}

macro_rules! read_numbers {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            visitor.$visit(self.number::<$type>($expected)?)
        })+
    };
}

impl<'de> Deserializer<'de> for TextDeserializer<'_> {
    type Error = ReadError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.0)
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.trim().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => visitor.visit_bool(true),
            "false" | "off" | "no" | "0" => visitor.visit_bool(false),
            _ => Err(ReadError::Invalid("expected true or false".into())),
        }
    }
    read_numbers! {
        deserialize_i8 visit_i8 i8, "an integer from -128 to 127";
        deserialize_i16 visit_i16 i16, "an integer from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "an integer of 32 bits";
        deserialize_i64 visit_i64 i64, "an integer";
        deserialize_u8 visit_u8 u8, "an integer from 0 to 255";
        deserialize_u16 visit_u16 u16, "an integer from 0 to 65535";
        deserialize_u32 visit_u32 u32, "an integer from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "an integer of at least 0";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text: StringDeserializer<ReadError> = self.0.to_string().into_deserializer();
        visitor.visit_enum(text)
    }
    /// A list is written `a,b,c` or `["a","b"]`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let text = self.0.trim();
        let items: Vec<String> = match serde_json::from_str(text) {
            Ok(items) => items,
            Err(_) => text.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect(),
        };
        visitor.visit_seq(ListAccess(items.into_iter()))
    }
    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

struct ListAccess(std::vec::IntoIter<String>);

impl<'de> SeqAccess<'de> for ListAccess {
    type Error = ReadError;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        self.0.next().map(|item| seed.deserialize(TextDeserializer(&item))).transpose()
    }
}

/// A duration: `500ms`, `5s`, `1 minute`, `1h 30m`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl std::str::FromStr for HumanDuration {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let parsed = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()),
            Err(_) => humantime::parse_duration(&text.to_lowercase()).map_err(|e| e.to_string()),
        };
        parsed.map(Self).map_err(|_| "expected a duration such as 500ms, 5s or 1 minute".to_string())
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "format": "duration"})
    }
}

/// A number of bytes: `896KB`, `2GB`, `64MiB`; a bare number is bytes. KB is 1024 bytes, as PostgreSQL counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(0),
            "k" | "kb" | "kib" => Some(10),
            "m" | "mb" | "mib" => Some(20),
            "g" | "gb" | "gib" => Some(30),
            "t" | "tb" | "tib" => Some(40),
            _ => None,
        };
        let bytes = shift.and_then(|s| number.parse::<u64>().ok()?.checked_mul(1u64 << s));
        bytes.map(Self).ok_or_else(|| "expected a size such as 896KB or 2GB".to_string())
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "format": "byte-size"})
    }
}

/// A value that is never shown: it prints as `***` and its schema is marked as a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "format": "password", "writeOnly": true})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads things.
    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Sample {
        /// Where to.
        topic: String,
        #[serde(default)]
        batch_size: Option<u32>,
        #[serde(default, rename = "json.pretty")]
        pretty: bool,
        #[serde(default)]
        wait: Option<HumanDuration>,
        #[serde(default)]
        offset: Start,
        #[serde(default)]
        topics: Vec<String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Start {
        #[default]
        Earliest,
        Latest,
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Sample> {
        Options::from_pairs(pairs.iter().copied()).parse("connector kafka")
    }

    #[test]
    fn text_becomes_the_type_of_the_field() {
        let sample = parse(&[
            ("topic", "a"),
            ("batch_size", "1_000"),
            ("json.pretty", "TRUE"),
            ("wait", "500ms"),
            ("offset", "latest"),
            ("topics", "a, b"),
        ]);
        let expected = Sample {
            topic: "a".into(),
            batch_size: Some(1000),
            pretty: true,
            wait: Some(HumanDuration(Duration::from_millis(500))),
            offset: Start::Latest,
            topics: vec!["a".into(), "b".into()],
        };
        assert_eq!(sample.unwrap(), expected);
    }

    #[track_caller]
    fn check_error(pairs: &[(&str, &str)], expected: &str) {
        assert_eq!(format!("{:?}", parse(pairs).unwrap_err()), expected);
    }

    #[test]
    fn errors_name_the_option() {
        check_error(
            &[("topic", "a"), ("batchsize", "1")],
            "unknown_option: connector kafka has no option batchsize (hint: did you mean batch_size?)",
        );
        check_error(&[], "missing_option: connector kafka needs option topic (hint: add topic = '…')");
        check_error(
            &[("topic", "a"), ("batch_size", "many")],
            "invalid_option: option batch_size of connector kafka cannot be 'many': expected an integer from 0 to 4294967295",
        );
        check_error(
            &[("topic", "a"), ("offset", "middle")],
            "invalid_option: option offset of connector kafka cannot be 'middle': expected one of earliest, latest",
        );
        check_error(
            &[("topic", "a"), ("offset", "earlyest")],
            "invalid_option: option offset of connector kafka cannot be 'earlyest': expected one of earliest, latest (hint: did you mean earliest?)",
        );
        check_error(
            &[("topic", "a"), ("wait", "soon")],
            "invalid_option: option wait of connector kafka cannot be 'soon': expected a duration such as 500ms, 5s or 1 minute",
        );
    }

    #[test]
    fn sizes_count_as_postgresql_does() {
        assert_eq!("896KB".parse(), Ok(ByteSize(896 * 1024)));
        assert_eq!("2 GB".parse(), Ok(ByteSize(2 << 30)));
        assert!("2 parsecs".parse::<ByteSize>().is_err());
    }
}

//! librdkafka's own properties, given among a table's options: `'fetch.min.bytes' = '1024'`.
//!
//! ```text
//!  written                 translate()              check()
//!  fetch.max.wait.ms  ──►  fetch.wait.max.ms   ──►  passed on
//!  group.id           ──►  group_id (ours)
//!  plugin.library.paths ───────────────────────►  forbidden_option
//!  fetch.mim.bytes    ─────────────────────────►  unknown_option, did you mean fetch.min.bytes?
//! ```
//!
//! The rule that must stay true: what is not known to be harmless is refused. A property can run a command, load a library
//! or read a file on the server, and some would break exactly-once.

use std::path::{Component, Path, PathBuf};

use laminar_core::connector::Role;
use laminar_core::options::{OptionEntry, known_options, nearest};
use laminar_core::{Code, Error, Options, Result};
use rdkafka::ClientConfig;

use super::login::{self, Foreign};
use super::property_names::{ELSEWHERE, JAVA_ONLY, PROPERTIES, RENAMED, Scope, Verdict};

/// Kafka's names for options that are ours.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "bootstrap_servers"),
    ("metadata.broker.list", "bootstrap_servers"),
    ("group.id", "group_id"),
    ("isolation.level", "read_mode"),
    ("auto.commit.interval.ms", "commit.interval.ms"),
    ("compression.type", "compression"),
    ("compression.codec", "compression"),
    ("linger.ms", "linger_ms"),
    ("queue.buffering.max.ms", "linger_ms"),
    ("sasl.mechanism", "auth.mechanism"),
    ("sasl.mechanisms", "auth.mechanism"),
    ("sasl.username", "auth.username"),
    ("sasl.password", "auth.password"),
    ("schema.registry.url", "schema_registry.endpoint"),
    ("schema.registry.subject", "value_subject"),
    ("request.required.acks", "acks"),
    ("batch.size", "batch.max_bytes"),
    // Of the project's older pages.
    ("sink.key_field", "key_field"),
    ("sink.timestamp_field", "timestamp_field"),
    ("sink.commit_mode", "delivery"),
    // Of EMQX's bridge.
    ("message.key", "sink.key"),
    ("sink.key_template", "sink.key"),
    ("message.value", "sink.value"),
    ("sink.value_template", "sink.value"),
    ("required_acks", "acks"),
    ("partition_strategy", "partitioner"),
    ("max_batch_bytes", "batch.max_bytes"),
    ("key_encoding_mode", "key.encoding"),
    ("value_encoding_mode", "value.encoding"),
];

/// Properties that we set: name, the values that mean ours and are harmless, why another is refused.
const SET: &[(&str, &[&str], &str)] = &[
    ("enable.auto.commit", &["false"], "offsets are committed to the group together with each checkpoint"),
    ("enable.idempotence", &["true"], "rows must keep their order and not repeat when a request is retried"),
];

/// Options of the specification that are a later issue's: name, what they are about, and what to do instead.
const LATER: &[(&str, &str, &str)] =
    &[("key_subject", "keys of a registered schema are", "key_field writes a column as the key")];

/// The options with Kafka's names for ours, and Java's names for librdkafka's, replaced.
///
/// Errors: `conflicting_options` if two names of one thing are given with different values; `invalid_option`.
pub(crate) fn translate(options: &Options) -> Result<Options> {
    let mut translated = Options::default();
    for entry in options.iter() {
        let Some(entry) = rename(entry)? else { continue };
        match translated.entry(&entry.key) {
            Some(other) if other.value.trim() != entry.value.trim() => return Err(differ(options, &entry)),
            Some(_) => {}
            None => translated.set(entry),
        }
    }
    Ok(translated)
}

/// The options, in which files that are named by relative paths are those of `folder`, as everywhere in SQL.
pub(crate) fn in_folder(options: &Options, folder: Option<&Path>) -> Options {
    let Some(folder) = folder else { return options.clone() };
    let is_file = |key: &str| PROPERTIES.iter().any(|(name, _, verdict)| *name == key && *verdict == Verdict::File);
    let mut resolved = Options::default();
    for entry in options.iter() {
        let path = Path::new(entry.value.trim());
        let joins = is_file(&entry.key) && path.is_relative() && !path.as_os_str().is_empty();
        let value = if joins { folder.join(path).display().to_string() } else { entry.value.clone() };
        resolved.set(OptionEntry { value, ..entry.clone() });
    }
    resolved
}

/// `None`: the option asks for what we do anyway.
fn rename(entry: &OptionEntry) -> Result<Option<OptionEntry>> {
    match login::foreign(entry) {
        None => {}
        Some(Foreign::Is(key, value)) => {
            return Ok(Some(OptionEntry { key: key.into(), value, location: entry.location }));
        }
        Some(Foreign::Already) => return Ok(None),
        Some(Foreign::Not(why, hint)) => return Err(login::not_here(entry, why, hint)),
        Some(Foreign::Wrong(expected)) => return Err(invalid(entry, expected)),
    }
    let key = entry.key.as_str();
    let find = |table: &[(&str, &'static str)]| table.iter().find(|(from, _)| *from == key).map(|(_, to)| *to);
    if key == "buffer.memory" {
        let bytes: u64 = entry.value.trim().parse().map_err(|_| invalid(entry, "expected a number of bytes"))?;
        let value = bytes.div_ceil(1024).max(1).to_string();
        let key = "queue.buffering.max.kbytes".into();
        return Ok(Some(OptionEntry { key, value, location: entry.location }));
    }
    if key == "message.timestamp" {
        let column = entry.value.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let value = column.map(|name| name.strip_prefix('.').unwrap_or(name)).filter(|name| !name.is_empty());
        let value = value.ok_or_else(|| invalid(entry, "expected a column, as ${.column}"))?;
        return Ok(Some(OptionEntry { key: "timestamp_field".into(), value: value.into(), location: entry.location }));
    }
    if key == "compression" && entry.value.trim() == "no_compression" {
        return Ok(Some(OptionEntry { value: "none".into(), ..entry.clone() }));
    }
    match find(OURS).or_else(|| find(RENAMED)) {
        Some(to) => Ok(Some(OptionEntry { key: to.into(), ..entry.clone() })),
        None => Ok(Some(entry.clone())),
    }
}

/// Two written options mean the same thing and say different things.
fn differ(options: &Options, entry: &OptionEntry) -> Error {
    let is_this = |e: &&OptionEntry| rename(e).is_ok_and(|renamed| renamed.is_some_and(|r| r.key == entry.key));
    let names: Vec<&str> = options.iter().filter(is_this).map(|e| e.key.as_str()).collect();
    Error::new(Code::ConflictingOptions, format!("options {} differ", names.join(" and ")))
        .with_detail("they are names of one setting")
        .with_hint("give one of them")
        .with_field(&entry.key)
        .at(entry.location)
}

/// Checks what is left when our own options are taken out; returns the properties for a client of this role, `None`: for
/// neither, only check. `known` are the names of our own options, for hints.
///
/// Errors: `unknown_option`, `forbidden_option`, `invalid_option`, `not_supported`.
pub(crate) fn check(
    rest: &Options,
    role: Option<Role>,
    known: &[String],
    files_dir: Option<&Path>,
) -> Result<Vec<(String, String)>> {
    let mut properties = Vec::new();
    for entry in rest.iter() {
        let (scope, verdict) = find(entry, known)?;
        match verdict {
            Verdict::Pass => check_value(entry)?,
            Verdict::File => check_file(entry, files_dir)?,
            Verdict::Refused(reason) => return Err(forbidden(entry, reason.text())),
        }
        match (scope, role) {
            (Scope::Consumer, Some(Role::Sink)) => refuse_other_role(entry, "source")?,
            (Scope::Producer, Some(Role::Source)) => refuse_other_role(entry, "sink")?,
            _ if is_already_so(entry)? => {}
            _ => properties.push((entry.key.clone(), entry.value.trim().to_string())),
        }
    }
    Ok(properties)
}

fn find(entry: &OptionEntry, known: &[String]) -> Result<(Scope, Verdict)> {
    let key = entry.key.as_str();
    if let Some((_, scope, verdict)) = PROPERTIES.iter().find(|(name, ..)| *name == key) {
        return Ok((*scope, *verdict));
    }
    if let Some((_, what, hint)) =
        LATER.iter().find(|(name, ..)| key == *name || (name.ends_with('.') && key.starts_with(name)))
    {
        let message = format!("option {key} of connector kafka: {what} not supported yet");
        return Err(Error::new(Code::NotSupported, message).with_hint(*hint).with_field(key).at(entry.location));
    }
    let error = Error::new(Code::UnknownOption, format!("connector kafka has no option {key}")).with_field(key);
    if let Some((_, hint)) = JAVA_ONLY.iter().find(|(name, _)| *name == key) {
        return Err(error.with_detail("only the Java client has it").with_hint(*hint).at(entry.location));
    }
    if let Some((_, whose, hint)) = ELSEWHERE.iter().find(|(name, ..)| *name == key) {
        return Err(error.with_detail(format!("{whose} has it")).with_hint(*hint).at(entry.location));
    }
    if let Some(property) = key.strip_prefix("properties.") {
        let named = OURS.iter().chain(RENAMED).find(|(theirs, _)| *theirs == property).map(|(_, ours)| *ours);
        let java = JAVA_ONLY.iter().find(|(name, _)| *name == property).map(|(_, hint)| (*hint).to_string());
        let hint = java.unwrap_or_else(|| format!("write '{}'", named.unwrap_or(property)));
        return Err(error.with_detail("Flink has it").with_hint(hint).at(entry.location));
    }
    let allowed = PROPERTIES.iter().filter(|(.., verdict)| !matches!(verdict, Verdict::Refused(_)));
    // The last of equally near names wins: ours.
    let names = allowed.map(|(name, ..)| *name).chain(known.iter().map(String::as_str));
    let error = match nearest(key, names) {
        Some(name) => error.with_hint(format!("did you mean {name}?")),
        None => error.with_hint(format!("{}; and librdkafka's properties", known_options(key, known))),
    };
    Err(error.at(entry.location))
}

/// An option written in the statement itself must be of use there. One that comes from the connection (it has no place in
/// the statement) may be meant for the connection's other tables.
pub(crate) fn refuse_other_role(entry: &OptionEntry, other: &str) -> Result<()> {
    match entry.location {
        None => Ok(()),
        Some(_) => Err(Error::new(Code::ConflictingOptions, format!("option {} is for a {other} only", entry.key))
            .with_field(&entry.key)
            .at(entry.location)),
    }
}

/// Is it a property of [`SET`], with our value?
fn is_already_so(entry: &OptionEntry) -> Result<bool> {
    let Some((_, ours, why)) = SET.iter().find(|(name, ..)| *name == entry.key) else { return Ok(false) };
    let value = entry.value.trim().to_ascii_lowercase();
    if ours.contains(&value.as_str()) { Ok(true) } else { Err(forbidden(entry, why)) }
}

/// Kafka's names for the option `name`, which is ours.
pub(crate) fn aliases(name: &str) -> Vec<&'static str> {
    OURS.iter().filter(|(_, ours)| *ours == name).map(|(from, _)| *from).collect()
}

/// A property of librdkafka, as the reference page tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProperty {
    pub name: &'static str,
    /// Whose client has it; `None`: a source's and a sink's.
    pub role: Option<Role>,
    pub allowed: Allowed,
    /// The Java client's name for it, where that is another.
    pub java: Option<&'static str>,
}

/// May a user set a property?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// As it is.
    Yes,
    /// Only to the value that it has anyway, for this reason.
    Only(&'static str, &'static str),
    /// For this reason not.
    No(&'static str),
}

/// The properties of librdkafka that no option of ours stands for, in the order of their names.
pub(crate) fn client_properties(ours: &[String]) -> Vec<ClientProperty> {
    let is_ours = |name: &str| ours.iter().any(|o| o == name) || OURS.iter().any(|(from, _)| *from == name);
    let property = |(name, scope, verdict): &(&'static str, Scope, Verdict)| ClientProperty {
        name,
        role: match scope {
            Scope::Both => None,
            Scope::Consumer => Some(Role::Source),
            Scope::Producer => Some(Role::Sink),
        },
        allowed: match (SET.iter().find(|(set, ..)| set == name), verdict) {
            (Some((_, [value, ..], why)), _) => Allowed::Only(value, why),
            (_, Verdict::Refused(reason)) => Allowed::No(reason.text()),
            (_, Verdict::Pass | Verdict::File) => Allowed::Yes,
        },
        java: RENAMED.iter().find(|(_, to)| to == name).map(|(java, _)| *java),
    };
    PROPERTIES.iter().filter(|(name, ..)| !is_ours(name)).map(property).collect()
}

/// Asks librdkafka whether it takes the value.
fn check_value(entry: &OptionEntry) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set(&entry.key, entry.value.trim());
    match config.create_native_config() {
        Ok(_) => Ok(()),
        // librdkafka's text repeats the value, which may be a password: say only what it wants.
        Err(rdkafka::error::KafkaError::ClientConfig(_, text, ..)) if !is_secret(&entry.key) => {
            Err(invalid(entry, &text))
        }
        Err(_) => Err(invalid(entry, "librdkafka refuses the value")),
    }
}

fn check_file(entry: &OptionEntry, files_dir: Option<&Path>) -> Result<()> {
    let path = PathBuf::from(entry.value.trim());
    let Some(dir) = files_dir else { return Ok(()) };
    let climbs = path.components().any(|part| part == Component::ParentDir);
    // A link below the folder may point out of it.
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    let real_dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    if climbs || !(real.starts_with(&real_dir) || (!path.exists() && path.starts_with(dir))) {
        return Err(forbidden(entry, &format!("files are read only below {}", dir.display())));
    }
    Ok(())
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "pem", "passphrase", "token"].iter().any(|word| key.contains(word))
}

fn forbidden(entry: &OptionEntry, why: &str) -> Error {
    Error::new(Code::ForbiddenOption, format!("option {} of connector kafka cannot be set", entry.key))
        .with_detail(why)
        .with_field(&entry.key)
        .at(entry.location)
}

/// The error for a value that an option cannot have; the value itself is left out where it may be secret.
pub(crate) fn invalid(entry: &OptionEntry, what: &str) -> Error {
    let value = if is_secret(&entry.key) { "***" } else { entry.value.as_str() };
    Error::new(Code::InvalidOption, format!("option {} of connector kafka cannot be '{value}'", entry.key))
        .with_detail(what)
        .with_field(&entry.key)
        .at(entry.location)
}

#[cfg(test)]
mod tests {
    use laminar_core::Location;

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let location = Some(Location { line: 1, column: 1 });
        let entry = |(k, v): &(&str, &str)| OptionEntry { key: k.to_string(), value: v.to_string(), location };
        Options::new(pairs.iter().map(entry).collect()).unwrap()
    }

    #[track_caller]
    fn check_translated(pairs: &[(&str, &str)], expected: &str) {
        let text = match translate(&options(pairs)) {
            Ok(options) => options.iter().map(|e| format!("{}={}", e.key, e.value)).collect::<Vec<_>>().join(" "),
            Err(error) => error.moved_to(None).to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn names_of_the_java_client_are_translated() {
        check_translated(&[("fetch.max.wait.ms", "500"), ("group.id", "g")], "fetch.wait.max.ms=500 group_id=g");
        check_translated(&[("buffer.memory", "33554432")], "queue.buffering.max.kbytes=32768");
        check_translated(&[("isolation.level", "read_uncommitted")], "read_mode=read_uncommitted");
        check_translated(
            &[("group.id", "a"), ("group_id", "b")],
            "options group.id and group_id differ: they are names of one setting",
        );
    }

    #[test]
    fn relative_paths_are_of_the_folder() {
        for (written, read) in [
            ("ca.pem", "/certs/ca.pem"),
            ("/certs/ca.pem", "/certs/ca.pem"),
            ("a/../../b", "/certs/a/../../b"),
            ("", ""),
        ] {
            let options =
                in_folder(&options(&[("ssl.ca.location", written), ("topic", "t")]), Some(Path::new("/certs")));
            let values: Vec<_> = options.iter().map(|e| e.value.as_str()).collect();
            assert_eq!(values, [read, "t"]);
        }
    }

    #[track_caller]
    fn check_one(key: &str, value: &str, role: Role, expected: &str) {
        let known = vec!["batch_size".to_string(), "topic".to_string()];
        let text = match check(&options(&[(key, value)]), Some(role), &known, Some(Path::new("/certs"))) {
            Ok(properties) => properties.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "),
            Err(error) => format!("{:?}", error.moved_to(None)),
        };
        assert!(text.starts_with(expected), "{text}\nexpected {expected}");
    }

    #[test]
    fn properties_are_passed_on_or_refused() {
        check_one("fetch.min.bytes", "1024", Role::Source, "fetch.min.bytes=1024");
        check_one(
            "fetch.min.bytes",
            "many",
            Role::Source,
            "invalid_option: option fetch.min.bytes of connector kafka cannot",
        );
        check_one(
            "fetch.min.bytes",
            "1",
            Role::Sink,
            "conflicting_options: option fetch.min.bytes is for a source only",
        );
        check_one("partitioner", "fnv1a", Role::Source, "conflicting_options: option partitioner is for a sink only");
        check_one("partitioner", "fnv1a", Role::Sink, "partitioner=fnv1a");
        check_one("ssl.ca.location", "/certs/ca.pem", Role::Source, "ssl.ca.location=/certs/ca.pem");
        check_one("ssl.ca.location", "/etc/passwd", Role::Source, "forbidden_option: option ssl.ca.location");
        check_one("ssl.ca.location", "/certs/../etc/passwd", Role::Source, "forbidden_option: option ssl.ca.location");
        check_one("plugin.library.paths", "x.so", Role::Source, "forbidden_option: option plugin.library.paths");
        check_one("sasl.kerberos.kinit.cmd", "id", Role::Source, "forbidden_option: option sasl.kerberos.kinit.cmd");
        check_one("ssl.engine.location", "x.so", Role::Source, "forbidden_option: option ssl.engine.location");
        check_one("transactional.id", "mine", Role::Sink, "forbidden_option: option transactional.id");
        check_one("enable.auto.commit", "false", Role::Source, "");
        check_one("enable.auto.commit", "true", Role::Source, "forbidden_option: option enable.auto.commit");
        check_one(
            "reconnect.retry.max_retries",
            "10",
            Role::Source,
            "unknown_option: connector kafka has no option reconnect.retry.max_retries: tremor has it (hint: ",
        );
        check_one(
            "max_rejoin_attempts",
            "5",
            Role::Source,
            "unknown_option: connector kafka has no option max_rejoin_attempts: EMQX has it (hint: ",
        );
        check_one(
            "metrics_interval_s",
            "1",
            Role::Source,
            "unknown_option: connector kafka has no option metrics_interval_s: tremor has it (hint: counters are always current",
        );
        check_one("enable.idempotence", "false", Role::Sink, "forbidden_option: option enable.idempotence");
    }

    #[test]
    fn unknown_names_get_the_nearest_as_hint() {
        let expected =
            "unknown_option: connector kafka has no option fetch.mim.bytes (hint: did you mean fetch.min.bytes?)";
        check_one("fetch.mim.bytes", "1", Role::Source, expected);
        check_one(
            "batchsize",
            "1",
            Role::Source,
            "unknown_option: connector kafka has no option batchsize (hint: did you mean batch_size?)",
        );
        check_one(
            "sasl.jaas.config",
            "x",
            Role::Source,
            "unknown_option: connector kafka has no option sasl.jaas.config",
        );
    }

    #[test]
    fn librdkafka_knows_every_name() {
        for (name, _, verdict) in PROPERTIES {
            let mut config = ClientConfig::new();
            config.set(*name, "1");
            let error = match config.create_native_config() {
                Err(rdkafka::error::KafkaError::ClientConfig(_, text, ..)) => text,
                _ => continue,
            };
            let unknown = error.starts_with("No such configuration property");
            assert!(!unknown || *verdict != Verdict::Pass, "{name}: {error}");
        }
    }

    #[test]
    fn a_secret_value_is_not_repeated() {
        let error =
            invalid(&OptionEntry { key: "ssl.key.password".into(), value: "hunter2".into(), location: None }, "x");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

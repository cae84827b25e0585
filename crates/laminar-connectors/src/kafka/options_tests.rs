//! Options of Kafka connections and tables: what is understood, and how each mistake is told.

use laminar_core::Location;

use super::super::client::ClientKind;
use super::*;

fn written(pairs: &[(&str, &str)], role: Option<Role>) -> Result<Written> {
    let location = Some(Location { line: 1, column: 1 });
    let entry = |(k, v): &(&str, &str)| OptionEntry { key: k.to_string(), value: v.to_string(), location };
    Written::read(&Options::new(pairs.iter().map(entry).collect())?, role, None)
}

/// `config` of the cluster besides the given defaults, or the error.
#[track_caller]
fn check_security(pairs: &[(&str, &str)], expected: &str) {
    let mut all = vec![("bootstrap_servers", "b:9092"), ("topic", "t")];
    all.extend_from_slice(pairs);
    let config = written(&all, Some(Role::Source)).and_then(|w| w.cluster()).map(|cluster| {
        let keys = ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password", "ssl.ca.location"];
        keys.iter().filter_map(|key| cluster.get(key)).collect::<Vec<_>>().join(" ")
    });
    let text = config.unwrap_or_else(|error| format!("{:?}", error.moved_to(None)));
    assert_eq!(text, expected, "{pairs:?}");
}

#[test]
fn logins_and_tls_as_the_specification_writes_them() {
    check_security(&[], "plaintext");
    check_security(&[("security.protocol", "SSL"), ("ssl.ca.location", "/certs/ca.pem")], "ssl /certs/ca.pem");
    check_security(&[("ssl.ca.location", "/certs/ca.pem")], "ssl /certs/ca.pem");
    let login = [("auth.type", "sasl"), ("auth.username", "u"), ("auth.password", "p")];
    check_security(&login, "sasl_ssl PLAIN u p");
    let scram = [("auth.mechanism", "SCRAM-SHA-256"), ("auth.protocol", "SASL_PLAINTEXT")];
    check_security(&[&login[..], &scram[..]].concat(), "sasl_plaintext SCRAM-SHA-256 u p");
    let kafkas = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "u"),
        ("sasl.password", "p"),
    ];
    check_security(&kafkas, "sasl_ssl SCRAM-SHA-512 u p");
    check_security(
        &[("auth.type", "sasl"), ("auth.username", "u")],
        "missing_option: connector kafka needs option auth.password (hint: add auth.password = '…')",
    );
    check_security(
        &[("auth.type", "aws_msk_iam"), ("auth.region", "us-east-1")],
        "not_supported: option auth.region of connector kafka: auth.type aws_msk_iam is not supported yet (hint: use 'auth.type' = 'sasl' with SCRAM)",
    );
    check_security(
        &[("auth.type", "aws_msk_iam")],
        "not_supported: auth.type aws_msk_iam of connector kafka is not supported yet (hint: use 'auth.type' = 'sasl' with SCRAM)",
    );
    check_security(
        &[&login[..], &[("security.protocol", "SSL")]].concat(),
        "conflicting_options: a login needs SASL_SSL or SASL_PLAINTEXT as protocol",
    );
    check_security(
        &[("auth.protocol", "SASL_SSL"), ("security.protocol", "SSL")],
        "conflicting_options: auth.protocol and security.protocol differ",
    );
}

#[track_caller]
fn check_source(pairs: &[(&str, &str)], expected: &str) {
    let mut all = vec![("bootstrap_servers", "b:9092")];
    all.extend_from_slice(pairs);
    let settings = written(&all, Some(Role::Source)).and_then(Written::source);
    let text = match settings {
        Ok(s) => format!("{} {:?} {}", s.topics, s.start, s.group_id.as_deref().unwrap_or("-")),
        Err(error) => format!("{:?}", error.moved_to(None)),
    };
    assert_eq!(text, expected, "{pairs:?}");
}

#[test]
fn what_a_source_reads() {
    check_source(&[("topic", "a")], "a Earliest -");
    check_source(&[("topics", "b, a,b"), ("group_id", "g")], "a, b Earliest g");
    check_source(&[("topic", "a"), ("auto.offset.reset", "latest"), ("group.id", "g")], "a Latest g");
    check_source(
        &[("topic", "a"), ("offset", "timestamp"), ("timestamp", "2024-01-01T00:00:00Z")],
        "a AtMillis(1704067200000) -",
    );
    check_source(
        &[("topic", "a"), ("offset", "timestamp"), ("timestamp", "1704067200000")],
        "a AtMillis(1704067200000) -",
    );
    check_source(
        &[("topic", "a"), ("offset", "timestamp"), ("timestamp", "2024-01-01 00:00:00")],
        "a AtMillis(1704067200000) -",
    );
    check_source(&[], "missing_option: connector kafka needs option topic (hint: add topic = '…')");
    check_source(
        &[("topic", "a"), ("topics", "b")],
        "conflicting_options: topic and topics are both given (hint: give one)",
    );
    check_source(
        &[("topic", "a"), ("offset", "timestamp")],
        "missing_option: connector kafka needs option timestamp (hint: offset = 'timestamp' needs it)",
    );
    check_source(
        &[("topic", "a"), ("timestamp", "1")],
        "conflicting_options: option timestamp needs offset = 'timestamp' (hint: add offset = 'timestamp', or remove timestamp)",
    );
    check_source(
        &[("topic", "a"), ("offset", "timestamp"), ("timestamp", "noon")],
        "invalid_option: option timestamp of connector kafka cannot be 'noon': expected RFC 3339 or milliseconds since 1970",
    );
    check_source(
        &[("topic", "a b")],
        "invalid_option: option topic of connector kafka cannot be 'a b': a topic's name has 1 to 249 letters, digits, '.', '_' or '-'",
    );
    check_source(&[("topic", "a"), ("key_field", "id")], "conflicting_options: option key_field is for a sink only");
    check_source(
        &[("topic", "a"), ("offset", "middle")],
        "invalid_option: option offset of connector kafka cannot be 'middle': expected one of earliest, latest, timestamp, group",
    );
}

#[test]
fn where_a_source_starts_that_has_no_checkpoint() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        check_source(&[&[("topic", "a")], pairs].concat(), expected);
    };
    check(&[("offset", "group")], "a Group(Earliest) -");
    check(&[("offset", "group"), ("auto.offset.reset", "largest")], "a Group(Latest) -");
    check(&[("offset", "group"), ("auto.offset.reset", "none")], "a Group(None) -");
    check(&[("auto.offset.reset", "smallest")], "a Earliest -");
    check(&[("offset", "latest"), ("auto.offset.reset", "end")], "a Latest -");
    check(
        &[("auto.offset.reset", "none")],
        "conflicting_options: auto.offset.reset = 'none' is about the offsets of a group (hint: add offset = 'group')",
    );
    check(
        &[("offset", "timestamp"), ("timestamp", "1"), ("auto.offset.reset", "latest")],
        "conflicting_options: options offset and auto.offset.reset differ: they are names of one setting (hint: give one of them)",
    );
    check(
        &[("offset", "group"), ("timestamp", "1")],
        "conflicting_options: option timestamp needs offset = 'timestamp' (hint: add offset = 'timestamp', or remove timestamp)",
    );
}

#[test]
fn topics_by_a_pattern() {
    check_source(&[("topic_pattern", "events-.*")], "topics that match 'events-.*' Earliest -");
    check_source(
        &[("topic_pattern", "events-.*"), ("topic", "a")],
        "conflicting_options: topic and topic_pattern are both given (hint: give one)",
    );
    let wrong = written(&[("topic_pattern", "a(")], None).err().unwrap();
    assert_eq!((wrong.code(), wrong.field()), (Code::InvalidOption, Some("topic_pattern")));
    let discovery = |value: &str| {
        let pairs = [("bootstrap_servers", "b"), ("topic", "a"), ("partition_discovery_interval", value)];
        written(&pairs, Some(Role::Source)).and_then(Written::source).map(|s| s.discovery).map_err(|e| e.code())
    };
    assert_eq!(discovery("5s"), Ok(Some(Duration::from_secs(5))));
    assert_eq!(discovery("0"), Ok(None));
    assert_eq!(discovery("often"), Err(Code::InvalidOption));
}

#[test]
fn a_fixed_interval_of_reconnecting() {
    let pairs = [("bootstrap_servers", "b"), ("topic", "a"), ("reconnect.interval_ms", "3000")];
    let cluster = written(&pairs, Some(Role::Source)).and_then(|w| w.cluster()).unwrap();
    let config = cluster.config(ClientKind::Consumer, &[], &[]);
    assert_eq!(config.get("reconnect.backoff.ms"), Some("3000"));
    assert_eq!(config.get("reconnect.backoff.max.ms"), Some("3000"));
}

#[test]
fn the_advanced_example_of_the_specification_is_accepted() {
    let pairs = [
        ("topic", "events"),
        ("format", "json"),
        ("fetch.min.bytes", "1024"),
        ("fetch.max.wait.ms", "500"),
        ("max.partition.fetch.bytes", "1048576"),
        ("session.timeout.ms", "30000"),
        ("heartbeat.interval.ms", "3000"),
        ("connections.max.idle.ms", "540000"),
        ("max.poll.records", "500"),
        ("max.poll.interval.ms", "300000"),
        ("enable.auto.commit", "false"),
        ("commit.interval.ms", "5000"),
        ("auto.offset.reset", "earliest"),
    ];
    let mut all = vec![("bootstrap_servers", "localhost:9092")];
    all.extend_from_slice(&pairs);
    let settings = written(&all, Some(Role::Source)).and_then(Written::source).unwrap();
    assert_eq!(settings.commit_interval, Duration::from_secs(5));
    assert_eq!(settings.cluster.get("fetch.wait.max.ms"), Some("500"));
    let config = settings.cluster.config(ClientKind::Consumer, &[], &[]);
    assert_eq!(config.get("max.partition.fetch.bytes"), Some("1048576"));
    config.create_native_config().unwrap();
}

#[test]
fn a_connection_may_carry_options_of_both_roles_and_lack_some() {
    let shared = Options::from_pairs([
        ("bootstrap_servers", "b"),
        ("group_id", "g"),
        ("compression", "lz4"),
        ("linger.ms", "20"),
    ]);
    Written::read(&shared, None, None).unwrap();
    let sink = shared.overridden_by(&Options::from_pairs([("topic", "t")]));
    let settings = Written::read(&sink, Some(Role::Sink), None).unwrap().sink().unwrap();
    assert!(settings.topic_config().contains(&("compression.codec", "lz4")));
    assert_eq!(settings.cluster.get("linger.ms"), Some("20"));
    let config = |client| settings.cluster.config(client, &[], &[]);
    assert_eq!(config(ClientKind::Producer).get("linger.ms"), Some("20"));
    assert_eq!(config(ClientKind::Consumer).get("linger.ms"), None, "a consumer warns of it");
}

#[test]
fn settings_never_print_a_password() {
    let pairs = [("bootstrap_servers", "b"), ("auth.username", "u"), ("auth.password", "hunter2"), ("topic", "t")];
    let settings = written(&pairs, Some(Role::Source)).and_then(Written::source).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn no_sink_writes_where_the_progress_of_pipelines_is() {
    let pairs = [("bootstrap_servers", "b"), ("topic", "__laminar_progress")];
    let error = written(&pairs, Some(Role::Sink)).and_then(Written::sink).unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::ForbiddenOption, Some("topic")));
    written(&pairs, Some(Role::Source)).and_then(Written::source).unwrap();
}

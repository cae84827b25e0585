//! Options of Kafka connections and tables: what is understood, and how each mistake is told.

use std::time::Duration;

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
        &[&login[..], &[("security.protocol", "SSL")]].concat(),
        "conflicting_options: a login needs SASL_SSL or SASL_PLAINTEXT as protocol",
    );
    check_security(
        &[("auth.protocol", "SASL_SSL"), ("security.protocol", "SSL")],
        "conflicting_options: auth.protocol and security.protocol differ",
    );
}

/// Never a connection without a login where one was meant.
#[test]
fn each_part_of_a_login_asks_for_the_whole() {
    check_security(
        &[("auth.password", "p")],
        "missing_option: connector kafka needs option auth.username (hint: add auth.username = '…')",
    );
    let oidc = [
        ("sasl.oauthbearer.token.endpoint.url", "https://login/token"),
        ("sasl.oauthbearer.client.id", "x"),
        ("sasl.oauthbearer.client.secret", "y"),
    ];
    check_security(&oidc, "sasl_ssl OAUTHBEARER");
    let unsecured = [("enable.sasl.oauthbearer.unsecure.jwt", "true"), ("sasl.oauthbearer.config", "principal=a")];
    check_security(&unsecured, "sasl_ssl OAUTHBEARER");
    let parts = [
        ("auth.username", "u"),
        ("auth.password", "p"),
        ("auth.mechanism", "PLAIN"),
        ("auth.token", "x"),
        ("sasl.oauthbearer.method", "oidc"),
        oidc[0],
        unsecured[0],
    ];
    for part in parts {
        let expected = format!("conflicting_options: {} is given and auth.type is none", part.0);
        check_security(&[("auth.type", "none"), part], &expected);
    }
}

#[test]
fn tokens_come_from_one_place() {
    let iam = ("auth.type", "aws_msk_iam");
    check_security(&[iam, ("auth.region", "us-east-1")], "sasl_ssl OAUTHBEARER");
    check_security(
        &[iam, ("auth.region", "us-east-1"), ("auth.role_arn", "arn:aws:iam::1:role/x")],
        "sasl_ssl OAUTHBEARER",
    );
    check_security(
        &[iam],
        "missing_option: connector kafka needs option auth.region (hint: add 'auth.region' = 'us-east-1': the names of the brokers do not say it)",
    );
    check_security(
        &[iam, ("auth.region", "us east")],
        "invalid_option: option auth.region of connector kafka cannot be 'us east': expected a region of AWS such as us-east-1",
    );
    check_security(
        &[iam, ("auth.region", "us-east-1"), ("auth.username", "u")],
        "conflicting_options: auth.username or auth.password is given and auth.type is aws_msk_iam (hint: remove them: MSK IAM uses the server's AWS credentials)",
    );
    check_security(&[("auth.token", "x")], "sasl_ssl OAUTHBEARER");
    let oidc = [
        ("auth.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "x"),
        ("sasl.oauthbearer.client.secret", "y"),
        ("sasl.oauthbearer.token.endpoint.url", "https://login/token"),
    ];
    check_security(&oidc, "sasl_ssl OAUTHBEARER");
    check_security(
        &oidc[..4],
        "missing_option: connector kafka needs option sasl.oauthbearer.token.endpoint.url (hint: add sasl.oauthbearer.token.endpoint.url = '…')",
    );
    check_security(
        &[&oidc[..], &[("auth.token", "x")]].concat(),
        "conflicting_options: tokens come from more than one place: auth.token, sasl.oauthbearer.method = 'oidc' and enable.sasl.oauthbearer.unsecure.jwt exclude each other (hint: give one of them)",
    );
    check_security(
        &[("auth.mechanism", "oauthbearer")],
        "missing_option: connector kafka needs option auth.token (hint: OAUTHBEARER needs 'auth.token', or 'sasl.oauthbearer.method' = 'oidc' with an endpoint and a client)",
    );
    check_security(
        &[("auth.token", "x"), ("sasl.oauthbearer.extensions", "no-letters=1")],
        "invalid_option: option sasl.oauthbearer.extensions of connector kafka cannot be 'no-letters=1': expected name=value,…, with letters as names",
    );
    let unsecured = ("enable.sasl.oauthbearer.unsecure.jwt", "true");
    check_security(
        &[unsecured, ("auth.type", "sasl"), ("sasl.oauthbearer.config", "principal=a")],
        "sasl_ssl OAUTHBEARER",
    );
    check_security(
        &[unsecured, ("auth.type", "sasl"), ("sasl.oauthbearer.config", "user=a")],
        "invalid_option: option sasl.oauthbearer.config of connector kafka cannot be 'user=a': user: expected one of principal, principalClaimName, scope, scopeClaimName, lifeSeconds",
    );
}

#[test]
fn logins_that_cannot_be_had_say_what_can() {
    if cfg!(feature = "gssapi") {
        check_security(&[("auth.mechanism", "GSSAPI")], "sasl_ssl GSSAPI");
    } else {
        check_security(
            &[("auth.mechanism", "GSSAPI")],
            "not_supported: this build of Laminar has no Kerberos (GSSAPI) (hint: build it with --features gssapi, or use SCRAM-SHA-512 or OAUTHBEARER)",
        );
    }
    check_security(
        &[("auth.mechanism", "DELEGATION")],
        "not_supported: option auth.mechanism of connector kafka cannot be set: librdkafka cannot log in with delegation tokens (hint: use SCRAM-SHA-512 with a user of its own, or OAUTHBEARER)",
    );
    check_security(
        &[("sasl.mechanism", "AWS_MSK_IAM")],
        "not_supported: option sasl.mechanism of connector kafka cannot be set: it is not a mechanism of its own here (hint: use 'auth.type' = 'aws_msk_iam')",
    );
    check_security(
        &[("auth.mechanism", "NTLM")],
        "invalid_option: option auth.mechanism of connector kafka cannot be 'NTLM': expected one of PLAIN, plain, SCRAM-SHA-256, scram-sha-256, SCRAM-SHA-512, scram-sha-512, OAUTHBEARER, oauthbearer, GSSAPI, gssapi",
    );
}

/// EMQX's bridges, and the flat names of Laminar's REST pages.
#[test]
fn other_names_of_logins_and_tls_are_understood() {
    let emqx =
        [("authentication.mechanism", "plain"), ("authentication.username", "u"), ("authentication.password", "p")];
    check_security(&emqx, "sasl_ssl PLAIN u p");
    check_security(&[&emqx[..], &[("ssl.enable", "false")]].concat(), "sasl_plaintext PLAIN u p");
    let scram = [("authentication.mechanism", "scram_sha_256"), emqx[1], emqx[2], ("ssl.enable", "true")];
    check_security(&scram, "sasl_ssl SCRAM-SHA-256 u p");
    check_security(&[("ssl.enable", "true"), ("ssl.cacertfile", "/ca.pem")], "ssl /ca.pem");
    check_security(
        &[("ssl.enable", "true"), ("security.protocol", "PLAINTEXT")],
        "conflicting_options: ssl.enable and security.protocol differ",
    );
    let flat = [
        ("security_protocol", "SASL_SSL"),
        ("sasl_mechanism", "SCRAM-SHA-512"),
        ("sasl_username", "u"),
        ("sasl_password", "p"),
        ("ssl_ca_location", "/ca.pem"),
    ];
    check_security(&flat, "sasl_ssl SCRAM-SHA-512 u p /ca.pem");
    let settings = [
        ("bootstrap_hosts", "b:1"),
        ("topic", "t"),
        ("connect_timeout", "5s"),
        ("metadata_request_timeout", "5s"),
        ("min_metadata_refresh_interval", "3s"),
        ("socket_opts.nodelay", "true"),
        ("socket_opts.recbuf", "1024KB"),
        ("socket_opts.sndbuf", "1024KB"),
        ("ssl.ciphers", r#"["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]"#),
        ("ssl.verify", "verify_none"),
        ("ssl.versions", r#"["tlsv1.3", "tlsv1.2"]"#),
        ("ssl.server_name_indication", "auto"),
    ];
    let cluster = written(&settings, Some(Role::Source)).and_then(|w| w.cluster()).unwrap();
    assert_eq!(cluster.server_list(), ["b:1"]);
    for (key, value) in [
        ("socket.connection.setup.timeout.ms", "5000"),
        ("socket.timeout.ms", "5000"),
        ("topic.metadata.refresh.interval.ms", "3000"),
        ("socket.nagle.disable", "true"),
        ("socket.receive.buffer.bytes", "1048576"),
        ("socket.send.buffer.bytes", "1048576"),
        ("ssl.cipher.suites", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"),
        ("enable.ssl.certificate.verification", "false"),
    ] {
        assert_eq!(cluster.get(key), Some(value), "{key}");
    }
    for (key, value, hint) in [
        ("ssl.depth", "10", "OpenSSL takes care of that itself"),
        ("ssl.hibernate_after", "5s", "OpenSSL takes care of that itself"),
        ("ssl.reuse_sessions", "true", "OpenSSL takes care of that itself"),
        ("ssl.secure_renegotiate", "true", "OpenSSL takes care of that itself"),
        ("ssl.user_lookup_fun", "x", "OpenSSL takes care of that itself"),
        ("ssl.versions", r#"["tlsv1"]"#, "openssl.cnf"),
        ("ssl.server_name_indication", "disable", "ssl.endpoint.identification.algorithm"),
    ] {
        let error = written(&[("bootstrap_servers", "b:1"), (key, value)], None).err().unwrap();
        assert_eq!((error.code(), error.field()), (Code::NotSupported, Some(key)));
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
    }
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

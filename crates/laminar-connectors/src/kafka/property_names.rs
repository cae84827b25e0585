//! Every configuration property of librdkafka 2.12, and who may set it.
//!
//! Invariant, checked by a test: librdkafka knows each name. A property that a newer librdkafka adds is refused until it
//! stands here, so nothing that runs code or reads files slips through.

use Reason::{Callback, Engine, Kerberos, NoEffect, Oauth, RunsCode};
use Scope::{Both, Consumer, Producer};
use Verdict::{File, Pass, Refused};

/// Which kind of client has the property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Both,
    Consumer,
    Producer,
}

/// May a user set the property?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it is.
    Pass,
    /// Yes; the value is a file on the server.
    File,
    /// No.
    Refused(Reason),
}

/// Why a property is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Exactly-once or the checkpoints depend on it.
    Engine,
    /// It makes the server run a command or load a library.
    RunsCode,
    /// It is a function of the C interface.
    Callback,
    /// Kerberos is a feature of the build.
    Kerberos,
    /// A way to get tokens that is not built in.
    Oauth,
    /// librdkafka ignores it, or it belongs to a mode that Laminar does not use.
    NoEffect,
}

impl Reason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Engine => "it belongs to the engine: checkpoints and exactly-once depend on it",
            RunsCode => "it makes the server run a command or load a library",
            Callback => "it is a function of librdkafka's C interface",
            Kerberos => "Kerberos is not in this build: it is a feature, gssapi",
            Oauth => "this way to get tokens is not built in: client credentials, auth.token and AWS MSK IAM are",
            NoEffect => "it has no effect in the way Laminar uses the client",
        }
    }
}

const TICKET: Verdict = if cfg!(feature = "gssapi") { Pass } else { Refused(Kerberos) };

/// Name, kind of client, and verdict, in the order of the names.
pub(super) const PROPERTIES: &[(&str, Scope, Verdict)] = &[
    ("acks", Producer, Pass),
    ("allow.auto.create.topics", Both, Refused(Engine)),
    ("api.version.fallback.ms", Both, Pass),
    ("api.version.request", Both, Pass),
    ("api.version.request.timeout.ms", Both, Pass),
    ("auto.commit.enable", Consumer, Refused(Engine)),
    ("auto.commit.interval.ms", Consumer, Pass),
    ("auto.offset.reset", Consumer, Pass),
    ("background_event_cb", Both, Refused(Callback)),
    ("batch.num.messages", Producer, Pass),
    ("batch.size", Producer, Pass),
    ("bootstrap.servers", Both, Pass),
    ("broker.address.family", Both, Pass),
    ("broker.address.ttl", Both, Pass),
    ("broker.version.fallback", Both, Pass),
    ("builtin.features", Both, Refused(NoEffect)),
    ("check.crcs", Consumer, Pass),
    ("client.dns.lookup", Both, Pass),
    ("client.id", Both, Pass),
    ("client.rack", Both, Pass),
    ("closesocket_cb", Both, Refused(Callback)),
    ("compression.codec", Producer, Pass),
    ("compression.level", Producer, Pass),
    ("compression.type", Producer, Pass),
    ("connect_cb", Both, Refused(Callback)),
    ("connections.max.idle.ms", Both, Pass),
    ("consume.callback.max.messages", Consumer, Refused(NoEffect)),
    ("consume_cb", Consumer, Refused(Callback)),
    ("coordinator.query.interval.ms", Consumer, Pass),
    ("debug", Both, Pass),
    ("default_topic_conf", Both, Refused(Callback)),
    ("delivery.report.only.error", Producer, Refused(Engine)),
    ("delivery.timeout.ms", Producer, Pass),
    ("dr_cb", Producer, Refused(Callback)),
    ("dr_msg_cb", Producer, Refused(Callback)),
    ("enable.auto.commit", Consumer, Pass),
    ("enable.auto.offset.store", Consumer, Refused(Engine)),
    ("enable.gapless.guarantee", Producer, Refused(Engine)),
    ("enable.idempotence", Producer, Pass),
    ("enable.metrics.push", Both, Pass),
    ("enable.partition.eof", Consumer, Refused(Engine)),
    ("enable.random.seed", Both, Pass),
    ("enable.sasl.oauthbearer.unsecure.jwt", Both, Pass),
    ("enable.ssl.certificate.verification", Both, Pass),
    ("enabled_events", Both, Refused(Engine)),
    ("error_cb", Both, Refused(Callback)),
    ("fetch.error.backoff.ms", Consumer, Pass),
    ("fetch.max.bytes", Consumer, Pass),
    ("fetch.message.max.bytes", Consumer, Pass),
    ("fetch.min.bytes", Consumer, Pass),
    ("fetch.queue.backoff.ms", Consumer, Pass),
    ("fetch.wait.max.ms", Consumer, Pass),
    ("group.id", Consumer, Pass),
    ("group.instance.id", Consumer, Refused(Engine)),
    ("group.protocol", Consumer, Refused(Engine)),
    ("group.protocol.type", Consumer, Refused(Engine)),
    ("group.remote.assignor", Consumer, Refused(Engine)),
    ("heartbeat.interval.ms", Consumer, Pass),
    ("https.ca.location", Both, File),
    ("https.ca.pem", Both, Refused(Oauth)),
    ("interceptors", Both, Refused(RunsCode)),
    ("internal.termination.signal", Both, Refused(Engine)),
    ("isolation.level", Consumer, Pass),
    ("linger.ms", Producer, Pass),
    ("log.connection.close", Both, Pass),
    ("log.queue", Both, Refused(Engine)),
    ("log.thread.name", Both, Pass),
    ("log_cb", Both, Refused(Callback)),
    ("log_level", Both, Refused(NoEffect)),
    ("max.in.flight", Both, Pass),
    ("max.in.flight.requests.per.connection", Both, Pass),
    ("max.partition.fetch.bytes", Consumer, Pass),
    ("max.poll.interval.ms", Consumer, Pass),
    ("message.copy.max.bytes", Both, Pass),
    ("message.max.bytes", Both, Pass),
    ("message.send.max.retries", Producer, Pass),
    ("message.timeout.ms", Producer, Pass),
    ("metadata.broker.list", Both, Pass),
    ("metadata.max.age.ms", Both, Pass),
    ("metadata.recovery.rebootstrap.trigger.ms", Both, Pass),
    ("metadata.recovery.strategy", Both, Pass),
    ("msg_order_cmp", Producer, Refused(Callback)),
    ("oauthbearer_token_refresh_cb", Both, Refused(Callback)),
    ("offset.store.method", Consumer, Refused(Engine)),
    ("offset.store.path", Consumer, Refused(Engine)),
    ("offset.store.sync.interval.ms", Consumer, Refused(Engine)),
    ("offset_commit_cb", Consumer, Refused(Callback)),
    ("opaque", Both, Refused(Callback)),
    ("open_cb", Both, Refused(Callback)),
    ("partition.assignment.strategy", Consumer, Refused(Engine)),
    ("partitioner", Producer, Pass),
    ("partitioner_cb", Producer, Refused(Callback)),
    ("plugin.library.paths", Both, Refused(RunsCode)),
    ("produce.offset.report", Producer, Refused(NoEffect)),
    ("queue.buffering.backpressure.threshold", Producer, Pass),
    ("queue.buffering.max.kbytes", Producer, Pass),
    ("queue.buffering.max.messages", Producer, Pass),
    ("queue.buffering.max.ms", Producer, Pass),
    ("queued.max.messages.kbytes", Consumer, Pass),
    ("queued.min.messages", Consumer, Pass),
    ("queuing.strategy", Producer, Refused(Engine)),
    ("rebalance_cb", Consumer, Refused(Callback)),
    ("receive.message.max.bytes", Both, Pass),
    ("reconnect.backoff.jitter.ms", Both, Refused(NoEffect)),
    ("reconnect.backoff.max.ms", Both, Pass),
    ("reconnect.backoff.ms", Both, Pass),
    ("request.required.acks", Producer, Pass),
    ("request.timeout.ms", Producer, Pass),
    ("resolve_cb", Both, Refused(Callback)),
    ("retries", Producer, Pass),
    ("retry.backoff.max.ms", Both, Pass),
    ("retry.backoff.ms", Both, Pass),
    ("sasl.kerberos.keytab", Both, if cfg!(feature = "gssapi") { File } else { Refused(Kerberos) }),
    ("sasl.kerberos.kinit.cmd", Both, Refused(RunsCode)),
    ("sasl.kerberos.min.time.before.relogin", Both, TICKET),
    ("sasl.kerberos.principal", Both, TICKET),
    ("sasl.kerberos.service.name", Both, TICKET),
    ("sasl.mechanism", Both, Pass),
    ("sasl.mechanisms", Both, Pass),
    ("sasl.oauthbearer.assertion.algorithm", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.aud", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.iss", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.jti.include", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.claim.sub", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.file", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.jwt.template.file", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.private.key.file", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.private.key.passphrase", Both, Refused(Oauth)),
    ("sasl.oauthbearer.assertion.private.key.pem", Both, Refused(Oauth)),
    ("sasl.oauthbearer.client.credentials.client.id", Both, Pass),
    ("sasl.oauthbearer.client.credentials.client.secret", Both, Pass),
    ("sasl.oauthbearer.client.id", Both, Pass),
    ("sasl.oauthbearer.client.secret", Both, Pass),
    ("sasl.oauthbearer.config", Both, Pass),
    ("sasl.oauthbearer.extensions", Both, Pass),
    ("sasl.oauthbearer.grant.type", Both, Refused(Oauth)),
    ("sasl.oauthbearer.metadata.authentication.type", Both, Refused(Oauth)),
    ("sasl.oauthbearer.method", Both, Pass),
    ("sasl.oauthbearer.scope", Both, Pass),
    ("sasl.oauthbearer.token.endpoint.url", Both, Pass),
    ("sasl.password", Both, Pass),
    ("sasl.username", Both, Pass),
    ("security.protocol", Both, Pass),
    ("session.timeout.ms", Consumer, Pass),
    ("socket.blocking.max.ms", Both, Refused(NoEffect)),
    ("socket.connection.setup.timeout.ms", Both, Pass),
    ("socket.keepalive.enable", Both, Pass),
    ("socket.max.fails", Both, Pass),
    ("socket.nagle.disable", Both, Pass),
    ("socket.receive.buffer.bytes", Both, Pass),
    ("socket.send.buffer.bytes", Both, Pass),
    ("socket.timeout.ms", Both, Pass),
    ("socket_cb", Both, Refused(Callback)),
    ("ssl.ca.certificate.stores", Both, Pass),
    ("ssl.ca.location", Both, File),
    ("ssl.ca.pem", Both, Pass),
    ("ssl.certificate.location", Both, File),
    ("ssl.certificate.pem", Both, Pass),
    ("ssl.certificate.verify_cb", Both, Refused(Callback)),
    ("ssl.cipher.suites", Both, Pass),
    ("ssl.crl.location", Both, File),
    ("ssl.curves.list", Both, Pass),
    ("ssl.endpoint.identification.algorithm", Both, Pass),
    ("ssl.engine.id", Both, Refused(RunsCode)),
    ("ssl.engine.location", Both, Refused(RunsCode)),
    ("ssl.key.location", Both, File),
    ("ssl.key.password", Both, Pass),
    ("ssl.key.pem", Both, Pass),
    ("ssl.keystore.location", Both, File),
    ("ssl.keystore.password", Both, Pass),
    ("ssl.providers", Both, Refused(RunsCode)),
    ("ssl.sigalgs.list", Both, Pass),
    ("ssl_ca", Both, Refused(Callback)),
    ("ssl_certificate", Both, Refused(Callback)),
    ("ssl_engine_callback_data", Both, Refused(RunsCode)),
    ("ssl_key", Both, Refused(Callback)),
    ("statistics.interval.ms", Both, Refused(Engine)),
    ("stats_cb", Both, Refused(Callback)),
    ("sticky.partitioning.linger.ms", Producer, Pass),
    ("test.mock.broker.rtt", Both, Refused(Engine)),
    ("test.mock.num.brokers", Both, Refused(Engine)),
    ("throttle_cb", Both, Refused(Callback)),
    ("topic.blacklist", Both, Pass),
    ("topic.metadata.propagation.max.ms", Both, Pass),
    ("topic.metadata.refresh.fast.cnt", Both, Refused(NoEffect)),
    ("topic.metadata.refresh.fast.interval.ms", Both, Pass),
    ("topic.metadata.refresh.interval.ms", Both, Pass),
    ("topic.metadata.refresh.sparse", Both, Pass),
    ("transaction.timeout.ms", Producer, Refused(Engine)),
    ("transactional.id", Producer, Refused(Engine)),
];

/// Names that only the Java client has: the name that means the same here.
pub(super) const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("reconnect.interval_ms", "reconnect.backoff.ms"),
    ("reconnect.retry.interval_ms", "reconnect.backoff.ms"),
    ("max.request.size", "message.max.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
];

/// Names that only the Java client has and that cannot be translated: what to use instead.
pub(super) const JAVA_ONLY: &[(&str, &str)] = &[
    ("default.api.timeout.ms", "use socket.timeout.ms"),
    ("exclude.internal.topics", "name the topics with topic or topics"),
    ("interceptor.classes", "Java classes cannot be loaded"),
    ("key.deserializer", "the format option says how records are read"),
    ("key.serializer", "key_field says which column is the key"),
    ("max.block.ms", "a sink waits for the broker without a limit of its own; use delivery.timeout.ms"),
    ("metric.reporters", "Java classes cannot be loaded; metrics are on /metrics"),
    ("partitioner.class", "use partitioner: murmur2_random is what the Java client does by default"),
    ("sasl.client.callback.handler.class", "Java classes cannot be loaded; use auth.mechanism"),
    ("sasl.jaas.config", "use auth.mechanism, auth.username and auth.password"),
    ("sasl.login.callback.handler.class", "Java classes cannot be loaded; use auth.mechanism"),
    ("sasl.login.class", "Java classes cannot be loaded; use auth.mechanism"),
    ("ssl.keystore.type", "a keystore is PKCS#12; PEM files go to ssl.certificate.location and ssl.key.location"),
    ("ssl.protocol", "the best version that both sides know is used"),
    ("ssl.truststore.location", "use ssl.ca.location with a PEM file"),
    ("ssl.truststore.password", "use ssl.ca.location with a PEM file"),
    ("ssl.truststore.type", "use ssl.ca.location with a PEM file"),
    ("value.deserializer", "the format option says how records are read"),
    ("value.serializer", "the format option says how records are written"),
];

/// Names that other systems have for what is done elsewhere here: name, whose it is, what to do instead.
pub(super) const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("group.max_rejoin_attempts", "EMQX", NO_GROUP),
    ("max_rejoin_attempts", "EMQX", NO_GROUP),
    ("metrics_interval_s", "tremor", "counters are always current: GET /metrics, system.metrics, system.connections"),
    ("offset_commit_interval_seconds", "EMQX", "use 'commit.interval.ms'"),
    ("offset_reset_policy", "EMQX", "use offset = 'earliest' or 'latest'"),
    ("reconnect.max_retries", "tremor", RETRIES),
    ("reconnect.retry.max_retries", "tremor", RETRIES),
    (
        "retry_failed_events",
        "tremor",
        "a pipeline that fails starts again from its checkpoint, as its options on_failure and max_restarts say; bad_data says what becomes of a record that cannot be read",
    ),
];
const NO_GROUP: &str = "nothing joins the consumer group, so there is nothing to rejoin: leave it out";
const RETRIES: &str =
    "a broker that is away is waited for; on_failure and max_restarts of the pipeline bound how often it starts again";

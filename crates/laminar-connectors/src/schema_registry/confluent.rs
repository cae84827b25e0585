//! The calls of Confluent's protocol: each with its time limit, repeated while there is no answer and nobody waits at a terminal.
//!
//! The rule that must stay true: no name or password shows in an error or a debug print.

use std::fmt;

use async_trait::async_trait;
use futures::future::BoxFuture;
use laminar_core::options::Secret;
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::{
    Framing, ReferencedSchema, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaText,
};
use reqwest::ClientBuilder;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, perform_sr_call};
use schema_registry_converter::schema_registry_common::{RawRegisteredSchema, RegisteredReference, SrCall};
use serde_json::json;

use super::Calls;
use super::confluent_error::from_registry;
use super::patience::{ANSWER, Patience};
use crate::http::escaped;

/// Schemas that one may refer to, directly or through others.
const MAX_REFERENCES: usize = 1000;

/// How to reach one registry.
pub(super) struct Confluent {
    settings: SrSettings,
    /// For messages: the addresses.
    name: String,
    patience: Patience,
}

/// The settings hold the password.
impl fmt::Debug for Confluent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Confluent({})", self.name)
    }
}

impl Confluent {
    pub fn new(options: &RegistryOptions, patience: Patience) -> Result<Self> {
        let endpoints = options.endpoint.as_deref().unwrap_or_default();
        // Not the value: what is wrong with it may be the password in it.
        let invalid = |detail: &str| {
            Error::new(Code::InvalidOption, "option schema_registry.endpoint is not an address")
                .with_detail(detail)
                .with_field("schema_registry.endpoint")
        };
        if endpoints.iter().any(|url| has_login(url)) {
            return Err(invalid("a name and password do not belong into it")
                .with_hint("give schema_registry.api_key and schema_registry.api_secret"));
        }
        let mut urls = endpoints.iter().map(|url| url.trim_end_matches('/').to_string());
        let Some(first) = urls.next() else { return Err(invalid("expected an address such as http://host:8081")) };
        let mut builder = SrSettings::new_builder(first);
        for url in urls {
            builder.add_url(url);
        }
        builder.set_timeout(ANSWER);
        if let Some(key) = &options.api_key {
            builder.set_basic_authorization(key, options.api_secret.as_ref().map(Secret::expose));
        }
        // Each call has a runtime of its own, and a connection that is kept would outlive it.
        let client = ClientBuilder::new().pool_max_idle_per_host(0).connect_timeout(ANSWER);
        let settings = builder.build_with(client).map_err(|error| invalid(&error.error))?;
        Ok(Self { settings, name: endpoints.join(","), patience })
    }

    /// One call, made again while there is no answer, unless a person waits for it.
    async fn call(&self, what: &str, call: SrCall<'_>) -> Result<RawRegisteredSchema> {
        let asked = || async move {
            perform_sr_call(&self.settings, call).await.map_err(|error| from_registry(&error, what, &self.name))
        };
        self.patience.again(asked).await
    }

    /// The schema with all that it refers to.
    async fn whole(&self, id: SchemaId, raw: RawRegisteredSchema) -> Result<RegisteredSchema> {
        let kind = match raw.schema_type.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            Some(other) => {
                let message = format!("schema {id} of the registry is of type {other}");
                return Err(Error::new(Code::InvalidSchema, message).with_detail("expected AVRO, PROTOBUF or JSON"));
            }
        };
        let text = raw.schema.ok_or_else(|| self.malformed("a schema"))?;
        let mut references = Vec::new();
        self.follow(raw.references.unwrap_or_default(), &mut references, 0).await?;
        Ok(RegisteredSchema { id, kind, text, references })
    }

    /// Adds the schemas, each after those that it refers to itself.
    fn follow<'a>(
        &'a self,
        references: Vec<RegisteredReference>,
        found: &'a mut Vec<ReferencedSchema>,
        depth: usize,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for reference in references {
                if found.iter().any(|known| known.name == reference.name) {
                    continue;
                }
                if found.len() >= MAX_REFERENCES || depth >= 64 {
                    return Err(Error::new(Code::InvalidSchema, "a schema refers to too many others"));
                }
                let what = format!("version {} of subject {}", reference.version, reference.subject);
                let subject = escaped(&reference.subject);
                let raw = self.call(&what, SrCall::GetBySubjectAndVersion(&subject, reference.version)).await?;
                self.follow(raw.references.unwrap_or_default(), found, depth + 1).await?;
                let text = raw.schema.ok_or_else(|| self.malformed("a schema"))?;
                found.push(ReferencedSchema { name: reference.name, text });
            }
            Ok(())
        })
    }

    fn malformed(&self, lacks: &str) -> Error {
        Error::new(Code::ConnectorError, format!("the schema registry at {} answered without {lacks}", self.name))
            .with_hint("is the address that of a schema registry?")
    }
}

#[async_trait]
impl Calls for Confluent {
    fn name(&self) -> &str {
        &self.name
    }

    fn framing(&self) -> Framing {
        Framing::Confluent
    }

    async fn schema(&self, id: SchemaId) -> Result<RegisteredSchema> {
        // Some answer an id above 2^31 as if the page itself were not there, which would look like a wrong address.
        let number = match id {
            SchemaId::Number(number) if i32::try_from(number).is_ok() => number,
            _ => {
                let message = format!("there is no schema {id}: a registry's ids are below 2^31");
                return Err(Error::new(Code::UnknownSchema, message));
            }
        };
        let raw = self.call(&format!("schema {id}"), SrCall::GetById(number)).await?;
        self.whole(id, raw).await
    }

    async fn latest(&self, subject: &str) -> Result<RegisteredSchema> {
        let raw = self.call(&format!("subject {subject}"), SrCall::GetLatest(&escaped(subject))).await?;
        let id = raw.id.ok_or_else(|| self.malformed("an id"))?;
        self.whole(id.into(), raw).await
    }

    async fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        let what = format!("registering a schema under subject {subject}");
        let answer = self.call(&what, SrCall::PostNew(&escaped(subject), &body(schema))).await?;
        answer.id.map(SchemaId::from).ok_or_else(|| self.malformed("an id"))
    }

    async fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        let what = format!("the table's schema under subject {subject}");
        let answer =
            self.call(&what, SrCall::PostForVersion(&escaped(subject), &body(schema))).await.map_err(|error| {
                match error.code() {
                    Code::UnknownSchema => error.with_hint("register it, or set 'auto.register.schemas' = 'true'"),
                    _ => error,
                }
            })?;
        answer.id.map(SchemaId::from).ok_or_else(|| self.malformed("an id"))
    }
}

/// `http://name:password@host/…`
fn has_login(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn body(schema: &SchemaText) -> String {
    let kind = match schema.kind {
        SchemaKind::Avro => "AVRO",
        SchemaKind::Protobuf => "PROTOBUF",
        SchemaKind::Json => "JSON",
    };
    json!({"schema": schema.text, "schemaType": kind}).to_string()
}

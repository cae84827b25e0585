//! The calls of AWS Glue's Schema Registry: its schemas have names, as subjects, and each version of one has a UUID.
//!
//! ```text
//!  register  GetSchemaByDefinition ─► there: its version
//!                 │ not there, or refused once
//!                 ▼
//!            RegisterSchemaVersion ─► the version, once Glue has checked it against those before
//!                 │ no such schema             ▲
//!                 ▼                            │ another made it meanwhile
//!            CreateSchema ─────────────────────┘
//! ```
//!
//! A schema is created with compatibility BACKWARD, as Glue's own serialisers do.

use std::time::Duration;

use async_trait::async_trait;
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::{Framing, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaText};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Calls;
use super::aws::Aws;
use super::glue_error::Refusal;
use super::patience::Patience;

/// Wait before a version is asked for again that Glue still checks.
const CHECKING: Duration = Duration::from_millis(250);
/// Times that it is asked for.
const MAX_CHECKS: usize = 40;

/// One registry of one region.
#[derive(Debug)]
pub(super) struct Glue {
    aws: Aws,
    registry: String,
    patience: Patience,
}

/// A version of a schema, as answers describe it.
struct Version {
    id: SchemaId,
    status: String,
}

impl Glue {
    /// No I/O. Errors: `missing_option`.
    pub fn new(options: &RegistryOptions, patience: Patience) -> Result<Self> {
        options.check()?;
        let endpoint = options.endpoint.as_ref().and_then(|all| all.first()).map(String::as_str);
        let aws = Aws::new(options.region.as_deref().unwrap_or_default(), endpoint)?;
        Ok(Self { aws, registry: options.glue_registry().to_string(), patience })
    }

    /// One call, made again while there is no answer, unless a person waits for it.
    async fn call(&self, operation: &str, request: Value, what: &str) -> Result<Value> {
        let request = &request;
        self.patience.again(|| async move { self.once(operation, request, what).await.map_err(|r| r.error) }).await
    }

    async fn once(&self, operation: &str, request: &Value, what: &str) -> Result<Value, Refusal> {
        self.aws.call(operation, request, what).await
    }

    fn schema_id(&self, name: &str) -> Value {
        json!({"RegistryName": self.registry, "SchemaName": name})
    }

    fn registered(&self, answer: &Value) -> Result<RegisteredSchema> {
        let Version { id, status } = self.version(answer, "Status")?;
        if status == "DELETING" {
            return Err(Error::new(Code::UnknownSchema, format!("schema {id} is being deleted from AWS Glue")));
        }
        let kind = match text(answer, "DataFormat") {
            Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            other => {
                let message = format!("schema {id} of AWS Glue is of type {}", other.unwrap_or("none"));
                return Err(Error::new(Code::InvalidSchema, message).with_detail("expected AVRO, PROTOBUF or JSON"));
            }
        };
        let text = text(answer, "SchemaDefinition").ok_or_else(|| self.malformed("a SchemaDefinition"))?;
        Ok(RegisteredSchema { id, kind, text: text.to_string(), references: Vec::new() })
    }

    fn version(&self, answer: &Value, status: &str) -> Result<Version> {
        let id = text(answer, "SchemaVersionId").and_then(SchemaId::of_uuid);
        let id = id.ok_or_else(|| self.malformed("a SchemaVersionId"))?;
        // What is read by its UUID was checked once.
        Ok(Version { id, status: text(answer, status).unwrap_or("AVAILABLE").to_string() })
    }

    async fn by_definition(&self, name: &str, schema: &SchemaText, what: &str) -> Result<Version> {
        let request = json!({"SchemaId": self.schema_id(name), "SchemaDefinition": schema.text});
        let answer = self.call("GetSchemaByDefinition", request, what).await?;
        self.version(&answer, "Status")
    }

    async fn register_version(&self, name: &str, schema: &SchemaText, what: &str) -> Result<Version> {
        let request = json!({"SchemaId": self.schema_id(name), "SchemaDefinition": schema.text});
        let answer = self.call("RegisterSchemaVersion", request, what).await?;
        self.version(&answer, "Status")
    }

    /// `None`: another made a schema of this name meanwhile.
    async fn create(&self, name: &str, schema: &SchemaText, what: &str) -> Result<Option<Version>> {
        let mut request = json!({
            "SchemaName": name,
            "DataFormat": data_format(schema.kind),
            "Compatibility": "BACKWARD",
            "SchemaDefinition": schema.text,
        });
        // Glue makes the default registry itself, but only where none is named.
        if self.registry != "default-registry"
            && let Some(request) = request.as_object_mut()
        {
            request.insert("RegistryId".into(), json!({"RegistryName": self.registry}));
        }
        let request = &request;
        let created = || async move {
            match self.once("CreateSchema", request, what).await {
                Ok(answer) => Ok(Some(answer)),
                Err(refusal) if refusal.exists => Ok(None),
                Err(refusal) => Err(refusal.error),
            }
        };
        let created = self.patience.again(created).await.map_err(|error| match error.code() {
            Code::UnknownSchema => {
                Error::new(Code::UnknownSchema, format!("AWS Glue has no schema registry {}", self.registry))
                    .with_hint("create it in AWS, or leave schema_registry.registry_name out")
                    .with_field("schema_registry.registry_name")
            }
            _ => error,
        })?;
        created.map(|answer| self.version(&answer, "SchemaVersionStatus")).transpose()
    }

    /// The version, once Glue has checked it.
    async fn checked(&self, version: Version, what: &str) -> Result<SchemaId> {
        let Version { id, mut status } = version;
        for _ in 0..MAX_CHECKS {
            match status.as_str() {
                "AVAILABLE" => return Ok(id),
                "PENDING" => {}
                "FAILURE" => {
                    return Err(Error::new(
                        Code::IncompatibleSchema,
                        format!("the schema registry of AWS Glue refused {what}"),
                    )
                    .with_detail(format!("version {id} does not follow the schema's compatibility rule"))
                    .with_hint("the rule forbids this change of the schema"));
                }
                other => {
                    return Err(Error::new(Code::UnknownSchema, format!("schema {id} of AWS Glue cannot be used"))
                        .with_detail(format!("its status is {other}")));
                }
            }
            sleep(CHECKING).await;
            let answer = self.call("GetSchemaVersion", json!({"SchemaVersionId": id.to_string()}), what).await?;
            status = self.version(&answer, "Status")?.status;
        }
        Err(Error::new(Code::Timeout, format!("AWS Glue does not finish checking version {id} of the schema")))
    }

    fn malformed(&self, lacks: &str) -> Error {
        Error::new(Code::ConnectorError, format!("AWS Glue at {} answered without {lacks}", self.aws.url()))
            .with_hint("is the address that of AWS Glue?")
    }
}

#[async_trait]
impl Calls for Glue {
    fn name(&self) -> &str {
        self.aws.url()
    }

    fn framing(&self) -> Framing {
        Framing::Glue
    }

    async fn schema(&self, id: SchemaId) -> Result<RegisteredSchema> {
        let SchemaId::Version(_) = id else {
            return Err(Error::new(Code::UnknownSchema, format!("there is no schema {id}: AWS Glue's are UUIDs")));
        };
        let request = json!({"SchemaVersionId": id.to_string()});
        let answer = self.call("GetSchemaVersion", request, &format!("schema version {id}")).await?;
        self.registered(&answer)
    }

    async fn latest(&self, subject: &str) -> Result<RegisteredSchema> {
        let request = json!({"SchemaId": self.schema_id(subject), "SchemaVersionNumber": {"LatestVersion": true}});
        let what = format!("schema {subject} in {}", self.registry);
        let answer = self.call("GetSchemaVersion", request, &what).await?;
        self.registered(&answer)
    }

    async fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        let what = format!("registering a version of schema {subject} in {}", self.registry);
        match self.by_definition(subject, schema, &what).await {
            Ok(version) if version.status != "FAILURE" => return self.checked(version, &what).await,
            Err(error) if error.code() != Code::UnknownSchema => return Err(error),
            _ => {}
        }
        let version = match self.register_version(subject, schema, &what).await {
            Err(error) if error.code() == Code::UnknownSchema => match self.create(subject, schema, &what).await? {
                Some(version) => version,
                None => self.register_version(subject, schema, &what).await?,
            },
            registered => registered?,
        };
        self.checked(version, &what).await
    }

    async fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        let what = format!("the table's schema under the name {subject} in {}", self.registry);
        let hint = |error: Error| match error.code() {
            Code::UnknownSchema => error.with_hint("register it, or set 'auto.register.schemas' = 'true'"),
            _ => error,
        };
        let version = self.by_definition(subject, schema, &what).await.map_err(hint)?;
        self.checked(version, &what).await.map_err(hint)
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> Option<&'a str> {
    answer.get(field).and_then(Value::as_str)
}

fn data_format(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => "AVRO",
        SchemaKind::Protobuf => "PROTOBUF",
        SchemaKind::Json => "JSON",
    }
}

#[cfg(test)]
#[path = "glue_tests.rs"]
mod tests;

//! What a user may write about the schema registry in `WITH (…)`. The doc comments are the reference page.

use laminar_core::options::Secret;
use laminar_core::{Code, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a table's schemas are registered, and under which name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RegistryOptions {
    /// Address of the schema registry, which speaks Confluent's protocol: `http://host:8081`; several, of which the first that
    /// answers serves, separated by commas; `schema.registry.url` means the same. Records of `avro` and `protobuf` then begin with the id of their schema.
    #[serde(default, rename = "schema_registry.endpoint")]
    pub endpoint: Option<Vec<String>>,
    /// API key, or name, to log in to the schema registry with.
    #[serde(default, rename = "schema_registry.api_key")]
    pub api_key: Option<String>,
    /// API secret, or password, that goes with the key; best given as `${secret:name}`, after `CREATE SECRET`.
    #[serde(default, rename = "schema_registry.api_secret")]
    pub api_secret: Option<Secret>,
    /// Subject under which the schema of the values is registered; `schema.registry.subject` means the same. Default: what
    /// `schema.registry.strategy` makes of the topic.
    #[serde(default)]
    pub value_subject: Option<String>,
    /// How the subject is named where `value_subject` does not say it.
    #[serde(default, rename = "schema.registry.strategy")]
    pub strategy: SubjectStrategy,
    /// For sinks: `true` registers the schema of the table if the subject does not have it yet; `false` fails then.
    #[serde(default = "yes", rename = "auto.register.schemas")]
    pub register: bool,
}

fn yes() -> bool {
    true
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            api_key: None,
            api_secret: None,
            value_subject: None,
            strategy: SubjectStrategy::default(),
            register: yes(),
        }
    }
}

/// How a subject is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectStrategy {
    /// `<topic>-value`.
    #[default]
    TopicName,
    /// The full name of the record or message.
    RecordName,
    /// `<topic>-` and the full name of the record or message.
    TopicRecordName,
}

impl RegistryOptions {
    /// Checks each option by itself, as those of a connection are, which may be incomplete. No I/O. Errors: `invalid_option`.
    pub fn check_each(&self) -> Result<()> {
        let Some(endpoints) = &self.endpoint else { return Ok(()) };
        let invalid = |detail: &str| {
            // Not the value: what is wrong with it may be the password in it.
            Error::new(Code::InvalidOption, "option schema_registry.endpoint is not an address")
                .with_detail(detail)
                .with_field("schema_registry.endpoint")
        };
        if endpoints.iter().any(|url| url.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))) {
            return Err(invalid("a name and password do not belong into it")
                .with_hint("give schema_registry.api_key and schema_registry.api_secret"));
        }
        let legal = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        match endpoints.is_empty() || !endpoints.iter().all(legal) {
            true => Err(invalid("expected an address such as http://host:8081")),
            false => Ok(()),
        }
    }

    /// Checks a table's options, all together. No I/O. Errors: `missing_option`, `invalid_option`.
    pub fn check(&self) -> Result<()> {
        self.check_each()?;
        if self.endpoint.is_none() {
            let given = [
                ("schema_registry.api_key", self.api_key.is_some()),
                ("schema_registry.api_secret", self.api_secret.is_some()),
                ("value_subject", self.value_subject.is_some()),
                ("schema.registry.strategy", self.strategy != SubjectStrategy::default()),
                ("auto.register.schemas", self.register != yes()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(Error::new(
                    Code::MissingOption,
                    format!("option {name} is given, and schema_registry.endpoint is not"),
                )
                .with_hint("add 'schema_registry.endpoint' = 'http://host:8081'")
                .with_field("schema_registry.endpoint")),
                None => Ok(()),
            };
        }
        if self.api_secret.is_some() && self.api_key.is_none() {
            return Err(Error::new(Code::MissingOption, "schema_registry.api_secret needs schema_registry.api_key")
                .with_field("schema_registry.api_key"));
        }
        Ok(())
    }
}

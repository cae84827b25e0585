//! What a user may write about the schema registry in `WITH (…)`. The doc comments are the reference page.

use laminar_core::options::Secret;
use laminar_core::{Code, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a table's schemas are registered, and under which name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RegistryOptions {
    /// Which registry the schemas are in. Records of `avro` and `protobuf` then begin with the id of their schema, as that registry's
    /// own clients write it.
    #[serde(default, rename = "schema_registry.type")]
    pub kind: RegistryKind,
    /// Address of the schema registry: `http://host:8081`; several, of which the first that answers serves, separated by commas;
    /// `schema.registry.url` means the same. With `schema_registry.type = 'glue'` it is one address, and only needed where it is not
    /// the region's own, as with a VPC endpoint.
    #[serde(default, rename = "schema_registry.endpoint")]
    pub endpoint: Option<Vec<String>>,
    /// With `schema_registry.type = 'glue'`, and needed there: the AWS region of the registry, such as `eu-west-1`. The requests are
    /// signed with the server's own AWS credentials.
    #[serde(default, rename = "schema_registry.region")]
    pub region: Option<String>,
    /// With `schema_registry.type = 'glue'`: the registry's name. Default: `default-registry`.
    #[serde(default, rename = "schema_registry.registry_name")]
    pub registry_name: Option<String>,
    /// With `schema_registry.type = 'glue'`, for sinks: how the bodies of values are compressed, never those of keys; a source reads both.
    /// Default: `none`.
    #[serde(default, rename = "schema_registry.compression")]
    pub compression: Option<Compression>,
    /// API key, or name, to log in to the schema registry with.
    #[serde(default, rename = "schema_registry.api_key")]
    pub api_key: Option<String>,
    /// API secret, or password, that goes with the key; best given as `${secret:name}`, after `CREATE SECRET`.
    #[serde(default, rename = "schema_registry.api_secret")]
    pub api_secret: Option<Secret>,
    /// Subject under which the schema of the values is registered, which in Glue is the schema's name; `schema.registry.subject` means
    /// the same. Default: what `schema.registry.strategy` makes of the topic.
    #[serde(default)]
    pub value_subject: Option<String>,
    /// Subject under which the schema of the keys is registered, where `key.format` names a format with schemas. Default: as that of the
    /// values, with `<topic>-key` for `<topic>-value`.
    #[serde(default)]
    pub key_subject: Option<String>,
    /// How the subject is named where `value_subject`, or `key_subject`, does not say it.
    #[serde(default, rename = "schema.registry.strategy")]
    pub strategy: SubjectStrategy,
    /// For sinks: `true` registers the schema of the table if the subject does not have it yet; `false` fails then. A schema that Glue
    /// does not have at all is created with compatibility `BACKWARD`, as Glue's own serialisers do.
    #[serde(default = "yes", rename = "auto.register.schemas")]
    pub register: bool,
}

fn yes() -> bool {
    true
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            kind: RegistryKind::default(),
            endpoint: None,
            region: None,
            registry_name: None,
            compression: None,
            api_key: None,
            api_secret: None,
            value_subject: None,
            key_subject: None,
            strategy: SubjectStrategy::default(),
            register: yes(),
        }
    }
}

/// Which registry it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistryKind {
    /// One that speaks Confluent's protocol, at `schema_registry.endpoint`.
    #[default]
    Confluent,
    /// AWS Glue's Schema Registry, in `schema_registry.region`.
    Glue,
}

/// How the bodies of records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// They are not.
    #[default]
    None,
    /// Each by itself, by zlib.
    Zlib,
}

/// How a subject is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectStrategy {
    /// `<topic>-value`, in Glue `<topic>`; for keys `<topic>-key`.
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

    /// Is there a registry?
    pub fn is_given(&self) -> bool {
        self.endpoint.is_some() || self.kind == RegistryKind::Glue
    }

    /// The registry's name in Glue.
    pub fn glue_registry(&self) -> &str {
        self.registry_name.as_deref().unwrap_or("default-registry")
    }

    /// Checks a table's options, all together. No I/O. Errors: `missing_option`, `invalid_option`, `conflicting_options`.
    pub fn check(&self) -> Result<()> {
        self.check_each()?;
        match self.kind {
            RegistryKind::Glue => return self.check_glue(),
            RegistryKind::Confluent => self.refuse_glues()?,
        }
        if !self.is_given() {
            let given = [
                ("schema_registry.api_key", self.api_key.is_some()),
                ("schema_registry.api_secret", self.api_secret.is_some()),
                ("value_subject", self.value_subject.is_some()),
                ("key_subject", self.key_subject.is_some()),
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

    fn check_glue(&self) -> Result<()> {
        if self.region.as_deref().is_none_or(|region| region.trim().is_empty()) {
            return Err(Error::new(Code::MissingOption, "schema_registry.type = 'glue' needs schema_registry.region")
                .with_hint("add 'schema_registry.region' = 'eu-west-1', or where the registry is")
                .with_field("schema_registry.region"));
        }
        // It becomes part of a host's name.
        let is_name = |region: &str| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !self.region.as_deref().is_some_and(is_name) {
            return Err(Error::new(Code::InvalidOption, "option schema_registry.region is not an AWS region")
                .with_detail("expected a name such as eu-west-1")
                .with_field("schema_registry.region"));
        }
        if self.endpoint.as_ref().is_some_and(|all| all.len() > 1) {
            return Err(Error::new(Code::InvalidOption, "schema_registry.endpoint of AWS Glue is one address")
                .with_hint("leave it out, unless there is a VPC endpoint")
                .with_field("schema_registry.endpoint"));
        }
        let given = [
            ("schema_registry.api_key", self.api_key.is_some()),
            ("schema_registry.api_secret", self.api_secret.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => {
                Err(Error::new(Code::ConflictingOptions, format!("{name} is not for schema_registry.type = 'glue'"))
                    .with_detail("requests to AWS are signed with the server's own AWS credentials")
                    .with_hint("remove it")
                    .with_field(*name))
            }
            None => Ok(()),
        }
    }

    fn refuse_glues(&self) -> Result<()> {
        let given = [
            ("schema_registry.region", self.region.is_some()),
            ("schema_registry.registry_name", self.registry_name.is_some()),
            ("schema_registry.compression", self.compression.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::new(Code::ConflictingOptions, format!("{name} is for AWS Glue"))
                .with_hint("add 'schema_registry.type' = 'glue', or remove it")
                .with_field(*name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::Options;

    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Option<(Code, String)> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (format!("schema_registry.{name}"), *value)).collect();
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), *value));
        let options: RegistryOptions = Options::from_pairs(pairs).parse("the test").unwrap();
        options.check().err().map(|error| (error.code(), error.field().unwrap_or_default().to_string()))
    }

    #[test]
    fn glues_options_belong_to_glue() {
        let refused = |code, name: &str| Some((code, format!("schema_registry.{name}")));
        let (glue, region) = (("type", "glue"), ("region", "eu-west-1"));
        assert_eq!(check(&[]), None);
        assert_eq!(check(&[glue, region, ("registry_name", "r"), ("compression", "zlib")]), None);
        assert_eq!(check(&[glue, region, ("endpoint", "https://vpce-1.glue.eu-west-1.vpce.amazonaws.com")]), None);
        assert_eq!(check(&[glue]), refused(Code::MissingOption, "region"));
        assert_eq!(check(&[glue, ("region", "eu.example.org/")]), refused(Code::InvalidOption, "region"));
        assert_eq!(check(&[glue, region, ("endpoint", "http://a,http://b")]), refused(Code::InvalidOption, "endpoint"));
        assert_eq!(check(&[glue, region, ("api_key", "k")]), refused(Code::ConflictingOptions, "api_key"));
        for name in ["region", "registry_name", "compression"] {
            let pairs = [("endpoint", "http://a"), (name, "none")];
            assert_eq!(check(&pairs), refused(Code::ConflictingOptions, name));
            assert_eq!(check(&pairs[1..]), refused(Code::ConflictingOptions, name));
        }
    }
}

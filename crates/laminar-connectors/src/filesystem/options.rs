//! What a user may write in `WITH (…)`. The doc comments are the reference page.

use laminar_core::options::ByteSize;
use laminar_core::{Code, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of a source of files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceOptions {
    /// The folder. Its files are read once, in the order of their names; names that begin with `.` or `_` are left out.
    pub path: String,
    /// Only files whose path below the folder matches, such as `2024-*.json` or `*/orders.json`. `*` and `?` do not match
    /// `/`, `**` does. Default: every file.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Whether folders inside the folder are read too.
    #[serde(default)]
    pub recursive: bool,
}

/// Options of a sink of files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SinkOptions {
    /// The folder, created if absent. A file appears there complete, with the checkpoint that its rows belong to.
    pub path: String,
    /// A file that has reached this size is closed and the next one begun. Every checkpoint begins new files too.
    #[serde(default = "default_size")]
    pub max_file_size: ByteSize,
    /// A file that has this many rows is closed and the next one begun. Default: no limit.
    #[serde(default)]
    pub max_records_per_file: Option<u64>,
}

fn default_size() -> ByteSize {
    ByteSize(128 << 20)
}

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub struct Rolling {
    pub bytes: u64,
    pub rows: u64,
}

impl SinkOptions {
    pub fn check(&self) -> Result<()> {
        let zero = |key: &str| {
            Err(Error::new(Code::InvalidOption, format!("option {key} of connector filesystem cannot be '0'"))
                .with_detail("expected at least 1")
                .with_field(key))
        };
        match (self.max_file_size.0, self.max_records_per_file) {
            (0, _) => zero("max_file_size"),
            (_, Some(0)) => zero("max_records_per_file"),
            _ => Ok(()),
        }
    }

    pub fn rolling(&self) -> Rolling {
        Rolling { bytes: self.max_file_size.0, rows: self.max_records_per_file.unwrap_or(u64::MAX) }
    }
}

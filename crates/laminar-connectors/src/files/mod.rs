//! What connectors of files share: which files may be touched, lines in, lines out, and writes that survive a crash.

pub(crate) mod access;
pub(crate) mod descriptor;
pub(crate) mod durable;
pub(crate) mod line_encoder;
pub(crate) mod lines;

pub use access::FilesAccess;

use std::fmt::Display;
use std::path::Path;

use laminar_core::connector::MetadataColumn;
use laminar_core::{Code, Error, Result};

/// Metadata of a line of a file.
pub(crate) const METADATA: &[MetadataColumn] = &[
    MetadataColumn { key: "topic", column: "_path", sql_type: "TEXT", description: "The file's path." },
    MetadataColumn {
        key: "offset",
        column: "_offset",
        sql_type: "BIGINT",
        description: "The byte at which the line starts.",
    },
    MetadataColumn {
        key: "timestamp",
        column: "_timestamp",
        sql_type: "TIMESTAMP",
        description: "When the line was read.",
    },
];

/// The error for a file that cannot be used.
pub(crate) fn file_error(path: &Path, doing: &str, error: impl Display) -> Error {
    Error::new(Code::FileError, format!("cannot {doing} {}", path.display())).with_detail(error.to_string())
}

/// Runs `work`, which waits for files, off the threads that run tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("file access ended unexpectedly").with_detail(error.to_string())),
    }
}

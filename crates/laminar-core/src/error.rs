//! One error type for everything a user may see: a stable code, the fact, detail, hint, and the place in the SQL.
//!
//! Two answers decide what is done with an error: [`Error::kind`] (who must act: HTTP status, log level, metric label) and
//! [`Error::retry`] (does a restart help). A message is lower case, without a full stop, and names the object.

use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Declares the codes once: variant, its text (stable, shown to users), SQLSTATE, who must act, and what it means.
macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $text:literal, $sqlstate:literal, $kind:ident; )+) => {
        /// What went wrong, as a stable name. The same code appears in SQL, REST and CLI.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[doc = $doc])+ $variant, )+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$( Code::$variant, )+];
            pub fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $text, )+ }
            }
            /// The nearest SQLSTATE, for PostgreSQL clients.
            pub fn sqlstate(self) -> &'static str {
                match self { $( Code::$variant => $sqlstate, )+ }
            }
            pub fn kind(self) -> ErrorKind {
                match self { $( Code::$variant => ErrorKind::$kind, )+ }
            }
            /// What the code means, for the reference page.
            pub fn description(self) -> &'static str {
                match self { $( Code::$variant => concat!($( $doc ),+), )+ }
            }
        }
    };
}

codes! {
    /// The text is not a statement of the dialect.
    SyntaxError = "syntax_error", "42601", User;
    /// The statement is longer, deeper or has more terms than the limit.
    StatementTooComplex = "statement_too_complex", "54001", User;
    /// The statement is understood, but this version does not run it.
    NotSupported = "not_supported", "0A000", User;
    /// No table, view, pipeline result or system table has this name.
    UnknownTable = "unknown_table", "42P01", User;
    /// No column in scope has this name.
    UnknownColumn = "unknown_column", "42703", User;
    /// More than one column in scope has this name.
    AmbiguousColumn = "ambiguous_column", "42702", User;
    /// No function has this name.
    UnknownFunction = "unknown_function", "42883", User;
    /// The function exists, but not for these argument types.
    WrongArguments = "wrong_arguments", "42883", User;
    /// No connection has this name.
    UnknownConnection = "unknown_connection", "42704", User;
    /// No connector has this name.
    UnknownConnector = "unknown_connector", "42704", User;
    /// No secret has this name.
    UnknownSecret = "unknown_secret", "42704", User;
    /// No pipeline has this name.
    UnknownPipeline = "unknown_pipeline", "42704", User;
    /// No job has this id.
    UnknownJob = "unknown_job", "42704", User;
    /// No setting has this name.
    UnknownSetting = "unknown_setting", "42704", User;
    /// An object with this name exists.
    DuplicateName = "duplicate_name", "42710", User;
    /// Two columns of one table have the same name.
    DuplicateColumn = "duplicate_column", "42701", User;
    /// Other objects need this one.
    InUse = "in_use", "2BP01", User;
    /// A view refers to itself, directly or through others.
    CyclicView = "cyclic_view", "42P19", User;
    /// The object is of another kind than the statement needs.
    WrongObjectKind = "wrong_object_kind", "42809", User;
    /// The connector has no such option.
    UnknownOption = "unknown_option", "42704", User;
    /// The connector needs an option that is not given.
    MissingOption = "missing_option", "22023", User;
    /// An option's value has the wrong type or is out of range.
    InvalidOption = "invalid_option", "22023", User;
    /// Two options exclude each other.
    ConflictingOptions = "conflicting_options", "22023", User;
    /// An option is refused for safety: it runs code, reads the server's files or belongs to the engine.
    ForbiddenOption = "forbidden_option", "42501", User;
    /// The request calls the server by a name that is not its own, or comes from a page of another site.
    ForbiddenOrigin = "forbidden_origin", "42501", User;
    /// Types do not fit: an expression, a cast, or the columns of an INSERT.
    TypeMismatch = "type_mismatch", "42804", User;
    /// The number of columns of the query is not the sink's.
    ColumnCount = "column_count", "42601", User;
    /// A row makes a record that is larger than the outside system takes.
    RowTooLarge = "row_too_large", "54000", User;
    /// A name is not allowed here.
    InvalidName = "invalid_name", "42602", User;
    /// A value cannot be computed: division by zero, a failed cast, a bad argument.
    InvalidValue = "invalid_value", "22000", User;
    /// The request is not well-formed.
    InvalidRequest = "invalid_request", "22023", User;
    /// Nothing is at this address.
    NotFound = "not_found", "42704", User;
    /// The object is not in a state that allows this.
    WrongState = "wrong_state", "55000", User;
    /// The outside system cannot be reached.
    Unreachable = "unreachable", "08001", External;
    /// TLS with the outside system fails: only one side speaks it, or one does not trust the other's certificate.
    TlsFailed = "tls_failed", "08001", External;
    /// The outside system refused our credentials.
    AuthenticationFailed = "authentication_failed", "28000", External;
    /// The topic does not exist.
    UnknownTopic = "unknown_topic", "42704", External;
    /// The file or folder does not exist or cannot be read.
    FileError = "file_error", "58030", External;
    /// The outside system answered with an error.
    ConnectorError = "connector_error", "58000", External;
    /// A message cannot be decoded, and the table says `bad_data = 'fail'`.
    BadData = "bad_data", "22P02", External;
    /// A row is behind the watermark, and the table says `late_data = 'dlq'`.
    LateRow = "late_row", "22008", External;
    /// The schema registry has no such schema or subject.
    UnknownSchema = "unknown_schema", "42704", External;
    /// A schema is not well-formed, or says what this version cannot read or write.
    InvalidSchema = "invalid_schema", "22023", User;
    /// The schema registry refuses the schema: it does not fit those registered under its subject.
    IncompatibleSchema = "incompatible_schema", "42804", User;
    /// A record that we must read is gone, as when retention overtook our position.
    DataLoss = "data_loss", "58P01", External;
    /// A newer instance of this pipeline took over; this one must stop.
    Fenced = "fenced", "57P01", External;
    /// The outcome of an outside transaction is unknown; the job recovers from the marker.
    CommitUnknown = "commit_unknown", "08007", External;
    /// The metadata database cannot be reached.
    MetadataUnavailable = "metadata_unavailable", "08006", External;
    /// A checkpoint's files are missing, damaged or do not fit their manifest.
    CheckpointDamaged = "checkpoint_damaged", "58P01", External;
    /// The checkpoint store cannot be reached.
    StoreUnavailable = "store_unavailable", "58030", External;
    /// The checkpoint was made by another query.
    CheckpointMismatch = "checkpoint_mismatch", "55000", User;
    /// It took longer than its limit.
    Timeout = "timeout", "57014", External;
    /// The request was cancelled.
    Cancelled = "cancelled", "57014", User;
    /// A limit of the server is reached.
    LimitExceeded = "limit_exceeded", "54000", User;
    /// The server ended while the job ran: it was killed, or its machine stopped. The pipeline goes on from its last checkpoint when
    /// the server is back.
    Interrupted = "interrupted", "57P02", External;
    /// A fault in Laminar itself.
    Internal = "internal", "XX000", Internal;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The person who wrote the statement or request.
    User,
    /// Whoever runs the outside system.
    External,
    /// We.
    Internal,
}

/// Does doing it again help?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    Backoff,
}

/// A place in a statement's text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub line: u64,
    pub column: u64,
}

/// An error a user may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    field: Option<String>,
    location: Option<Location>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { code, message, detail: None, hint: None, field: None, location: None }))
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// More facts, such as what the outside system answered.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }
    /// What to do, where one can say.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    /// The option or request field to blame.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }
    /// The place in the statement; kept if one is already known.
    #[must_use]
    pub fn at(mut self, location: impl Into<Option<Location>>) -> Self {
        self.0.location = self.0.location.or(location.into());
        self
    }
    /// Replaces the place, as when a statement's text is part of a longer script.
    #[must_use]
    pub fn moved_to(mut self, location: Option<Location>) -> Self {
        self.0.location = location;
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind()
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    pub fn location(&self) -> Option<Location> {
        self.0.location
    }
    /// Outside faults may pass; what a user or we did wrong does not. A fenced job must not come back.
    pub fn retry(&self) -> Retry {
        match (self.kind(), self.0.code) {
            (
                _,
                Code::Fenced
                | Code::BadData
                | Code::DataLoss
                | Code::CheckpointDamaged
                | Code::AuthenticationFailed
                | Code::UnknownSchema,
            ) => Retry::Never,
            (ErrorKind::External, _) => Retry::Backoff,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.code)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        match self.0.location {
            Some(Location { line, column }) => write!(f, " at {line}:{column}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Arrow's errors are about values (overflow, a failed cast), or about our own wrong use of it.
impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError::*;
        let code = match &error {
            CastError(_) | DivideByZero | ArithmeticOverflow(_) | ParseError(_) | ComputeError(_) => Code::InvalidValue,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct() {
        let texts: HashSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn a_known_place_is_not_overwritten() {
        let first = Location { line: 1, column: 2 };
        let error = Error::new(Code::UnknownTable, "x").at(first).at(Location { line: 9, column: 9 });
        assert_eq!(error.location(), Some(first));
    }
}

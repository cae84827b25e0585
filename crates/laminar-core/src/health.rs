//! How an outside system does.

use std::fmt::Debug;

/// What a reader or writer knows of the system that it waits for, asked from any thread: its own task may wait for as long as that
/// system is away.
pub trait Health: Debug + Send + Sync {
    /// What keeps rows from being read or written now, in the outside system's words; `None`: nothing that it knows of. Cheap.
    fn trouble(&self) -> Option<String>;
}

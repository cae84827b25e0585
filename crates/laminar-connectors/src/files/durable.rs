//! Writes that survive a crash, and a lock that a dead process does not hold.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use laminar_core::{Code, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file_error;

/// How long to wait for another instance that is in the middle of a commit.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// `path` with `suffix` added to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes creations, renames and removals in `folder` survive a crash.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Replaces the file at `path` by `value` as JSON, all at once: after a crash there is the old content or the new.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let temporary = beside(path, ".new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|e| file_error(path, "write", e))
}

/// What [`write_json`] wrote; `None` if nothing ever was.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, "read", error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| file_error(path, "understand", e))
}

/// Held while it lives; the system frees it when the process dies.
pub struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Waits for the lock at `path`, up to [`LOCK_PATIENCE`]. Errors: `file_error`.
    pub fn acquire(path: &Path) -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(|e| file_error(path, "open", e))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Code::FileError,
                        format!("{} is locked by another process", path.display()),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(file_error(path, "lock", error)),
            }
        }
    }
}

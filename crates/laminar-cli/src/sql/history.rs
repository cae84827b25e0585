//! The shell's history on disk, without what must not be there: statements that carry a secret.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use reedline::{FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, Result, SearchQuery};

const LINES: usize = 2_000;

/// A file-backed history that forgets `CREATE SECRET` and passwords at once.
pub struct QuietHistory(FileBackedHistory);

impl QuietHistory {
    /// The history in `file`, which only its owner may read; `None` if the file cannot be used.
    pub fn open(file: PathBuf) -> Option<Self> {
        make_private(&file).ok()?;
        FileBackedHistory::with_file(LINES, file).ok().map(Self)
    }
}

fn make_private(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Where the history of this user is kept.
pub fn path() -> Option<PathBuf> {
    Some(dirs::state_dir().or_else(dirs::data_local_dir)?.join("laminar").join("history"))
}

fn is_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).any(|pair| pair == ["create", "secret"] || pair == ["replace", "secret"])
        || line.contains("password")
}

impl History for QuietHistory {
    fn save(&mut self, item: HistoryItem) -> Result<HistoryItem> {
        if is_secret(&item.command_line) { Ok(item) } else { self.0.save(item) }
    }
    fn load(&self, id: HistoryItemId) -> Result<HistoryItem> {
        self.0.load(id)
    }
    fn count(&self, query: SearchQuery) -> Result<i64> {
        self.0.count(query)
    }
    fn search(&self, query: SearchQuery) -> Result<Vec<HistoryItem>> {
        self.0.search(query)
    }
    fn update(&mut self, id: HistoryItemId, updater: &dyn Fn(HistoryItem) -> HistoryItem) -> Result<()> {
        self.0.update(id, updater)
    }
    fn clear(&mut self) -> Result<()> {
        self.0.clear()
    }
    fn delete(&mut self, id: HistoryItemId) -> Result<()> {
        self.0.delete(id)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn session(&self) -> Option<HistorySessionId> {
        self.0.session()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        let mut history = QuietHistory::open(file.clone()).unwrap();
        for line in [
            "SELECT 1;",
            "create  secret k AS 'hunter2';",
            "CREATE CONNECTION c TO kafka ('sasl.password' = 'hunter2');",
        ] {
            history.save(HistoryItem::from_command_line(line)).unwrap();
        }
        history.sync().unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = std::fs::read_to_string(file).unwrap();
        assert!(kept.contains("SELECT 1") && !kept.contains("hunter2"), "{kept}");
    }
}

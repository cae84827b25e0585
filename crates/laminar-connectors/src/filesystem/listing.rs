//! Which files of a folder are data. A split is a file's path below the folder, so the folder may be moved.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use laminar_core::{Code, Error, Result, SplitId};

use crate::files::file_error;

/// More files than this are an error: each is a split with a position in every checkpoint.
const MAX_FILES: usize = 100_000;

const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

#[derive(Clone, Debug)]
pub struct Listing {
    folder: PathBuf,
    pattern: Option<Pattern>,
    recursive: bool,
}

impl Listing {
    /// Errors: `invalid_option` for a pattern that is not well-formed.
    pub fn new(folder: PathBuf, pattern: Option<&str>, recursive: bool) -> Result<Self> {
        let compile = |text: &str| {
            Pattern::new(text).map_err(|e| {
                Error::new(Code::InvalidOption, format!("option pattern of connector filesystem cannot be '{text}'"))
                    .with_detail(e.to_string())
                    .with_field("pattern")
            })
        };
        Ok(Self { folder, pattern: pattern.map(compile).transpose()?, recursive })
    }

    /// The files there are now, in the order of their names.
    ///
    /// Errors: `file_error`, also for a name that is not UTF-8; `limit_exceeded`.
    pub fn files(&self) -> Result<Vec<SplitId>> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let failed = |e| file_error(&folder, "read folder", e);
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                let name = entry.file_name();
                if matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_')) {
                    continue;
                }
                // A link to a folder is not followed: it may lead back here.
                if entry.file_type().map_err(failed)?.is_dir() {
                    if self.recursive {
                        folders.push(path);
                    }
                } else if path.is_file() {
                    found.extend(self.split_of(&path)?);
                }
            }
            if found.len() > MAX_FILES {
                let message = format!("{} has more than {MAX_FILES} files", self.folder.display());
                return Err(Error::new(Code::LimitExceeded, message).with_hint("narrow it by option pattern"));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The file's split, if the pattern wants it.
    fn split_of(&self, path: &Path) -> Result<Option<SplitId>> {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let name = below.to_str().ok_or_else(|| file_error(path, "read", "its name is not UTF-8"))?;
        let wanted = self.pattern.as_ref().is_none_or(|p| p.matches_with(name, MATCHING));
        Ok(wanted.then(|| SplitId::new(name)))
    }

    /// Where the split's file is. Errors: `checkpoint_mismatch` for a split that leads out of the folder.
    pub fn path_of(&self, split: &SplitId) -> Result<PathBuf> {
        let below = Path::new(split.as_str());
        let inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(Error::new(
                Code::CheckpointMismatch,
                format!("{split} is not a file of {}", self.folder.display()),
            ));
        }
        Ok(self.folder.join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_data_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "c.csv", ".hidden", "_laminar/x", "sub/d.json", "sub/_tmp/e.json"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("sub/loop")).unwrap();
        let check = |pattern, recursive, expected: &[&str]| {
            let listing = Listing::new(folder.path().into(), pattern, recursive).unwrap();
            let files = listing.files().unwrap();
            assert_eq!(files.iter().map(SplitId::as_str).collect::<Vec<_>>(), expected, "{pattern:?} {recursive}");
        };
        check(None, false, &["a.json", "b.json", "c.csv"]);
        check(None, true, &["a.json", "b.json", "c.csv", "sub/d.json"]);
        check(Some("*.json"), true, &["a.json", "b.json"]);
        check(Some("**/*.json"), true, &["a.json", "b.json", "sub/d.json"]);
        check(Some("sub/?.json"), true, &["sub/d.json"]);
        check(Some("x"), true, &[]);
    }

    #[test]
    fn a_split_cannot_lead_out() {
        let listing = Listing::new("/data".into(), None, true).unwrap();
        assert_eq!(listing.path_of(&"sub/a.json".into()).unwrap(), PathBuf::from("/data/sub/a.json"));
        for split in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(listing.path_of(&split.into()).unwrap_err().code(), Code::CheckpointMismatch);
        }
        assert_eq!(Listing::new("/data".into(), Some("[a"), true).unwrap_err().code(), Code::InvalidOption);
    }
}

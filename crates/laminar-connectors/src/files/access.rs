//! Which files of the server SQL may name.
//!
//! With a folder given, nothing outside it can be read or written: neither by `..` nor through a symbolic link.

use std::path::{Component, Path, PathBuf};

use laminar_core::{Code, Error, Result};

/// The part of the file system that tables may use.
#[derive(Clone, Debug, Default)]
pub struct FilesAccess {
    folder: Option<PathBuf>,
}

impl FilesAccess {
    /// Every file that the server's user can reach: for `laminar dev` and `laminar run`.
    pub fn everywhere() -> Self {
        Self::default()
    }

    /// Only what is below `folder`; relative paths start there.
    pub fn below(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// The path that option `key` names by `text`: a path, or `file://` and a path.
    ///
    /// Errors: `invalid_option`, `not_supported` (another kind of URL), `forbidden_option` (outside the folder).
    pub fn resolve(&self, key: &str, text: &str) -> Result<PathBuf> {
        let text = text.strip_prefix("file://").unwrap_or(text);
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::new(Code::NotSupported, format!("files at {scheme}:// are not supported yet"))
                .with_hint("name a path of the server's file system")
                .with_field(key));
        }
        if text.is_empty() || text.contains('\0') {
            return Err(Error::new(Code::InvalidOption, format!("option {key} is not a path")).with_field(key));
        }
        let Some(folder) = &self.folder else { return Ok(PathBuf::from(text)) };
        let path = folder.join(text);
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs || !path.starts_with(folder) || !real(&path).starts_with(real(folder)) {
            return Err(Error::new(Code::ForbiddenOption, format!("{text} is outside the folder that tables may use"))
                .with_hint(format!("files must be below {}", folder.display()))
                .with_field(key));
        }
        Ok(path)
    }
}

/// The path with the links of its existing part resolved.
fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_confines() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("files");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("out")).unwrap();
        let access = FilesAccess::below(folder.clone());
        let check = |text: &str, expected: Option<&str>| match (access.resolve("path", text), expected) {
            (Ok(path), Some(inside)) => assert_eq!(path, folder.join(inside)),
            (Err(error), None) => assert_eq!(error.code(), Code::ForbiddenOption, "{text}"),
            (other, _) => panic!("{text}: {other:?}"),
        };
        check("a/b.json", Some("a/b.json"));
        check(folder.join("x").to_str().unwrap(), Some("x"));
        check(&format!("file://{}", folder.join("x").display()), Some("x"));
        check("../secret", None);
        check("a/../../secret", None);
        check("/etc/passwd", None);
        check("out/secret", None);
        check("out", None);
    }

    #[test]
    fn other_stores_are_refused() {
        let error = FilesAccess::everywhere().resolve("path", "s3://bucket/x").unwrap_err();
        assert_eq!(error.code(), Code::NotSupported);
        assert_eq!(FilesAccess::everywhere().resolve("path", "").unwrap_err().code(), Code::InvalidOption);
    }
}

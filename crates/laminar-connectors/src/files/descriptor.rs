//! A Protobuf schema that stands in a file: formats know no files, so connectors put its content where its path was.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::options::OptionEntry;
use laminar_core::{Code, Error, Options, Result};

use super::{FilesAccess, file_error};

const PATH: &str = "protobuf.descriptor";
const CONTENT: &str = "protobuf.schema";

/// A longer file is refused.
const MAX_BYTES: u64 = 4 << 20;

/// The options with `protobuf.schema` in place of `protobuf.descriptor`: the file's text, or a descriptor set in base64.
///
/// Errors: `forbidden_option` (outside the folder that tables may use), `file_error`, `conflicting_options`.
pub(crate) fn inline<'a>(options: &'a Options, access: &FilesAccess) -> Result<Cow<'a, Options>> {
    let Some(entry) = options.entry(PATH) else { return Ok(Cow::Borrowed(options)) };
    if options.get(CONTENT).is_some() {
        let message = format!("options {PATH} and {CONTENT} say the same thing: give one of them");
        return Err(Error::new(Code::ConflictingOptions, message).with_field(PATH).at(entry.location));
    }
    let content = read(&entry.value, access).map_err(|error| error.with_field(PATH).at(entry.location))?;
    let mut options = options.clone();
    options.remove(PATH);
    options.set(OptionEntry { key: CONTENT.into(), value: content, location: entry.location });
    Ok(Cow::Owned(options))
}

fn read(path: &str, access: &FilesAccess) -> Result<String> {
    let path = access.resolve(PATH, path)?;
    let failed = |error: std::io::Error| file_error(&path, "read", error);
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(file_error(&path, "read", format!("it has more than {MAX_BYTES} bytes")));
    }
    // A descriptor set begins with the tag of its first field, a line feed, and has control characters in it.
    let is_text = |text: &String| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'));
    match String::from_utf8(bytes) {
        Ok(text) if is_text(&text) => Ok(text),
        Ok(bytes) => Ok(STANDARD.encode(bytes)),
        Err(error) => Ok(STANDARD.encode(error.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let access = FilesAccess::below(folder.path().into());
        let check = |name: &str, content: &[u8], expected: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            let options = Options::from_pairs([("format", "protobuf"), (PATH, name)]);
            let inlined = inline(&options, &access).unwrap();
            assert_eq!((inlined.get(CONTENT), inlined.get(PATH)), (Some(expected), None));
        };
        check("a.proto", b"message A {}\n", "message A {}\n");
        check("a.pb", b"\x0a\x03\x0a\x01a", "CgMKAWE=");
        check("b.pb", b"\x0a\x80", "CoA=");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_of_its_option() {
        let folder = tempfile::tempdir().unwrap();
        let access = FilesAccess::below(folder.path().into());
        let check = |pairs: &[(&str, &str)], expected| {
            let error = inline(&Options::from_pairs(pairs.iter().copied()), &access).unwrap_err();
            assert_eq!((error.code(), error.field()), (expected, Some(PATH)));
        };
        check(&[(PATH, "../secret")], Code::ForbiddenOption);
        check(&[(PATH, "none.proto")], Code::FileError);
        check(&[(PATH, "a.proto"), (CONTENT, "message A {}")], Code::ConflictingOptions);
    }
}

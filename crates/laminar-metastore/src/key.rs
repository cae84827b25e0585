//! The key that seals secrets, kept outside the database.
//!
//! A sealed text is `v1:` and base64 of nonce (12 bytes), ciphertext and tag (16): AES-256-GCM with a random nonce. The
//! place it is stored at (`secret:<id>`) is authenticated with it, so a value moved to another row does not open.
//! The prefix is stored on disk, do not change.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::{Code, Error, Result};

const PREFIX: &str = "v1:";
const KEY_BYTES: usize = 32;

/// 32 secret bytes. Shows nothing of itself.
#[derive(Clone)]
pub struct SecretKey([u8; KEY_BYTES]);

impl SecretKey {
    /// A fresh random key, for a database that does not outlive the process.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::internal("the system gave no random bytes"))?;
        Ok(Self(bytes))
    }

    /// From base64 of exactly 32 bytes, as `openssl rand -base64 32` prints them.
    ///
    /// Errors: `invalid_option`; the message does not repeat the text.
    pub fn from_base64(text: &str) -> Result<Self> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|b| <[u8; KEY_BYTES]>::try_from(b).ok());
        bytes.map(Self).ok_or_else(|| {
            Error::new(Code::InvalidOption, "the secret key is not base64 of 32 bytes")
                .with_hint("make one with: openssl rand -base64 32")
        })
    }

    /// The key in the file at `path`; if there is none, a random one is written there, readable by its owner only.
    /// When several processes create it at once, all get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Code::FileError, format!("key file {} cannot be used", path.display()))
                .with_detail(error.to_string())
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::random()?.write_new(path).map_err(failed)?;
                fs::read_to_string(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        Self::from_base64(&text).map_err(|e| e.with_detail(format!("in key file {}", path.display())))
    }

    /// Writes the whole key under a name of its own, then gives it the final name unless another process was faster.
    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", uuid::Uuid::now_v7()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(format!("{}\n", STANDARD.encode(self.0)).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| match fs::hard_link(&temporary, path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            });
        fs::remove_file(&temporary)?;
        written
    }

    /// Seals `text` for the place `place`.
    pub(crate) fn seal(&self, place: &str, text: &str) -> Result<String> {
        let fault = |_| Error::internal("a secret cannot be sealed");
        let mut bytes = text.as_bytes().to_vec();
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(fault)?;
        let nonce = key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut bytes).map_err(fault)?;
        let sealed = [nonce.as_ref().as_slice(), &bytes].concat();
        Ok(format!("{PREFIX}{}", STANDARD.encode(sealed)))
    }

    /// Opens what [`Self::seal`] made for the same place. Errors: `invalid_option` if the key or the place is another.
    pub(crate) fn open(&self, place: &str, sealed: &str) -> Result<String> {
        self.try_open(place, sealed).ok_or_else(|| {
            Error::new(Code::InvalidOption, "the secret key does not open what the metadata database holds")
                .with_hint("start with the key this database was first used with")
        })
    }

    fn try_open(&self, place: &str, sealed: &str) -> Option<String> {
        let mut bytes = STANDARD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
        let (nonce, ciphertext) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let text = key.open_in_place(nonce, Aad::from(place.as_bytes()), ciphertext).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl PartialEq for SecretKey {
    /// Takes the same time wherever they differ.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_sealed_text_opens_only_with_its_key_at_its_place() {
        let (key, other) = (SecretKey::random().unwrap(), SecretKey::random().unwrap());
        let sealed = key.seal("secret:1", "hunter2").unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, key.seal("secret:1", "hunter2").unwrap(), "the nonce is fresh each time");
        assert_eq!(key.open("secret:1", &sealed).unwrap(), "hunter2");
        assert_eq!(key.open("secret:2", &sealed).unwrap_err().code(), Code::InvalidOption);
        assert_eq!(other.open("secret:1", &sealed).unwrap_err().code(), Code::InvalidOption);
        for damaged in ["", "v1:", "v1:AAAA", "v2:AAAA", &sealed[..sealed.len() - 8]] {
            assert_eq!(key.open("secret:1", damaged).unwrap_err().code(), Code::InvalidOption);
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| SecretKey::load_or_create(&path).unwrap().0)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("sub")).unwrap().count(), 1);
    }

    #[test]
    fn text_that_is_no_key_is_refused_without_repeating_it() {
        let error = SecretKey::from_base64("c2hvcnQ=").unwrap_err();
        assert_eq!(error.code(), Code::InvalidOption);
        assert!(!format!("{error:?}").contains("c2hvcnQ"));
    }
}

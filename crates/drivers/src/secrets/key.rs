//! The key file: base64 of 32 bytes, readable by its owner only. Absent: what the key is used for.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

pub(super) const KEY_LEN: usize = 32;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error("there is no key file {}", .path.display())]
    Missing { path: PathBuf },
    #[error("key file {} exists: it is never overwritten, it may be the only key to what is stored", .path.display())]
    Exists { path: PathBuf },
    #[error("key file {} is open to others (mode {mode:04o}): chmod 600 it", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("key file {} is not base64 of 32 bytes: {why}", .path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("the key is not base64 of 32 bytes: {why}")]
    MalformedText { why: String },
    #[error("{doing} key file {}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl KeyError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "key_missing",
            Self::Exists { .. } => "key_exists",
            Self::TooOpen { .. } => "key_too_open",
            Self::Malformed { .. } | Self::MalformedText { .. } => "key_malformed",
            Self::Io { .. } => "key_unreadable",
        }
    }
}

pub(super) fn random() -> Zeroizing<[u8; KEY_LEN]> {
    let mut bytes = Zeroizing::new([0u8; KEY_LEN]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).expect("the operating system gives random numbers");
    bytes
}

/// Whole or not at all: a process that dies in between leaves no file that is not a key.
pub(super) fn write(path: &Path, bytes: &[u8; KEY_LEN]) -> Result<(), KeyError> {
    let io = |doing| move |source| KeyError::Io { doing, path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = Path::new(&name);
    let mut text = Zeroizing::new(STANDARD.encode(bytes));
    text.push('\n');
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    // A link refuses what a rename would replace.
    let linked = written.map_err(io("write")).and_then(|()| {
        std::fs::hard_link(new, path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => io("create")(source),
        })
    });
    let _ = std::fs::remove_file(new);
    linked
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let io = |doing| move |source| KeyError::Io { doing, path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => io("open")(source),
    })?;
    let mode = file.metadata().map_err(io("examine"))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    // A key takes 45 bytes. Whatever is longer is another file, and must not fill the memory.
    file.take(4096).read_to_string(&mut text).map_err(io("read"))?;
    decoded(&text).map_err(|why| KeyError::Malformed { path: path.to_owned(), why })
}

pub(super) fn from_text(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    decoded(text).map_err(|why| KeyError::MalformedText { why })
}

fn decoded(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    // The decoder's own message would quote the offending byte: it stays out.
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| "not base64".to_owned())?);
    let mut key = Zeroizing::new([0u8; KEY_LEN]);
    if bytes.len() != KEY_LEN {
        return Err(format!("{} bytes", bytes.len()));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// Whether a person may have typed it, or a program counted: random bytes look like neither once in 10^13 keys.
pub(super) fn is_guessable(key: &[u8; KEY_LEN]) -> bool {
    let distinct = key.iter().collect::<std::collections::BTreeSet<_>>().len();
    let step = key[1].wrapping_sub(key[0]);
    let is_counted = key.windows(2).all(|two| two[1].wrapping_sub(two[0]) == step);
    distinct < 16 || is_counted || key.iter().all(|byte| (b' '..=b'~').contains(byte))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Context, Sealer};
    use super::*;

    #[test]
    fn key_file_is_private_never_overwritten_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(matches!(Sealer::from_file(&path), Err(KeyError::Missing { .. })));
        let created = Sealer::create_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Sealer::create_file(&path), Err(KeyError::Exists { .. })));
        let read = Sealer::from_file(&path).unwrap();
        assert_eq!(read.fingerprint(), created.fingerprint());
        let place = Context { id: uuid::Uuid::nil(), field: "f", version: 0 };
        assert_eq!(read.open(&place, &created.seal(&place, b"a")).unwrap().as_slice(), b"a");
    }

    #[test]
    fn keys_that_somebody_typed_or_counted_are_guessable_and_random_ones_are_not() {
        let counted: [u8; KEY_LEN] = std::array::from_fn(|n| n as u8);
        let few: [u8; KEY_LEN] = std::array::from_fn(|n| [7, 200][n % 2]);
        for typed in [*b"for isolation tests and nothing!", [0; KEY_LEN], counted, few] {
            assert!(is_guessable(&typed), "{typed:?}");
            assert!(Sealer::from_base64(&STANDARD.encode(typed)).unwrap().is_guessable());
        }
        for _ in 0..1000 {
            assert!(!Sealer::random().is_guessable());
        }
    }

    #[test]
    fn key_file_that_is_open_or_malformed_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (content, why) in [("not base64 !", "not base64"), ("AAAA", "3 bytes"), ("", "0 bytes")] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = Sealer::from_file(&path).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        for (text, why) in [("hunter22 !", "not base64"), ("AAAA", "3 bytes")] {
            let error = Sealer::from_base64(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter22"), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Sealer::from_file(&path).unwrap_err();
        assert!(error.to_string().contains("0640") && error.code() == "key_too_open", "{error}");
    }
}

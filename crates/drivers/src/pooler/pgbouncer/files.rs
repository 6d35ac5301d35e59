//! The three files of a PgBouncer: written whole or not at all, and recognised when somebody else wrote in them.
//!
//! Absent: copies of what was there. Who has to put something back holds it in memory; after a crash the files are newer
//! than what is loaded, and the next [`super::PgBouncer::apply`] goes on from there.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::PoolerError;
use super::super::lock::{self, Lock};
use super::super::seal::{failed, read_back, replace, sealed};
use super::render::Rendered;

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    directory: PathBuf,
}

/// What is written, in the order in which it is written: the file that names the others comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts([(PathBuf, Option<String>); 3]);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The newest that any file is intact with.
    pub newest: Option<u64>,
    /// That all three have.
    pub generation: Option<u64>,
    /// The names of those that are there and not as they were written.
    pub edited: BTreeSet<String>,
    pub absent: BTreeSet<String>,
}

impl Files {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Its private socket is here too.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn ini(&self) -> PathBuf {
        self.directory.join("pgbouncer.ini")
    }

    pub fn users(&self) -> PathBuf {
        self.directory.join("users.txt")
    }

    pub fn rules(&self) -> PathBuf {
        self.directory.join("access.conf")
    }

    pub(super) fn texts(&self, generation: u64, rendered: &Rendered) -> Texts {
        Texts([
            (self.users(), Some(sealed(';', generation, &format!("{}{}", padding(generation), rendered.users)))),
            (self.rules(), Some(sealed('#', generation, &rendered.rules))),
            (self.ini(), Some(sealed(';', generation, &rendered.ini))),
        ])
    }

    /// As they are now.
    pub(super) fn read(&self) -> Result<Texts, PoolerError> {
        let read = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok((path, Some(text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((path, None)),
            // Somebody put something else there than text: as good as edited.
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok((path, Some(String::new()))),
            Err(error) => Err(failed("read", &path, error)),
        };
        Ok(Texts([read(self.users())?, read(self.rules())?, read(self.ini())?]))
    }

    /// Waits for whoever else is at it.
    pub(super) async fn lock(&self) -> Result<Lock, PoolerError> {
        lock::file(&self.directory.join("freehold.lock")).await
    }
}

/// PgBouncer does not read a list of users again whose inode, size and second of change are those of the last one, and
/// inodes are given out again at once: so two generations never have the same size by chance.
pub(super) fn padding(generation: u64) -> String {
    let dots = usize::try_from(generation % 97).unwrap_or(0);
    format!("; {}\n", ".".repeat(dots))
}

impl Texts {
    /// Those that differ from what is `there`; how many.
    pub(super) fn write_over(&self, there: &Self) -> Result<usize, PoolerError> {
        let mut written = 0;
        for ((path, text), (_, before)) in self.0.iter().zip(&there.0) {
            match text {
                _ if text == before => continue,
                Some(text) => replace(path, text.as_bytes())?,
                None => fs::remove_file(path).map_err(|error| failed("remove", path, error))?,
            }
            written += 1;
        }
        Ok(written)
    }

    pub(super) fn examine(&self) -> Found {
        let mut found = Found::default();
        let mut generations = BTreeSet::new();
        for (path, text) in &self.0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match text.as_deref().map(read_back) {
                Some(Some(generation)) => generations.insert(generation),
                Some(None) => found.edited.insert(name),
                None => found.absent.insert(name),
            };
        }
        found.newest = generations.last().copied();
        let whole = generations.len() == 1 && found.edited.is_empty() && found.absent.is_empty();
        found.generation = found.newest.filter(|_| whole);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::super::PoolerErrorKind;
    use super::*;

    fn rendered(text: &str) -> Rendered {
        Rendered { ini: text.into(), users: text.into(), rules: text.into(), left_out: BTreeSet::new() }
    }

    #[test]
    fn files_are_recognised_unless_somebody_wrote_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let nothing = files.read().unwrap();
        assert_eq!(nothing.examine().absent.len(), 3);
        let texts = files.texts(7, &rendered("a = b\n"));
        assert_eq!(texts.write_over(&nothing).unwrap(), 3);
        assert_eq!(files.read().unwrap(), texts);
        assert_eq!(texts.write_over(&texts).unwrap(), 0);
        assert_eq!(texts.examine().generation, Some(7));
        assert_eq!(fs::metadata(files.ini()).unwrap().mode() & 0o777, 0o600);

        let written = fs::read_to_string(files.ini()).unwrap();
        for edited in [
            format!("{written}x = y\n"),
            written.replace("generation 7", "generation 8"),
            written.replace("; Written", "a = b\n; Written"),
            written.replace("Written by Freehold", "Written by me"),
            String::new(),
            "\n\n".into(),
        ] {
            fs::write(files.ini(), edited).unwrap();
            let found = files.read().unwrap().examine();
            assert_eq!((found.generation, found.newest), (None, Some(7)));
            assert!(found.edited.contains("pgbouncer.ini") && found.edited.len() == 1);
        }
        fs::remove_file(files.users()).unwrap();
        assert!(files.read().unwrap().examine().absent.contains("users.txt"));
        let there = files.read().unwrap();
        assert_eq!(texts.write_over(&there).unwrap(), 2);
        // Files of two generations belong to a write that was cut off.
        let newer = files.texts(8, &rendered("a = b\n"));
        replace(&files.users(), newer.0[0].1.as_ref().unwrap().as_bytes()).unwrap();
        let found = files.read().unwrap().examine();
        assert_eq!((found.generation, found.newest), (None, Some(8)));
    }

    #[test]
    fn files_that_cannot_be_written_are_named_and_left_as_they_were() {
        let files = Files::new("/proc/nothing");
        let error = files.texts(1, &rendered("")).write_over(&files.read().unwrap()).unwrap_err();
        assert_eq!(error.kind, PoolerErrorKind::NotWritable);
        assert!(error.message.contains("/proc/nothing/users.txt"), "{error}");
    }
}

//! What an agent keeps, in one directory: `run` is PgBouncer's (its files, its log, its private socket), `agent` is the
//! agent's own.
//!
//! In `agent`: `console.json` (the passwords of PgBouncer's console, which are made here and sent nowhere),
//! `assignment.json` (the newest that was accepted) and `pauses.json` (with their deadlines). Absent: tenants' passwords; of
//! those there are verifiers alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use freehold_control::pooler::mind::pauses::{Moment, Pause, Pauses};
use freehold_control::pooler::mind::{Wanted, clock};
use freehold_drivers::pooler::{Console, ConsoleLogin, Verifier};
use freehold_drivers::secrets::{Password, scram_verifier};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::prerequisite::Missing;

const ADMIN: &str = "freehold_agent";
const CHECK: &str = "freehold_check";
const CONSOLE: &str = "console.json";
const ASSIGNMENT: &str = "assignment.json";
const PAUSES: &str = "pauses.json";

pub struct Home {
    path: PathBuf,
    /// Two in one directory would undo each other's work.
    _lock: File,
}

/// Of PgBouncer's console.
pub struct Keys {
    pub admin: Password,
    pub check: Password,
    pub console: Console,
}

#[derive(Serialize, Deserialize)]
struct Key {
    password: String,
    verifier: Verifier,
}

#[derive(Serialize, Deserialize)]
struct KeptKeys {
    admin: Key,
    check: Key,
}

#[derive(Serialize, Deserialize)]
struct KeptPauses {
    boot: String,
    pauses: Vec<Pause>,
}

impl Home {
    pub fn open(path: &Path) -> Result<Self, Missing> {
        let failed = |error: io::Error| Missing::because(&format!("make the directory {}", path.display()), &error);
        let path = std::path::absolute(path).map_err(failed)?;
        // PgBouncer, which is not root, passes through and sees nothing.
        make(&path, 0o711).map_err(failed)?;
        make(&path.join("agent"), 0o700).map_err(failed)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Made the first time, and the same ever after: a PgBouncer that runs on knows them.
    pub fn keys(&self) -> Result<Keys, Missing> {
        let kept: KeptKeys = match self.read(CONSOLE)? {
            Some(kept) => kept,
            None => {
                let made = KeptKeys { admin: Key::make()?, check: Key::make()? };
                self.write(CONSOLE, &made, Lasts::Always)
                    .map_err(|error| Missing::because(&format!("write {}", self.file(CONSOLE).display()), &error))?;
                made
            }
        };
        let login = |name: &str, key: &Key| ConsoleLogin { name: name.into(), verifier: key.verifier.clone() };
        Ok(Keys {
            console: Console {
                admin: login(ADMIN, &kept.admin),
                check: login(CHECK, &kept.check),
                // Over the private socket alone.
                networks: Vec::new(),
            },
            admin: Password::new(kept.admin.password),
            check: Password::new(kept.check.password),
        })
    }

    /// The administrator of the console.
    pub fn admin() -> &'static str {
        ADMIN
    }

    /// One that cannot be read is not there: the plane says it again.
    pub fn assignment(&self) -> Option<Wanted> {
        self.read_or_forget(ASSIGNMENT)
    }

    pub fn keep_assignment(&self, wanted: &Wanted) -> io::Result<()> {
        self.write(ASSIGNMENT, wanted, Lasts::Always)
    }

    pub fn pauses(&self, now: Moment) -> Pauses {
        match self.read_or_forget::<KeptPauses>(PAUSES) {
            Some(kept) => Pauses::found(kept.pauses, kept.boot == clock::boot(), now),
            None => Pauses::default(),
        }
    }

    /// They are of no use to whoever comes after the machine's end, and clients wait meanwhile.
    pub fn keep_pauses(&self, pauses: &[Pause]) -> io::Result<()> {
        self.write(PAUSES, &KeptPauses { boot: clock::boot(), pauses: pauses.to_vec() }, Lasts::UntilReboot)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join("agent").join(name)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Missing> {
        let path = self.file(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Missing::because(&format!("read {}", path.display()), &error)),
        };
        // The reason may quote what it read.
        serde_json::from_slice(&text).map(Some).map_err(|_| {
            Missing::new(format!(
                "{} is not as it was written: end the PgBouncer in {}, remove the file, and start again",
                path.display(),
                self.run().display()
            ))
        })
    }

    fn read_or_forget<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.read(name).unwrap_or_else(|error| {
            tracing::warn!(file = %self.file(name).display(), %error, "not read; it goes on without");
            None
        })
    }

    /// Whole or not at all, on disk before it has its name where it is to last, and for nobody else to read.
    fn write<T: Serialize>(&self, name: &str, value: &T, lasts: Lasts) -> io::Result<()> {
        let path = self.file(name);
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            if lasts == Lasts::UntilReboot {
                return fs::rename(&new, &path);
            }
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(self.path.join("agent"))?.sync_all()
        };
        // Half of it would only take room, of which there may be none.
        write().inspect_err(|_| drop(fs::remove_file(&new)))
    }
}

/// What a file has to outlive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    Always,
    /// The process, and not the machine.
    UntilReboot,
}

impl Key {
    fn make() -> Result<Self, Missing> {
        let password = Password::random(43);
        let verifier = Verifier::parse(scram_verifier(&password))?;
        Ok(Self { password: password.expose().to_owned(), verifier })
    }
}

/// The agent that works there, for whoever has to end it.
pub fn agent_in(path: &Path) -> Option<i32> {
    let mut file = OpenOptions::new().read(true).write(true).open(lock_file(path)).ok()?;
    if file.try_lock().is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    // Only one that works there: pids are given out again.
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (fs::canonicalize(path).ok()? == works_in).then_some(pid)
}

fn lock_file(path: &Path) -> PathBuf {
    path.join("agent/lock")
}

fn lock(directory: &Path) -> Result<File, Missing> {
    let path = lock_file(directory);
    let failed = |error: io::Error| Missing::because(&format!("lock {}", path.display()), &error);
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
    let mut file = open.map_err(failed)?;
    if file.try_lock().is_err() {
        return Err(Missing::new(format!(
            "another agent works in {}: end it first, or choose another --directory",
            directory.display()
        )));
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

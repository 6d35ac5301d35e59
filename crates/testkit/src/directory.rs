//! Directories for tests: short enough for a socket's path, passable by the user that PostgreSQL runs as, and gone
//! with everything that runs in them when their value is dropped or their test is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;

use crate::process::end_processes_under;

/// Ends every process that works in `$1`, then removes it, as soon as standard input ends: when the test is gone,
/// however it went. Processes are known by their working directory, which only ours have: no id can be stale.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
ours() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd" 2>/dev/null) in
            "$1" | "$1"/*) echo "${process#/proc/}" ;;
        esac
    done
}
for signal in QUIT QUIT QUIT KILL KILL; do
    [ -d "$1" ] || exit 0
    found=$(ours "$1")
    [ -n "$found" ] || break
    kill -CONT $found 2>/dev/null
    kill -$signal $found 2>/dev/null
    sleep 1
done
rm -rf "$1"
"#;

#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    watchdog: Option<Child>,
}

impl Directory {
    pub fn new() -> Self {
        let path =
            tempfile::Builder::new().prefix("fh-").permissions(fs::Permissions::from_mode(0o755)).tempdir_in(base());
        // Its removal is this type's: what runs inside ends first.
        let path = path.expect("make a temporary directory").keep();
        let path = path.canonicalize().expect("the path of a new directory");
        // A process group of its own: a test that is ended with its group leaves somebody to clean up.
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "testkit-watchdog"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start the watchdog");
        Self { path, watchdog: Some(watchdog) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        end_processes_under(&self.path);
        let _ = fs::remove_dir_all(&self.path);
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
    }
}

/// The temporary directory, or `/tmp` where that is hidden from other users or too deep for a socket's path.
fn base() -> PathBuf {
    let told = std::env::temp_dir();
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    let fits = told.is_absolute() && told.as_os_str().len() < 50;
    if fits && told.ancestors().all(passable) { told } else { "/tmp".into() }
}

/// A directory that all tests of this user share, and that nobody else can have put there.
pub(crate) fn shared(name: &str) -> PathBuf {
    let user = Uid::effective();
    let root = base().join(format!("freehold-testkit-{user}"));
    for path in [root.clone(), root.join(name)] {
        match fs::create_dir(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permit a directory of our own")
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("make {}: {error}", path.display()),
        }
        let meta = fs::symlink_metadata(&path).expect("look at a directory that is there");
        assert!(meta.is_dir() && meta.uid() == user.as_raw(), "{} belongs to somebody else: remove it", path.display());
    }
    root.join(name)
}

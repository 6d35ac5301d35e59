//! A small disk under a directory, which can be full, or not be written to.

use std::path::{Path, PathBuf};
use std::process::Command;

use freehold_testkit::processes_under;
use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;

pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Over an empty directory, whose owner it has.
    pub fn at(path: &Path) -> Self {
        let owner = freehold_testkit::unprivileged_user();
        let owner = owner.map_or_else(String::new, |user| format!(",uid={},gid={}", user.uid, user.gid));
        as_root(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size=256k,mode=0700{owner}"),
            "tmpfs",
            &path.display().to_string(),
        ]);
        Self(path.to_owned())
    }

    pub fn fill(&self) {
        let stat = nix::sys::statvfs::statvfs(&self.0).unwrap();
        let free = stat.blocks_available() * stat.fragment_size();
        std::fs::write(self.filler(), vec![0u8; usize::try_from(free).unwrap()]).unwrap();
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// Also under files that are open for writing: as itself, over itself.
    pub fn lock(&self) {
        let path = self.0.display().to_string();
        as_root(&["mount", "-o", "bind,ro", &path, &path]);
    }

    pub fn unlock(&self) {
        as_root(&["umount", "-l", &self.0.display().to_string()]);
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What works in it is not found any more once it is gone.
        for process in processes_under(&self.0) {
            let _ = kill(process, Signal::SIGKILL);
        }
        // Lazily: it takes them a moment.
        as_root(&["umount", "-l", &self.0.display().to_string()]);
    }
}

fn as_root(args: &[&str]) {
    let mut command = Command::new(if geteuid().is_root() { args[0] } else { "sudo" });
    if !geteuid().is_root() {
        command.args(["-n", args[0]]);
    }
    let done = command.args(&args[1..]).output().expect("start a program as root");
    assert!(done.status.success() || std::thread::panicking(), "{args:?}: {done:?}");
}

//! `scripts/needs`, with which `make demo` begins: whoever may install nothing is told the one line that an administrator
//! must run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use freehold_testkit::{Directory, unprivileged_user};

use crate::root;

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("write a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permit it");
}

/// Neither root nor sudo, on a machine on which nothing of it is installed.
#[test]
fn needs_prints_the_one_line_for_an_administrator() {
    let directory = Directory::new();
    let (home, bin) = (directory.path().join("home"), directory.path().join("bin"));
    for made in [&home, &bin, &home.join("scripts")] {
        fs::create_dir(made).expect("make a directory");
    }
    // Whoever has no rights may not come as far as the repository.
    for script in ["scripts/needs", "scripts/engines"] {
        fs::copy(root().join(script), home.join(script)).expect("copy a script");
    }
    for tool in ["dirname", "id"] {
        symlink(format!("/usr/bin/{tool}"), bin.join(tool)).expect("link a tool");
    }
    program(&bin.join("dpkg-query"), "exit 1");
    program(&bin.join("apt-get"), "echo apt-get was run; exit 1");
    let mut command = Command::new(home.join("scripts/needs"));
    command.arg("demo").env_clear().env("PATH", &bin).env("HOME", &home).current_dir("/").stdin(Stdio::null());
    if let Some(user) = unprivileged_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let output = command.output().expect("start scripts/needs");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{said}{told}");
    let line = "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev ";
    assert!(said.starts_with(line) && said.lines().count() == 1, "{said}");
    assert!(said.contains(" postgresql-client") && said.contains(" curl"), "{said}");
    assert_eq!(told, "engines: an administrator must run this line, once:\n");
}

//! `scripts/demo`, which `make demo` runs: it succeeds, says why where it cannot, and leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use freehold_testkit::{Directory, Port, Running, processes_under};
use nix::sys::signal::Signal;

use crate::root;
use crate::small_disk::SmallDisk;

struct Demo {
    running: Running,
    temporary: PathBuf,
    _directory: Directory,
    _ports: (Port, Port),
}

impl Demo {
    fn start() -> Self {
        Self::start_at(Port::reserve(), Port::reserve(), |_, _| {})
    }

    fn start_at(api: Port, postgres: Port, change: impl FnOnce(&mut Command, &PathBuf)) -> Self {
        let directory = Directory::new();
        let temporary = directory.path().join("t");
        fs::create_dir(&temporary).expect("make a directory for temporary files");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777)).expect("permit it");
        let mut command = Command::new(root().join("scripts/demo"));
        command.env("FREEHOLD_BIN", env!("CARGO_BIN_EXE_freehold")).env("TMPDIR", &temporary).current_dir("/");
        command.env("FREEHOLD_DEMO_PORT", api.number.to_string());
        command.env("FREEHOLD_DEMO_POSTGRES_PORT", postgres.number.to_string());
        change(&mut command, &temporary);
        let running = Running::spawn(&mut command, &directory.path().join("output"));
        Self { running, temporary, _directory: directory, _ports: (api, postgres) }
    }

    fn ends_with(&mut self, code: i32) -> String {
        let status = self.running.wait(Duration::from_secs(180));
        let output = self.running.output();
        assert_eq!(status.code(), Some(code), "{output}");
        let left: Vec<_> = fs::read_dir(&self.temporary).expect("the temporary directory").flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert!(processes_under(&self.temporary).is_empty(), "something still runs");
        output
    }
}

#[test]
fn demo_shows_three_tenants_and_leaves_nothing() {
    let output = Demo::start().ends_with(0);
    assert!(output.contains("3 tenants, 3 logins, 15 refusals"), "{output}");
    // Each through the pooler, with what the answer to its create said.
    let created: Vec<&str> = output.lines().filter(|line| line.starts_with("   201  ")).collect();
    assert!(created.len() == 3 && created.iter().all(|line| line.contains(" pooled ")), "{output}");
}

#[test]
fn demo_names_a_busy_port_before_it_makes_anything() {
    for is_postgres in [false, true] {
        let (api, postgres) = (Port::reserve(), Port::reserve());
        let number = if is_postgres { postgres.number } else { api.number };
        let _taken = TcpListener::bind(("127.0.0.1", number)).expect("take the port");
        let output = Demo::start_at(api, postgres, |_, _| {}).ends_with(3);
        assert!(output.contains(&number.to_string()) && output.contains("choose another"), "{output}");
    }
}

#[test]
fn demo_names_a_full_disk_before_initdb() {
    let mut mounted = None;
    let mut demo = Demo::start_at(Port::reserve(), Port::reserve(), |_, temporary| {
        mounted = Some(SmallDisk::at(temporary));
    });
    // It goes before the directory that it is over.
    let _disk = mounted;
    let output = demo.ends_with(3);
    assert!(output.contains("too little room in") && output.contains("1024 MB needed"), "{output}");
    assert!(output.contains("TMPDIR choose") && !output.contains("initialise cluster"), "{output}");
}

#[test]
fn demo_ends_in_order_at_an_interrupt() {
    let mut demo = Demo::start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !demo.running.output().contains("ready after") {
        assert!(Instant::now() < deadline, "{}", demo.running.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    // As Ctrl-C does: to everybody in the terminal's foreground.
    demo.running.signal_group(Signal::SIGINT);
    demo.ends_with(130);
}

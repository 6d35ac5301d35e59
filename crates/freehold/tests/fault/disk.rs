//! The server's disk is full: the operation says so, waits, and goes on when there is room. The disk is a small tmpfs
//! under the databases, so this test needs to be root, or sudo without a password.

use std::path::PathBuf;
use std::process::Command;

use freehold_testkit::{Cluster, unprivileged_user};
use reqwest::Method;
use serde_json::json;

use crate::rig::{Rig, Wanted};
use crate::scenario::until_tenant;
use crate::serving::until;

/// Three databases of the cluster, the template, and one tenant fit; then it is tight.
const SIZE: &str = "64m";

/// Unmounts when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Puts the databases of a cluster on a disk of their own.
    fn under(cluster: &mut Cluster) -> Self {
        cluster.stop();
        let base = cluster.data().join("base");
        let aside = cluster.data().join("base.aside");
        std::fs::rename(&base, &aside).expect("put the databases aside");
        std::fs::create_dir(&base).expect("make the place for the disk");
        let owner = unprivileged_user().map_or_else(String::new, |user| format!(",uid={},gid={}", user.uid, user.gid));
        root(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size={SIZE},mode=0700{owner}"),
            "tmpfs",
            &base.display().to_string(),
        ]);
        let disk = Self(base.clone());
        let files = format!("{}/.", aside.display());
        let copied = Command::new("cp").args(["-a", &files]).arg(&base).status().expect("start cp");
        assert!(copied.success(), "the databases do not fit on {SIZE}");
        cluster.start_again();
        disk
    }

    /// Leaves this many bytes.
    fn fill_up_to(&self, left: u64) -> PathBuf {
        let stat = nix::sys::statvfs::statvfs(&self.0).expect("look at the disk");
        let free = stat.blocks_available() * stat.fragment_size();
        assert!(free > left, "only {free} bytes are left");
        let filler = self.0.join("filler");
        std::fs::write(&filler, vec![0u8; usize::try_from(free - left).expect("it fits")]).expect("fill the disk");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: PostgreSQL may still run in it.
        let _ = as_root(&["umount", "-l", &self.0.display().to_string()]).status();
    }
}

fn as_root(args: &[&str]) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(args[0])
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(args[0]);
        sudo
    };
    command.args(&args[1..]);
    command
}

fn root(args: &[&str]) {
    let output = as_root(args).output().unwrap_or_else(|error| panic!("start {args:?}: {error}"));
    assert!(output.status.success(), "{args:?} (as root, or with sudo): {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn disk_full_on_the_server_says_so_and_recovers() {
    let mut cluster = Cluster::start(15);
    let disk = SmallDisk::under(&mut cluster);
    let rig = Rig::new(Wanted { apart: Some(cluster), ..Wanted::default() }).await;
    let mut serve = rig.serve("").await;
    rig.add_server(&serve, 20, None).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    let filler = disk.fill_up_to(2 * 1024 * 1024);
    serve.begin(Method::POST, "/v1/tenants", Some(json!({"id": "acme"}))).await;
    until("it is tried again", async || {
        let newest = rig.newest("tenant.create").await;
        let over = newest.as_ref().is_some_and(|newest| ["succeeded", "failed", "stuck"].contains(&newest.0.as_str()));
        assert!(!over, "{newest:?}\n{}\n{}", serve.output(), rig.server().log());
        newest.is_some_and(|(state, _, attempt, _)| state == "waiting" && attempt >= 2)
    })
    .await;
    let (_, tenant) = serve.get("/v1/tenants/acme").await;
    assert_eq!(tenant["state"], "creating", "{tenant}");
    let operation = tenant["operation"].as_str().expect("the tenant names its operation");
    let (_, operation) = serve.get(&format!("/v1/operations/{operation}")).await;
    assert_eq!(operation["error"]["code"], "disk_full", "{operation}");
    assert!(
        operation["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("No space left") || text.contains("disk is full")),
        "{operation}"
    );
    until("status names it", async || serve.get("/v1/status").await.1["concerns"].to_string().contains("disk_full"))
        .await;
    std::fs::remove_file(filler).expect("make room");
    until_tenant(&serve, "acme", "active").await;
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    // Whatever was written of the failed copies is gone.
    let admin = rig.server().connect("postgres").await;
    let row = admin.query_one("SELECT count(*) FROM pg_database WHERE datname ~ '^fh_[a-z2-7]{16}$'", &[]).await;
    assert_eq!(row.expect("count databases").get::<_, i64>(0), 1);
    drop(rig);
    drop(disk);
}

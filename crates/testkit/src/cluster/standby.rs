//! A second cluster that follows a first one by streaming replication, until it is promoted.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{ADMIN, ADMIN_PASSWORD, Cluster, as_unprivileged, run};
use crate::directory::Directory;
use crate::engine::unprivileged_user;
use crate::port::Port;
use crate::process::PATIENCE;

impl Cluster {
    /// Made by `pg_basebackup` and started: it answers questions and takes no writes.
    pub fn standby_of(primary: &Self) -> Self {
        let directory = Directory::new();
        let (data, socket) = (directory.path().join("data"), directory.path().join("socket"));
        for path in [&data, &socket] {
            std::fs::create_dir(path).expect("make a directory of the standby");
            let mode = if path == &data { 0o700 } else { 0o755 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permit a directory");
            if let Some(user) = unprivileged_user() {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("give a directory away");
            }
        }
        let mut backup = Command::new(primary.bin.join("pg_basebackup"));
        backup
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync", "-D"])
            .arg(&data);
        backup.arg("-d").arg(primary.dsn_with(ADMIN, ADMIN_PASSWORD, "postgres")).current_dir(&socket);
        as_unprivileged(&mut backup);
        run(&mut backup);
        let port = Port::reserve();
        let (version, bin, env) = (primary.version, primary.bin.clone(), primary.env.clone());
        let mut cluster = Self { version, bin, data, socket, port, env, postmaster: None, directory };
        cluster.set("port", &cluster.port.number.to_string());
        cluster.set("unix_socket_directories", &cluster.socket.display().to_string());
        cluster.start_again();
        cluster
    }

    /// Waits until it has all that the primary has written by now.
    pub async fn catch_up(&self, primary: &Self) {
        let lsn = "SELECT pg_current_wal_lsn()::text";
        let there: String =
            primary.connect("postgres").await.query_one(lsn, &[]).await.expect("ask for the LSN").get(0);
        let here = self.connect("postgres").await;
        let deadline = Instant::now() + PATIENCE;
        let behind = format!("SELECT coalesce(pg_last_wal_replay_lsn() < '{there}'::pg_lsn, true)");
        while here.query_one(&behind, &[]).await.expect("ask how far it is").get(0) {
            assert!(Instant::now() < deadline, "the standby does not follow:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// From now on it takes writes.
    pub async fn promote(&self) {
        let sql = "SELECT pg_promote(true, 60)";
        let done: bool = self.connect("postgres").await.query_one(sql, &[]).await.expect("promote").get(0);
        assert!(done, "the standby was not promoted:\n{}", self.log());
    }
}

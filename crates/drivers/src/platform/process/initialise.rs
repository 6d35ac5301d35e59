//! Makes a data directory with initdb: under a temporary name, then renamed, so that a killed initdb leaves
//! nothing that looks like a cluster.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::cluster::{ADMIN_ROLE, Account, ClusterOptions, Durability};
use super::error::ProcessError;
use super::{orphan, preflight, settings};

pub(super) async fn ensure(options: &ClusterOptions, account: &Account) -> Result<(), ProcessError> {
    let dir = &options.data_dir;
    if dir.join("PG_VERSION").is_file() {
        return same_version(options).await;
    }
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ProcessError::NotACluster { dir: dir.clone() });
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| ProcessError::NotWritable { dir: parent.to_owned(), source })?;
    preflight::is_enterable(parent, account)?;
    preflight::has_room(parent, options.durability)?;
    preflight::port_is_free(options.port)?;

    let working = sibling(dir, "initialising");
    if working.exists() {
        orphan::end_initdb(&working).await?;
        fs::remove_dir_all(&working).map_err(ProcessError::io("remove", &working))?;
    }
    private_dir(&working, account)?;
    run_initdb(options, account, &working).await?;
    let conf = working.join("postgresql.conf");
    let mut file = fs::OpenOptions::new().append(true).open(&conf).map_err(ProcessError::io("open", &conf))?;
    writeln!(file, "include '{}'", settings::FILE).map_err(ProcessError::io("write", &conf))?;
    fs::rename(&working, dir).map_err(ProcessError::io("rename the new cluster to", dir))
}

/// `<parent>/.<name>.<what>`, on the same file system.
pub(super) fn sibling(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}"))
}

/// Exists afterwards, mode 0700, and belongs to the user PostgreSQL runs as.
pub(crate) fn private_dir(dir: &Path, account: &Account) -> Result<(), ProcessError> {
    let denied = |source| ProcessError::NotWritable { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(denied)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(denied)?;
    if account.switch {
        chown(dir, Some(account.uid), Some(account.gid)).map_err(denied)?;
    }
    Ok(())
}

async fn run_initdb(options: &ClusterOptions, account: &Account, dir: &Path) -> Result<(), ProcessError> {
    let mut initdb = account.command(&options.binaries.tool("initdb"), dir);
    initdb.arg("-D").arg(dir).args(["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
    initdb.args(["--auth-local=peer", "--auth-host=scram-sha-256", &format!("--username={ADMIN_ROLE}")]);
    if options.durability == Durability::ThrowAway {
        initdb.arg("--no-sync");
    }
    let output =
        initdb.kill_on_drop(true).output().await.map_err(ProcessError::io("run", options.binaries.tool("initdb")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ProcessError::Initdb { dir: options.data_dir.clone(), output: said })
}

async fn same_version(options: &ClusterOptions) -> Result<(), ProcessError> {
    let path = options.data_dir.join("PG_VERSION");
    let theirs = fs::read_to_string(&path).map_err(ProcessError::io("read", &path))?.trim().to_owned();
    let postgres = options.binaries.tool("postgres");
    let output = tokio::process::Command::new(&postgres)
        .arg("--version")
        .output()
        .await
        .map_err(ProcessError::io("run", &postgres))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let ours = said.split_whitespace().nth(2).and_then(|version| version.split('.').next()).unwrap_or_default();
    match ours == theirs {
        true => Ok(()),
        false => Err(ProcessError::OtherVersion { dir: options.data_dir.clone(), theirs, ours: ours.to_owned() }),
    }
}

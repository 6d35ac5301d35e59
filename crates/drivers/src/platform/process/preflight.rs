//! What is looked at before initdb, because initdb and postgres tell it late or badly.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::cluster::{Account, Durability};
use super::error::ProcessError;

pub(super) fn port_is_free(port: u16) -> Result<(), ProcessError> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(ProcessError::PortTaken { port }),
    }
}

/// The same where it listens on `*`, which takes every address, or on one of loopback's.
pub(crate) fn port_is_free_on(listen_addresses: &str, port: u16) -> Result<(), ProcessError> {
    let address = match listen_addresses {
        "*" => "0.0.0.0",
        one => one,
    };
    let is_free = TcpListener::bind((address, port)).is_ok();
    match is_free {
        true => port_is_free(port),
        false => Err(ProcessError::PortTaken { port }),
    }
}

pub(super) fn has_room(dir: &Path, durability: Durability) -> Result<(), ProcessError> {
    // A fresh cluster takes 40 MB, but WAL is kept up to min_wal_size.
    let needed_mb = match durability {
        Durability::Safe => 1024,
        Durability::ThrowAway => 200,
    };
    let stat = statvfs(dir).map_err(|error| ProcessError::Io {
        doing: "examine",
        path: dir.to_owned(),
        source: error.into(),
    })?;
    let free_mb = stat.blocks_available() * stat.fragment_size() / (1024 * 1024);
    match free_mb < needed_mb {
        true => Err(ProcessError::TooLittleRoom { dir: dir.to_owned(), free_mb, needed_mb }),
        false => Ok(()),
    }
}

/// Whether the user that PostgreSQL runs as gets there at all: a directory under /root is the usual trap.
pub(crate) fn is_enterable(dir: &Path, account: &Account) -> Result<(), ProcessError> {
    for ancestor in dir.ancestors() {
        let Ok(meta) = fs::metadata(ancestor) else { continue };
        let bit = match (meta.uid() == account.uid, meta.gid() == account.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if meta.mode() & bit == 0 && account.uid != 0 {
            return Err(ProcessError::NotEnterable { user: account.name.clone(), dir: ancestor.to_owned() });
        }
    }
    Ok(())
}

pub(crate) fn socket_path_fits(dir: &Path) -> Result<(), ProcessError> {
    match dir.as_os_str().len() + "/.s.PGSQL.65535.lock".len() > 107 {
        true => Err(ProcessError::SocketPathTooLong { dir: dir.to_owned() }),
        false => Ok(()),
    }
}

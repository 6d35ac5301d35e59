//! `pg_dump` as a child process, authenticated as the maintenance login. The password is in its environment, which only
//! this machine user and root can read.

use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

use super::super::side::Side;
use super::binary::DumpBinary;
use crate::server::sql::dsn::{HostPort, Roots, SslMode, TargetSessionAttrs};
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::tls;

/// Of somebody else's database: its roles are not the tenant's, and what stands outside of it is not carried.
const OF_THEIRS: [&str; 5] =
    ["--no-owner", "--no-privileges", "--no-publications", "--no-security-labels", "--no-tablespaces"];

pub(super) struct Dump {
    child: Child,
    doing: String,
    /// A certificate authority, while the child needs it.
    _roots: Option<RootsFile>,
}

impl Dump {
    pub(super) fn start(binary: &DumpBinary, source: &Side, section: &str) -> Result<Self, SqlError> {
        let dsn = &source.maintenance_dsn;
        let doing = format!("dump the schema of {}", dsn.database());
        if binary.major < source.admin.version_num() / 10_000 {
            let message = format!("{} is of PostgreSQL {}, the source is newer", binary.path.display(), binary.major);
            return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
        }
        let mut command = Command::new(&binary.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        let list = |part: fn(&HostPort) -> String| dsn.hosts().iter().map(part).collect::<Vec<_>>().join(",");
        command
            .env("PGHOST", list(|at| at.host.clone()))
            .env("PGPORT", list(|at| at.port.to_string()))
            .env("PGUSER", dsn.user())
            .env("PGDATABASE", dsn.database())
            .env("PGSSLMODE", dsn.sslmode().as_str())
            .env("PGAPPNAME", &source.application_name)
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGCONNECT_TIMEOUT", dsn.connect_timeout.as_secs().max(2).to_string());
        if let Some(password) = dsn.password() {
            command.env("PGPASSWORD", password.expose());
        }
        if dsn.target_session_attrs() != TargetSessionAttrs::Any {
            command.env("PGTARGETSESSIONATTRS", "read-write");
        }
        let roots = match &dsn.roots {
            Roots::System => {
                // libpq knows no other place than ~/.postgresql before 16.
                let verifies = matches!(dsn.sslmode(), SslMode::VerifyCa | SslMode::VerifyFull);
                if let Some(path) = tls::system_roots().filter(|_| verifies) {
                    command.env("PGSSLROOTCERT", path);
                }
                None
            }
            Roots::File(path) => {
                command.env("PGSSLROOTCERT", path);
                None
            }
            Roots::Pem(pem) => {
                let file = RootsFile::write(pem).map_err(|error| failed(&doing, &error.to_string()))?;
                command.env("PGSSLROOTCERT", &file.0);
                Some(file)
            }
        };
        command
            .args(["--schema-only", "--no-password", "--no-subscriptions", "--exclude-schema=freehold"])
            .args(["--lock-wait-timeout=10s", &format!("--section={section}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(snapshot) = source.snapshot() {
            command.args(OF_THEIRS).arg(format!("--snapshot={snapshot}"));
        }
        let child = command.spawn().map_err(|error| failed(&doing, &format!("{}: {error}", binary.path.display())))?;
        Ok(Self { child, doing, _roots: roots })
    }

    /// Once.
    pub(super) fn output(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("it was piped, and nobody else takes it")
    }

    pub(super) fn broken(&self, error: &std::io::Error) -> SqlError {
        failed(&self.doing, &error.to_string())
    }

    pub(super) async fn ended(mut self) -> Result<(), SqlError> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut said).await;
        }
        let status = self.child.wait().await.map_err(|error| failed(&self.doing, &error.to_string()))?;
        match status.success() {
            true => Ok(()),
            false => Err(failed(&self.doing, &telling(&said))),
        }
    }
}

/// What matters is first; a statement's text, which may hold a customer's names, comes after.
fn telling(said: &str) -> String {
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("error:") || line.contains("hint:")).take(3).collect();
    match lines.is_empty() {
        true => said.lines().next().unwrap_or("it ended without a word").to_owned(),
        false => lines.join("; "),
    }
}

/// It could not connect, or the server went in the middle.
const AWAY: [&str; 4] =
    ["connection to server", "server closed the connection", "terminating connection", "no connection to the server"];

fn failed(doing: &str, message: &str) -> SqlError {
    let kind = match message {
        text if AWAY.iter().any(|words| text.contains(words)) => SqlErrorKind::Unreachable,
        text if text.contains("permission denied") => SqlErrorKind::Privilege,
        text if text.contains("lock timeout") || text.contains("lock request") => SqlErrorKind::Contention,
        text if text.contains("out of shared memory") => SqlErrorKind::Exhausted,
        _ => SqlErrorKind::Other,
    };
    SqlError::new(doing, kind, message)
}

/// A certificate is no secret; the file goes with the value.
struct RootsFile(std::path::PathBuf);

impl RootsFile {
    fn write(pem: &[u8]) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("freehold-roots-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, pem)?;
        Ok(Self(path))
    }
}

impl Drop for RootsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_tells_what_matters() {
        let said = "pg_dump: error: query failed: ERROR:  permission denied for schema x\npg_dump: detail: Query was: LOCK TABLE x.y\n";
        let error = failed("dump", &telling(said));
        assert_eq!(error.kind, SqlErrorKind::Privilege);
        assert!(!error.to_string().contains("Query was"), "{error}");
        assert_eq!(telling(""), "it ended without a word");
    }
}

//! `tenant url` and `tenant psql`. The password goes to stdout or into psql's environment, never into arguments.

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use freehold_api::TenantId;
use freehold_api::tenant::{Connection, Endpoint};

use crate::Cx;
use crate::client::Request;
use crate::connection::{Format, render, variables};
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct UrlArgs {
    /// The tenant
    id: TenantId,
    /// Straight to the server, not through the pooler
    #[arg(long)]
    direct: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub struct Psql {
    /// The tenant
    id: TenantId,
    /// Straight to the server, not through the pooler
    #[arg(long)]
    direct: bool,
    /// Passed on to psql
    #[arg(last = true, value_name = "PSQL ARGS")]
    args: Vec<String>,
}

pub async fn url(args: UrlArgs, cx: &mut Cx) -> Outcome {
    let reply = cx.client()?.send(Request::get(&["tenants", args.id.as_str(), "connection"])).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    let connection: Connection = reply.parse()?;
    cx.out.line(&render(chosen(&connection, args.direct), args.format));
    Ok(())
}

pub async fn psql(args: Psql, cx: &mut Cx) -> Outcome {
    let connection: Connection = cx.client()?.get(&["tenants", args.id.as_str(), "connection"]).await?;
    let endpoint = chosen(&connection, args.direct);
    let mut psql = std::process::Command::new("psql");
    // A PGSERVICE or PGOPTIONS of the operator must not lead the tenant's session elsewhere.
    for name in ["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGOPTIONS", "PGPASSFILE", "PGSSLCERT", "PGSSLKEY"] {
        psql.env_remove(name);
    }
    // The context's key is not for psql's `\!`.
    psql.env_remove("FREEHOLD_API_KEY").envs(variables(endpoint)).args(&args.args);
    let authority = if args.direct { connection.ca_certificate.as_deref() } else { connection.preferred_ca() };
    if let Some(pem) = authority {
        psql.env("PGSSLROOTCERT", keep_certificate(cx, &args.id, pem)?);
    }
    psql.envs(cx.around.var("PATH").map(|path| ("PATH", path)));
    // Only an error comes back: psql takes this process's place.
    Err(cannot_start(&psql.exec()))
}

fn chosen(connection: &Connection, direct: bool) -> &Endpoint {
    if direct { &connection.direct } else { connection.preferred() }
}

fn cannot_start(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::prerequisite(
            "psql is not installed, or not on PATH",
            "install it (Debian and Ubuntu: apt-get install postgresql-client; macOS: brew install libpq)",
        ),
        _ => Failure::Prerequisite { detail: format!("cannot start psql: {error}"), next: None },
    }
}

/// libpq reads certificates from files only. It is public, so it may stay in the cache.
fn keep_certificate(cx: &Cx, id: &TenantId, pem: &str) -> Result<PathBuf, Failure> {
    let cannot = |path: &PathBuf, error: io::Error| Failure::Prerequisite {
        detail: format!("cannot keep the server's certificate authority in {}: {error}", path.display()),
        next: None,
    };
    let dir = cx.around.xdg("XDG_CACHE_HOME", ".cache").unwrap_or_else(std::env::temp_dir).join("freehold/ca");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| cannot(&dir, error))?;
    let path = dir.join(format!("{id}.pem"));
    let draft = dir.join(format!(".{id}-{}.pem", uuid::Uuid::new_v4()));
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    written
        .and_then(|mut file| io::Write::write_all(&mut file, pem.as_bytes()))
        .and_then(|()| std::fs::rename(&draft, &path))
        .map_err(|error| cannot(&path, error))?;
    Ok(path)
}

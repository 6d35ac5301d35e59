//! The source of an import: what may name it, how it is kept while it is read from, and what its errors mean.

use freehold_api::import::ImportDatabase;
use freehold_drivers::secrets::Context;
use freehold_drivers::server::sql::{Dsn, SqlError, SqlErrorKind};
use freehold_durable::{Class, Cx, Failure};
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, SourceRow};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server::hands;

const FIELD: &str = "from";

/// A server that the network reaches. Files and sockets are this machine's, and none of the caller's business.
pub fn parse(body: &ImportDatabase) -> Answer<Dsn> {
    let dsn = Dsn::parse(&body.from).map_err(|error| Refused::field(FIELD, error.to_string()))?;
    if dsn.hosts().iter().any(|at| at.host.starts_with('/')) {
        let message =
            "a local socket would be one of the machine that Freehold runs on: give the server's host and port";
        return Err(Refused::field(FIELD, message));
    }
    if dsn.has_roots_file() {
        let message = "sslrootcert would be a file of the machine that Freehold runs on: give the certificate itself, as ca_certificate (--ca-file)";
        return Err(Refused::field(FIELD, message));
    }
    Ok(dsn)
}

/// In the transaction that starts the operation, whose end is its end.
pub async fn seal(core: &Core, tx: &mut PgConnection, operation: Uuid, body: &ImportDatabase) -> sqlx::Result<()> {
    let id = Uuid::now_v7();
    let dsn = core.sealer.seal(&context(id), body.from.as_bytes());
    let row = SourceRow { id, dsn, ca_certificate: body.ca_certificate.clone() };
    store::keep_source(tx, operation, &row).await
}

fn context(id: Uuid) -> Context {
    Context { id, field: "import_source", version: 1 }
}

/// For the operation that it was sealed with.
pub async fn open(core: &Core, cx: &Cx) -> Result<Dsn, Failure> {
    let gone = || Failure::permanent("source_forgotten", "where it is imported from is not in the store any more");
    let row = store::find_source(&core.store, cx.operation).await?.ok_or_else(gone)?;
    let opened = core.sealer.open_password(&context(row.id), &row.dsn);
    let opened = opened.map_err(|error| {
        Failure::stuck("sealed_secret_unreadable", format!("connection string of the source: {error}"))
    })?;
    let dsn = Dsn::parse(opened.expose()).map_err(|error| Failure::permanent("bad_dsn", error.to_string()))?;
    Ok(match &row.ca_certificate {
        Some(pem) => dsn.with_ca_pem(pem.as_bytes()),
        None => dsn,
    })
}

/// What an error of the source means: it is nobody's here to mend, so that nothing is parked for it.
pub fn failure(error: SqlError) -> Failure {
    let code = match error.kind {
        SqlErrorKind::Unreachable | SqlErrorKind::StartingUp | SqlErrorKind::Terminated => "source_unreachable",
        SqlErrorKind::AuthFailed => "source_denied",
        SqlErrorKind::Privilege => "source_privilege",
        SqlErrorKind::Missing => "source_missing",
        SqlErrorKind::Tls => "source_tls",
        _ => error.code(),
    };
    let failure = never_parked(hands::failure(error));
    Failure { code: code.into(), message: format!("the source: {}", failure.message), ..failure }
}

/// Nothing that a person could grant or correct here would help: it is undone, and begun again when that is done.
pub fn never_parked(failure: Failure) -> Failure {
    match failure.class {
        Class::Stuck => Failure { class: Class::Permanent, ..failure },
        Class::Transient | Class::Permanent | Class::Fenced => failure,
    }
}

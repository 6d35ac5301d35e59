//! A database with all that making it needs, in one statement.

use jiff_sqlx::Timestamp;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{DatabaseRow, LoginRow};
use crate::schema::store::BuildRow;

/// A database with its logins, what is built of its template on its server, and which version of the server's row it
/// stands on.
pub struct Found {
    pub row: DatabaseRow,
    pub logins: Vec<LoginRow>,
    pub build: Option<BuildRow>,
    pub server_version: i64,
}

/// One of its logins, and all else again. None of what was joined need be there.
#[derive(sqlx::FromRow)]
struct FoundRow {
    #[sqlx(flatten)]
    row: DatabaseRow,
    login: Option<Uuid>,
    purpose: Option<String>,
    role: Option<String>,
    password: Option<Vec<u8>>,
    version: Option<i32>,
    verifier: Option<String>,
    second_of: Option<String>,
    refused_at: Option<Timestamp>,
    build_database: Option<String>,
    build_owner: Option<String>,
    build_state: Option<String>,
    build_error: Option<String>,
    build_failures: Option<i32>,
    build_missing: Option<Vec<String>>,
    resting: bool,
    server_version: i64,
}

impl FoundRow {
    fn login(self) -> Option<LoginRow> {
        Some(LoginRow {
            id: self.login?,
            database_id: self.row.id,
            purpose: self.purpose?,
            role: self.role?,
            password: self.password?,
            version: self.version?,
            verifier: self.verifier?,
            second_of: self.second_of,
            refused_at: self.refused_at,
        })
    }

    fn build(&self) -> Option<BuildRow> {
        Some(BuildRow {
            server_id: self.row.server_id.clone(),
            name: self.row.template.clone(),
            version: self.row.template_version.clone(),
            database: self.build_database.clone()?,
            owner: self.build_owner.clone()?,
            state: self.build_state.clone()?,
            error: self.build_error.clone(),
            failures: self.build_failures?,
            resting: self.resting,
            missing: self.build_missing.clone()?,
        })
    }
}

pub async fn making(store: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Found>> {
    let sql = "SELECT d.*, l.id AS login, l.purpose, l.role, l.password, l.version, l.verifier, l.second_of,
            l.refused_at, b.database AS build_database, b.owner AS build_owner, b.state AS build_state,
            b.error AS build_error, b.failures AS build_failures, b.missing AS build_missing, coalesce(b.retry_at > now(), false) AS resting,
            s.xmin::text::bigint AS server_version
        FROM tenant_database d JOIN server s ON s.id = d.server_id
        LEFT JOIN template_build b
            ON b.server_id = d.server_id AND b.name = d.template AND b.version = d.template_version
        LEFT JOIN login l ON l.database_id = d.id
        WHERE d.id = $1";
    let rows: Vec<FoundRow> = sqlx::query_as(sql).bind(id).fetch_all(store).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (row, build, server_version) = (first.row.clone(), first.build(), first.server_version);
    let logins = rows.into_iter().filter_map(FoundRow::login).collect();
    Ok(Some(Found { row, logins, build, server_version }))
}

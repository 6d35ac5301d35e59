//! How full it is around one tenant: its login, its database, its server. Absent: whether that is too much.

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Sessions of the login, in all databases; and its CONNECTION LIMIT, -1 for none.
    pub of_login: i64,
    pub login_limit: i32,
    /// Sessions in the database, and its limit.
    pub in_database: i64,
    pub database_limit: i32,
    /// Sessions on the server, and how many it admits besides those it reserves.
    pub on_server: i64,
    pub server_max: i64,
    pub in_recovery: bool,
    pub size_bytes: i64,
    /// Transactions that were prepared in the database and neither committed nor rolled back; since when the oldest is.
    pub prepared: i64,
    pub oldest_prepared: Option<Timestamp>,
    /// By the server's clock.
    pub now: Timestamp,
}

const STANDING: &str = "select \
    (select count(*) from pg_stat_activity where usename = $1), coalesce((select rolconnlimit from pg_roles where rolname = $1), -1), \
    (select count(*) from pg_stat_activity where datid = d.oid and usesysid is not null), d.datconnlimit, \
    (select count(*) from pg_stat_activity where datid is not null and usesysid is not null), \
    (current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8 \
        - coalesce(current_setting('reserved_connections', true)::int8, 0)), \
    pg_is_in_recovery(), pg_database_size(d.oid), \
    (select count(*) from pg_prepared_xacts where database = d.datname), \
    (select min(prepared) from pg_prepared_xacts where database = d.datname), clock_timestamp() \
    from pg_database d where d.datname = $2";

impl Admin {
    /// None: there is no such database.
    pub async fn standing(&self, login: &str, database: &str) -> Result<Option<Standing>, SqlError> {
        let params = [(&login as _, Type::TEXT), (&database as _, Type::TEXT)];
        let rows = self.rows(format!("look how full {database} is"), STANDING, &params).await?;
        Ok(rows.first().map(|row| Standing {
            of_login: row.get(0),
            login_limit: row.get(1),
            in_database: row.get(2),
            database_limit: row.get(3),
            on_server: row.get(4),
            server_max: row.get(5),
            in_recovery: row.get(6),
            size_bytes: row.get(7),
            prepared: row.get(8),
            oldest_prepared: row.get(9),
            now: row.get(10),
        }))
    }
}

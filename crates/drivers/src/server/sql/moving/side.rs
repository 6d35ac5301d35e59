//! One of the two servers, with the sessions that a move needs there: opened before the fence, for a login costs more than
//! what is done under it. The source of an import is a side as well ([`super::Foreign`]): that of somebody else, who let us read.

use tokio_postgres::Row;

use crate::server::sql::admin::{Admin, Params};
use crate::server::sql::dsn::Dsn;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::session::{Maintenance, Session};

pub struct Side {
    /// In the tenant's database: catalogs, and what is Freehold's own.
    pub admin: Admin,
    /// Whatever touches the tenant's objects.
    pub maintenance: Maintenance,
    pub(super) admin_dsn: Dsn,
    pub(super) maintenance_dsn: Dsn,
    pub(super) owner: String,
    /// `fh:<operation>:<epoch>`: of every session of this side, so that a successor finds them (rule 8).
    pub(super) application_name: String,
    pub(super) whose: Whose,
}

/// Whose the database is on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// A tenant's: whatever touches its objects is its maintenance login.
    Tenants,
    /// Somebody else's, read by a login of his, as of a snapshot that a session of ours holds there. Its large objects as of then.
    Theirs { snapshot: String, large_objects: Vec<u32> },
}

/// The same text for the same value on every version. Without `row_security` a hidden row is an error, not an absence.
const SETTINGS: [(&str, &str); 14] = [
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("row_security", "off"),
    ("client_min_messages", "warning"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
];

impl Side {
    /// `admin` and `maintenance` say how to log in; the database and its owner are the tenant's.
    pub async fn open(
        admin: &Dsn,
        maintenance: &Dsn,
        database: &str,
        owner: &str,
        application_name: &str,
    ) -> Result<Self, SqlError> {
        let mut inside = Admin::connect(admin, Some(database), application_name).await?;
        if inside.passes_event_triggers() {
            inside.close().await;
            inside = Admin::connect_past_event_triggers(admin, Some(database), application_name).await?;
        } else if let Some(trigger) = inside.event_triggers_of_others().await?.first() {
            let message = format!(
                "event trigger {trigger} would have the admin run what others define: disable it, or drop it, first"
            );
            return Err(SqlError::new(format!("work in {database}"), SqlErrorKind::NotSupported, message));
        }
        let maintenance_dsn = maintenance.with_database(database);
        let session = maintain(&maintenance_dsn, owner, application_name).await?;
        Ok(Self {
            admin: inside,
            maintenance: session,
            admin_dsn: admin.with_database(database),
            maintenance_dsn,
            owner: owner.to_owned(),
            application_name: application_name.to_owned(),
            whose: Whose::Tenants,
        })
    }

    pub fn database(&self) -> &str {
        self.admin.database()
    }

    pub async fn close(self) {
        self.admin.close().await;
        self.maintenance.close().await;
    }

    /// Planner statistics, which replication does not carry.
    pub async fn analyze(&self) -> Result<(), SqlError> {
        run(&self.maintenance, format!("analyze {}", self.database()), "ANALYZE").await
    }

    /// One more session like [`Self::maintenance`].
    pub(super) async fn session(&self) -> Result<Maintenance, SqlError> {
        match self.whose {
            Whose::Tenants => maintain(&self.maintenance_dsn, &self.owner, &self.application_name).await,
            Whose::Theirs { .. } => read(&self.maintenance_dsn, &self.application_name).await,
        }
    }

    pub(super) fn is_theirs(&self) -> bool {
        matches!(self.whose, Whose::Theirs { .. })
    }

    /// By which all of it is read.
    pub(super) fn snapshot(&self) -> Option<&str> {
        match &self.whose {
            Whose::Tenants => None,
            Whose::Theirs { snapshot, .. } => Some(snapshot),
        }
    }

    pub(super) async fn run(&self, doing: impl Into<String>, sql: &str) -> Result<(), SqlError> {
        run(&self.maintenance, doing, sql).await
    }

    pub(super) async fn rows(
        &self,
        doing: impl Into<String>,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, SqlError> {
        rows(&self.maintenance, doing, sql, params).await
    }
}

/// A maintenance session that is the owner, or none: roles are what keeps a tenant's code from the admin's rights.
pub(super) async fn maintain(dsn: &Dsn, owner: &str, application_name: &str) -> Result<Maintenance, SqlError> {
    let session = Session::connect(dsn, None, application_name, &SETTINGS).await?;
    let doing = format!("work as {} in {}", dsn.user(), session.database());
    let sql = "select current_user::text, (select rolsuper from pg_roles where rolname = session_user)";
    let found = rows(&session, &doing, sql, &[]).await?;
    let (user, superuser): (String, bool) = match found.first() {
        Some(row) => (row.get(0), row.get::<_, Option<bool>>(1).unwrap_or(true)),
        None => (String::new(), true),
    };
    match user == owner && !superuser {
        true => Ok(session),
        false => {
            let message = format!("expected to be {owner} and no superuser, but is {user}");
            Err(SqlError::new(doing, SqlErrorKind::Unexpected, message))
        }
    }
}

/// A session that changes nothing, whoever its login is.
pub(super) async fn read(dsn: &Dsn, application_name: &str) -> Result<Maintenance, SqlError> {
    let session = Session::connect(dsn, None, application_name, &SETTINGS).await?;
    run(&session, format!("only read {}", session.database()), "SET default_transaction_read_only = on").await?;
    Ok(session)
}

pub(super) async fn run(session: &Session, doing: impl Into<String>, sql: &str) -> Result<(), SqlError> {
    session.client().batch_execute(sql).await.map_err(|error| SqlError::from_pg(doing, error))
}

pub(super) async fn rows(
    session: &Session,
    doing: impl Into<String>,
    sql: &str,
    params: Params<'_>,
) -> Result<Vec<Row>, SqlError> {
    session.client().query_typed(sql, params).await.map_err(|error| SqlError::from_pg(doing, error))
}

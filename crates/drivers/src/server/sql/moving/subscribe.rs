//! What applies the changes of the other side, here.
//!
//! Its owner is a role that nobody can log in as, a member of the tenant's owner and of nothing else. On 15 only a
//! superuser may own a subscription at the moment it is given one: the role is made superuser, given the subscription and
//! made none again in one transaction, so at no time does anybody see it as one; workers start later, when it is enabled.

use tokio_postgres::types::Type;

use super::link::Link;
use super::publish::unhurried;
use super::side::Side;
use crate::server::sql::admin::Admin;
use crate::server::sql::dsn::{Dsn, SslMode};
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, literal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Each table is copied, then followed.
    Copied,
    /// Both sides are equal at the slot's position.
    Equal,
}

/// The statement holds the reader's password: nobody is to write it down.
const UNSEEN: [(&str, &str); 4] = [
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_error_statement", "panic"),
    ("track_activities", "off"),
];

impl Side {
    /// `from` is how this server reaches the other one, as the reader. It is made disabled: `enable` starts it. Answers its oid, which `drop_slots_of_copies` wants.
    pub async fn subscribe(&self, link: &Link, from: &Dsn, content: Content) -> Result<u32, SqlError> {
        let doing = format!("subscribe {} to {}", self.database(), from.public());
        if let Some(oid) = self.subscription(link).await? {
            return Ok(oid);
        }
        self.marker_is_ours(&doing).await?;
        let writer = link.writer();
        self.drop_role_of_link(&writer).await?;
        let (name, role, version) = (ident(link.name()), ident(&writer), self.admin.version_num());
        if version < 160_000 && !self.admin.superuser {
            let message = "PostgreSQL 15 lets superusers alone subscribe: the admin is none, so move by dump";
            return Err(SqlError::new(doing, SqlErrorKind::Privilege, message));
        }
        let raised = if version < 160_000 { " SUPERUSER" } else { "" };
        let past = if self.passes_row_security().await? { " BYPASSRLS" } else { "" };
        let mut options = vec![
            "enabled = false".to_owned(),
            "create_slot = false".into(),
            format!("slot_name = {}", literal(link.name())),
            format!("copy_data = {}", content == Content::Copied),
        ];
        if version >= 160_000 {
            options.push("origin = none".into());
            // As on 15: what the tenant defined runs as the writer, which may do no more than the tenant.
            options.push("run_as_owner = true".into());
        }
        let mut sql = vec![format!("CREATE ROLE {role} LOGIN{raised}{past}")];
        sql.extend(unhurried(&writer, version));
        sql.push(format!("GRANT {} TO {role}", ident(&self.owner)));
        sql.push(format!("GRANT USAGE ON SCHEMA freehold TO {role}"));
        sql.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE freehold.move_marker TO {role}"));
        sql.push(format!(
            "CREATE SUBSCRIPTION {name} CONNECTION {} PUBLICATION {name} WITH ({})",
            literal(&conninfo(from)),
            options.join(", ")
        ));
        sql.push(format!("ALTER SUBSCRIPTION {name} OWNER TO {role}"));
        if !raised.is_empty() {
            sql.push(format!("ALTER ROLE {role} NOSUPERUSER"));
        }
        let unseen = self.unseen(&doing).await?;
        let outcome = unseen.run_all(&doing, &sql).await;
        unseen.close().await;
        outcome?;
        let oid = self.subscription(link).await?;
        oid.ok_or_else(|| SqlError::new(doing, SqlErrorKind::Unexpected, "the subscription is not there"))
    }

    /// What the other side's log has before this place is not applied, whatever its slot remembers. Between `subscribe` and the
    /// first `enable`. From 16 on nothing that was applied there is sent anyway (`origin = none`), and who may not say this
    /// need not.
    pub async fn follow_from(&self, link: &Link, place: &str) -> Result<(), SqlError> {
        let Some(oid) = self.subscription(link).await?.filter(|_| self.admin.superuser) else { return Ok(()) };
        let sql = "select pg_replication_origin_advance(o.roname, $2::text::pg_lsn) from pg_replication_origin o \
                   where o.roname = 'pg_' || $1 \
                   and coalesce(pg_replication_origin_progress(o.roname, true), '0/0') < $2::text::pg_lsn";
        let doing = format!("follow {} from {place}", link.name());
        self.admin.rows(doing, sql, &[(&oid.to_string(), Type::TEXT), (&place, Type::TEXT)]).await.map(drop)
    }

    pub async fn enable(&self, link: &Link) -> Result<(), SqlError> {
        self.alter_subscription(link, "ENABLE").await
    }

    /// Waits for its commit to be on disk, and with it for all that was applied before: workers do not.
    pub async fn disable(&self, link: &Link) -> Result<(), SqlError> {
        self.alter_subscription(link, "DISABLE").await
    }

    /// The subscription and its role: all that a direction has at its subscriber. The slot is the publisher's
    /// (`unpublish`), so that this succeeds also when that one is dead.
    pub async fn unlink(&self, link: &Link) -> Result<(), SqlError> {
        let (doing, name) = (format!("end subscription {}", link.name()), ident(link.name()));
        if self.subscription(link).await?.is_some() {
            self.disable(link).await?;
            self.admin.run(&doing, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).await?;
            self.admin.run(&doing, &format!("DROP SUBSCRIPTION IF EXISTS {name}")).await?;
        }
        self.drop_role_of_link(&link.writer()).await
    }

    async fn alter_subscription(&self, link: &Link, verb: &str) -> Result<(), SqlError> {
        let doing = format!("{} subscription {}", verb.to_lowercase(), link.name());
        let sql = format!("SET LOCAL synchronous_commit = on; ALTER SUBSCRIPTION {} {verb}", ident(link.name()));
        self.admin.run(doing, &sql).await
    }

    /// A session whose statements are neither logged nor shown. Who may not say so must have a server that does not log.
    async fn unseen(&self, doing: &str) -> Result<Admin, SqlError> {
        let (dsn, name) = (&self.admin_dsn, &self.application_name);
        let admin = match self.admin.passes_event_triggers() {
            true => Admin::connect_past_event_triggers(dsn, None, name).await?,
            false => Admin::connect(dsn, None, name).await?,
        };
        if admin.superuser {
            let mut sql: Vec<String> =
                UNSEEN.iter().map(|(name, value)| format!("SET {name} = {}", literal(value))).collect();
            let tracks = "select name from pg_settings where name in ('pg_stat_statements.track', 'pgaudit.log')";
            for row in admin.rows(doing, tracks, &[]).await? {
                sql.push(format!("SET {} = 'none'", row.get::<_, String>(0)));
            }
            admin.run_all(doing, &sql).await?;
            return Ok(admin);
        }
        let seen = "select name, setting from pg_settings where name = 'log_statement' and setting <> 'none' \
                    or name = 'log_min_duration_statement' and setting <> '-1' or name = 'pg_stat_statements.track' and setting <> 'none'";
        match admin.rows(doing, seen, &[]).await?.first() {
            None => Ok(admin),
            Some(row) => {
                let message = format!(
                    "{} is {}, and would write a password down; the admin is no superuser, so it cannot be turned off for itself",
                    row.get::<_, String>(0),
                    row.get::<_, String>(1)
                );
                Err(SqlError::new(doing, SqlErrorKind::Privilege, message))
            }
        }
    }

    pub(super) async fn subscription(&self, link: &Link) -> Result<Option<u32>, SqlError> {
        let sql = "select s.oid from pg_subscription s join pg_database d on d.oid = s.subdbid \
                   where s.subname = $1 and d.datname = current_database()";
        let rows = self.admin.rows("look for a subscription", sql, &[(&link.name(), Type::TEXT)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

/// libpq's own form. Where TLS is wanted, channel binding proves the other server: it knows the reader's verifier, and
/// there is nobody in between. A certificate authority's file is not on this server.
fn conninfo(dsn: &Dsn) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let list = |items: Vec<String>| value(&items.join(","));
    let mut parts = vec![
        format!("host={}", list(dsn.hosts().iter().map(|at| at.host.clone()).collect())),
        format!("port={}", list(dsn.hosts().iter().map(|at| at.port.to_string()).collect())),
        format!("dbname={}", value(dsn.database())),
        format!("user={}", value(dsn.user())),
        format!("connect_timeout={}", dsn.connect_timeout.as_secs().max(2)),
    ];
    if let Some(password) = dsn.password() {
        parts.push(format!("password={}", value(password.expose())));
    }
    if dsn.hosts().len() > 1 {
        parts.push("target_session_attrs=read-write".into());
    }
    match dsn.sslmode() {
        SslMode::Disable => parts.push("sslmode=disable".into()),
        SslMode::Prefer => parts.push("sslmode=prefer".into()),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            parts.push("sslmode=require channel_binding=require".into());
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conninfo_quotes_and_binds_the_channel() {
        let dsn = Dsn::parse("postgres://a%27b:c%5Cd@h:5433/e%20f?sslmode=verify-full").unwrap();
        assert_eq!(
            conninfo(&dsn),
            r"host='h' port='5433' dbname='e f' user='a\'b' connect_timeout=5 password='c\\d' sslmode=require channel_binding=require"
        );
    }
}

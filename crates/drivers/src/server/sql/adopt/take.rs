//! Takes a database over: closes it to others, gives what is in it to its new owner.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::look::{DefaultAcl, EventTrigger};
use super::objects::Object;
use crate::server::sql::admin::Admin;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::own::freehold_schema;
use crate::server::sql::quote::ident;

const END_WITHIN: Duration = Duration::from_secs(10);

/// How many were asked to end.
const END_OTHERS: &str = "select count(*) from (select case when current_setting('is_superuser')::bool \
        or not r.rolsuper and (pg_has_role(r.oid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE')) \
        then pg_terminate_backend(a.pid) else false end as asked \
    from pg_stat_activity a join pg_roles r on r.oid = a.usesysid \
    where a.datname = $1 and r.rolname <> current_user and r.rolname <> all($2) \
    and coalesce(a.backend_type, 'client backend') = 'client backend') e where asked";

/// Who may come in from now on.
#[derive(Debug, Clone)]
pub struct Closing<'a> {
    pub database: &'a str,
    pub owner: &'a str,
    /// Logins that stay: they become members of the owner, and it in this database.
    pub kept: &'a [String],
    /// Roles that are named in the database's ACL now.
    pub named: &'a [String],
    /// Whether the template gives the database itself to the tenant.
    pub tenant_owns_database: bool,
}

#[derive(Debug, Clone)]
pub struct Taking<'a> {
    pub owner: &'a str,
    /// On record. They are disabled before anything is altered: an admin's ALTER would run them.
    pub event_triggers: &'a [EventTrigger],
    /// Of the former owners.
    pub default_acls: &'a [DefaultAcl],
    /// Roles besides PUBLIC that may stay in default privileges.
    pub kept: &'a [String],
}

impl Admin {
    /// The database becomes the admin's, its new owner role may do all in it, and nobody else comes in. Shared objects
    /// alone: no event trigger hears of it.
    pub async fn close_database(&self, closing: &Closing<'_>) -> Result<(), SqlError> {
        let (database, owner) = (ident(closing.database), ident(closing.owner));
        let mut sql = vec!["SET LOCAL lock_timeout = '5s'".to_owned()];
        let new_owner = if closing.tenant_owns_database { closing.owner } else { &self.user };
        sql.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
        sql.push(format!("ALTER DATABASE {database} OWNER TO {}", ident(new_owner)));
        sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        for role in closing.named.iter().filter(|role| *role != new_owner && *role != closing.owner) {
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM {} CASCADE", ident(role)));
        }
        // A grant that CASCADE took along, or that the change of owner merged.
        sql.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
        for login in closing.kept {
            sql.push(format!("GRANT {owner} TO {}", ident(login)));
            sql.push(format!("ALTER ROLE {} IN DATABASE {database} SET role = {owner}", ident(login)));
        }
        self.run_all(format!("close database {}", closing.database), &sql).await
    }

    /// Ends the sessions in a database, but the admin's own and those of the logins that are kept. Who is not this admin's
    /// to end stays: it keeps what it has locked, and comes in no more.
    pub async fn end_others(&self, database: &str, kept: &[String]) -> Result<(), SqlError> {
        let doing = format!("end the sessions in {database}");
        let deadline = Instant::now() + END_WITHIN;
        loop {
            let params = [(&database as _, Type::TEXT), (&kept as _, Type::TEXT_ARRAY)];
            let asked: i64 = self.row(&doing, END_OTHERS, &params).await?.get(0);
            if asked == 0 || Instant::now() > deadline {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// On a connection in the database: event triggers are disabled and become the admin's, and one that was not there,
    /// or not enabled, when they were recorded stops everything. Whoever owns one may enable it, and the superuser who
    /// made it may be one no more.
    pub async fn quiet_event_triggers(&self, known: &[EventTrigger]) -> Result<(), SqlError> {
        let doing = format!("disable the event triggers of {}", self.database());
        let found = self.event_triggers().await?;
        let expected = |found: &EventTrigger| {
            known.iter().any(|known| known.name == found.name && (known.is_enabled() || !found.is_enabled()))
        };
        if let Some(new) = found.iter().find(|found| !expected(found)) {
            let message = format!("event trigger {} was not there, or not enabled, a moment ago", new.name);
            return Err(SqlError::new(doing, SqlErrorKind::Unexpected, message));
        }
        let mut sql = Vec::new();
        for trigger in &found {
            let name = ident(&trigger.name);
            if trigger.is_enabled() {
                sql.push(format!("ALTER EVENT TRIGGER {name} DISABLE"));
            }
            if self.superuser && trigger.owner != self.user {
                sql.push(format!("ALTER EVENT TRIGGER {name} OWNER TO {}", ident(&self.user)));
            }
        }
        self.run_all(doing, &sql).await
    }

    /// On a connection in the database. What `objects` names becomes the owner's.
    pub async fn take_objects(&self, objects: &[&Object], taking: &Taking<'_>) -> Result<(), SqlError> {
        self.quiet_event_triggers(taking.event_triggers).await?;
        self.give_objects(objects, taking.owner).await
    }

    /// What the new owner makes is born with the privileges that the former owners' things were, as far as those
    /// who had them are still there; then the admin's own schema.
    pub async fn take_defaults(&self, taking: &Taking<'_>) -> Result<(), SqlError> {
        self.quiet_event_triggers(taking.event_triggers).await?;
        let mut sql: Vec<String> =
            taking.default_acls.iter().flat_map(|acl| defaults(acl, taking.owner, taking.kept)).collect();
        sql.extend(freehold_schema());
        self.run_all(format!("settle what {} makes in {}", taking.owner, self.database()), &sql).await
    }
}

/// The statements that make one entry of the former owner's hold for the new one.
fn defaults(acl: &DefaultAcl, owner: &str, kept: &[String]) -> Vec<String> {
    let Some(kind) = kind(&acl.kind) else { return Vec::new() };
    let place = acl.schema.as_deref().map(|schema| format!(" IN SCHEMA {}", ident(schema))).unwrap_or_default();
    let alter = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{place}", ident(owner));
    let mut sql = Vec::new();
    // In every schema an entry replaces the built-in one: what PUBLIC has there and not here was revoked.
    let public = |grant: &super::PrivilegeOn| grant.grantee.is_empty();
    if acl.schema.is_none() && matches!(acl.kind.as_str(), "f" | "T") && !acl.grants.iter().any(public) {
        sql.push(format!("{alter} REVOKE ALL ON {kind} FROM PUBLIC"));
    }
    for grant in acl.grants.iter().filter(|grant| grant.grantee != acl.role) {
        let grantee = match grant.grantee.as_str() {
            "" => "PUBLIC".to_owned(),
            name if kept.iter().any(|kept| kept == name) => ident(name),
            _ => continue,
        };
        let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
        sql.push(format!("{alter} GRANT {} ON {kind} TO {grantee}{option}", grant.privilege));
    }
    sql
}

fn kind(letter: &str) -> Option<&'static str> {
    match letter {
        "r" => Some("TABLES"),
        "S" => Some("SEQUENCES"),
        "f" => Some("ROUTINES"),
        "T" => Some("TYPES"),
        "n" => Some("SCHEMAS"),
        _ => None,
    }
}

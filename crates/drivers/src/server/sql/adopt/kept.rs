//! Logins of before that were kept: out of the adopted database, and in again. They are somebody's in other databases too,
//! so neither the role nor its sessions elsewhere are touched.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use crate::server::sql::admin::Admin;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, literal, owned};

const DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Admin {
    /// Takes from these logins what lets them in: membership in the tenant's `roles`, by whomever it was granted, and
    /// privileges of their own on the database; then ends their sessions in it until none is left.
    pub async fn refuse_kept(&self, database: &str, kept: &[&str], roles: &[&str]) -> Result<(), SqlError> {
        let doing = format!("refuse {} in {database}", kept.join(", "));
        let there = self.existing_roles(kept).await?;
        let has_database = self.database_exists(database).await?;
        let deadline = Instant::now() + DEADLINE;
        while !there.is_empty() {
            // Before too: an open transaction may hold what is to be changed.
            self.end_kept(&doing, database, &there).await?;
            let mut sql = vec!["SET LOCAL lock_timeout = '300ms'".to_owned()];
            sql.extend(self.memberships(&doing, &there, roles).await?);
            if has_database {
                let from = |login: &String| {
                    format!("REVOKE ALL ON DATABASE {} FROM {} CASCADE", ident(database), ident(login))
                };
                sql.extend(there.iter().map(from));
            }
            match self.run_all(&doing, &sql).await {
                Err(error) if error.kind == SqlErrorKind::Contention && Instant::now() < deadline => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        self.until_kept_are_out(&doing, database, &there).await
    }

    /// As members of the tenant's owner role, which may connect.
    pub async fn admit_kept(&self, kept: &[&str], owner: &str) -> Result<(), SqlError> {
        let there = self.existing_roles(kept).await?;
        let sql: Vec<String> =
            there.iter().map(|login| format!("GRANT {} TO {}", ident(owner), ident(login))).collect();
        self.run_all(format!("admit {}", kept.join(", ")), &sql).await
    }

    /// What takes them out of `roles`. From 16 on a grant is revoked as its grantor.
    async fn memberships(&self, doing: &str, kept: &[String], roles: &[&str]) -> Result<Vec<String>, SqlError> {
        let sql = "select g.rolname::text, r.rolname::text, by.rolname::text from pg_auth_members m \
                   join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member \
                   left join pg_roles by on by.oid = m.grantor where r.rolname = any($1) and g.rolname = any($2)";
        let params = [(&kept as _, Type::TEXT_ARRAY), (&owned(roles) as _, Type::TEXT_ARRAY)];
        let rows = self.rows(doing, sql, &params).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let granted_by = match row.get::<_, Option<String>>(2) {
                    Some(by) if self.version_num() >= 160_000 => format!(" GRANTED BY {}", ident(&by)),
                    _ => String::new(),
                };
                format!("REVOKE {} FROM {}{granted_by}", ident(row.get(0)), ident(row.get(1)))
            })
            .collect())
    }

    async fn until_kept_are_out(&self, doing: &str, database: &str, kept: &[String]) -> Result<(), SqlError> {
        let sql = "select count(*) from pg_stat_activity where datname = $1 and usename = any($2) and usename <> current_user";
        let deadline = Instant::now() + DEADLINE;
        let mut quiet = 0;
        while !kept.is_empty() {
            let params = [(&database as _, Type::TEXT), (&kept as _, Type::TEXT_ARRAY)];
            let left: i64 = self.row(doing, sql, &params).await?.get(0);
            // Twice: a backend that was being let in at the first look shows up at the second.
            quiet = if left == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
            if Instant::now() > deadline {
                let message = format!("{left} sessions are left after {DEADLINE:?}");
                return Err(SqlError::new(doing, SqlErrorKind::Timeout, message));
            }
            if left > 0 {
                self.end_kept(doing, database, kept).await?;
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// And of whoever came in as a member of one of them. A weak admin acts for such a login in this transaction alone.
    async fn end_kept(&self, doing: &str, database: &str, kept: &[String]) -> Result<(), SqlError> {
        let names: Vec<String> = kept.iter().map(|name| literal(name)).collect();
        let end = format!(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
             WHERE a.datname = {} AND NOT r.rolsuper AND r.rolname <> current_user AND pg_has_role(r.oid, 'USAGE') \
             AND EXISTS (SELECT FROM pg_roles k WHERE k.rolname IN ({}) AND pg_has_role(r.oid, k.oid, 'MEMBER'))",
            literal(database),
            names.join(", ")
        );
        let lent = self.not_acted_for(doing, kept).await?;
        let options = if self.version_num() >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        let me = ident(&self.user);
        let mut sql: Vec<String> =
            lent.iter().map(|login| format!("GRANT {} TO {me}{options}", ident(login))).collect();
        sql.push(end);
        sql.extend(lent.iter().map(|login| format!("REVOKE {} FROM {me}", ident(login))));
        self.run_all(doing, &sql).await
    }

    /// Before 16 there is one membership, which is not to be taken away here; from then on one for each grantor.
    async fn not_acted_for(&self, doing: &str, kept: &[String]) -> Result<Vec<String>, SqlError> {
        let how = if self.version_num() >= 160_000 { "USAGE" } else { "MEMBER" };
        let sql = "select rolname::text from pg_roles where rolname = any($1) and not pg_has_role(oid, $2)";
        let rows = self.rows(doing, sql, &[(&kept, Type::TEXT_ARRAY), (&how, Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

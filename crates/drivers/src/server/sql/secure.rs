//! Takes CONNECT and TEMPORARY from PUBLIC on every database of a server, then reads the ACLs back: a weak admin's
//! REVOKE answers success and does nothing (rule 7).

use super::admin::Admin;
use super::error::SqlError;
use super::facts::{Finding, Severity};
use super::quote::ident;

/// Databases that PUBLIC may still enter. template0 admits nobody.
const OPEN: &str = "select d.datname::text from pg_database d \
    cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
    where a.grantee = 0 and a.privilege_type in ('CONNECT', 'TEMPORARY') and d.datallowconn and d.datconnlimit <> -2 \
    group by d.datname order by d.datname";

impl Admin {
    /// Never fails for a database that this admin may not change: that is a finding.
    pub async fn secure_server(&self) -> Result<Vec<Finding>, SqlError> {
        for name in self.open_databases().await? {
            let sql = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", ident(&name));
            if let Err(error) = self.run(format!("revoke CONNECT on {name} from PUBLIC"), &sql).await {
                if self.is_closed() {
                    return Err(error);
                }
                tracing::debug!(%error, database = name, "not revoked");
            }
        }
        let left = self.open_databases().await?;
        Ok(left.iter().map(|name| still_open(name)).collect())
    }

    async fn open_databases(&self) -> Result<Vec<String>, SqlError> {
        let rows = self.rows("read who may connect", OPEN, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn still_open(name: &str) -> Finding {
    let message = format!(
        "every tenant may connect to database {name}: its owner has to run REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC",
        ident(name)
    );
    Finding::new("database_open_to_public", Severity::Medium, message)
}

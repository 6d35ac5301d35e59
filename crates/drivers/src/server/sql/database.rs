//! Databases come and go here; who owns what inside them is `own.rs`.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};
use super::quote::{ident, literal};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateDatabase<'a> {
    /// None: template0.
    pub template: Option<&'a str>,
    /// Only without a template: a copy has its template's locale. None: the cluster's.
    pub locale: Option<&'a str>,
    /// None: the admin. A tenant that owns its database may hand out CONNECT and raise its own limits.
    pub owner: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    Created,
    Existed,
}

impl Admin {
    /// CREATE DATABASE is atomic, so one that exists is whole. `InUse` (somebody is connected to the template) is
    /// the caller's to repeat.
    pub async fn ensure_database(&self, name: &str, create: &CreateDatabase<'_>) -> Result<Ensured, SqlError> {
        let doing = || format!("create database {name}");
        match self.connection_limit_of(name).await? {
            // A DROP that was interrupted leaves a row with -2 (15.4 and later): nobody can connect to it again.
            Some(-2) => self.drop_database(name).await?,
            Some(_) => return Ok(Ensured::Existed),
            None => {}
        }
        let mut sql = format!(
            "CREATE DATABASE {} STRATEGY WAL_LOG TEMPLATE {}",
            ident(name),
            ident(create.template.unwrap_or("template0"))
        );
        if create.template.is_none() {
            sql.push_str(" ENCODING 'UTF8'");
            if let Some(locale) = create.locale {
                sql.push_str(&format!(" LOCALE {}", literal(locale)));
            }
        }
        if let Some(owner) = create.owner {
            sql.push_str(&format!(" OWNER {}", ident(owner)));
        }
        match self.run(doing(), &sql).await {
            Ok(()) => Ok(Ensured::Created),
            Err(error) if error.kind == SqlErrorKind::AlreadyExists => Ok(Ensured::Existed),
            Err(error) => Err(error),
        }
    }

    /// Gone afterwards, whoever was connected. The three databases that every server has are refused.
    pub async fn drop_database(&self, name: &str) -> Result<(), SqlError> {
        let doing = || format!("drop database {name}");
        if ["postgres", "template0", "template1"].contains(&name) {
            return Err(SqlError::new(doing(), SqlErrorKind::NotSupported, "this database belongs to the server"));
        }
        match self.connection_limit_of(name).await? {
            None => return Ok(()),
            // An invalid database takes no ALTER.
            Some(-2) => {}
            // Only where it is needed: this would wait for a tenant that holds the database's row.
            Some(_) if self.is_template(name).await? => {
                match self.run(doing(), &format!("ALTER DATABASE {} IS_TEMPLATE false", ident(name))).await {
                    Err(error) if error.kind == SqlErrorKind::Missing => return Ok(()),
                    other => other?,
                }
            }
            Some(_) => {}
        }
        self.run(doing(), &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name))).await
    }

    pub async fn database_exists(&self, name: &str) -> Result<bool, SqlError> {
        Ok(self.connection_limit_of(name).await?.is_some())
    }

    /// Rule 5: takes a template that was built under a working name and VACUUM FREEZEd out of circulation for good.
    pub async fn freeze_template(&self, working: &str, template: &str) -> Result<(), SqlError> {
        let doing = || format!("freeze template {template}");
        match (self.database_exists(working).await?, self.database_exists(template).await?) {
            (false, true) => return Ok(()),
            (true, true) => {
                return Err(SqlError::new(
                    doing(),
                    SqlErrorKind::AlreadyExists,
                    format!("{template} exists and {working} too: a template is never altered"),
                ));
            }
            (false, false) => {
                return Err(SqlError::new(doing(), SqlErrorKind::Missing, format!("there is no database {working}")));
            }
            (true, false) => {}
        }
        self.run(doing(), &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(working))).await?;
        self.terminate_in(working).await?;
        self.run(doing(), &format!("ALTER DATABASE {} RENAME TO {}", ident(working), ident(template))).await
    }

    /// On a connection in the template: copies then carry no row that a later vacuum has to rewrite.
    pub async fn vacuum_freeze(&self) -> Result<(), SqlError> {
        self.run(format!("freeze rows of {}", self.database()), "VACUUM (FREEZE, ANALYZE)").await
    }

    async fn is_template(&self, database: &str) -> Result<bool, SqlError> {
        let sql = "select 1 from pg_database where datname = $1 and datistemplate";
        self.exists("look for a database", sql, &[(&database, Type::TEXT)]).await
    }

    async fn connection_limit_of(&self, database: &str) -> Result<Option<i32>, SqlError> {
        let rows = self
            .rows(
                "look for a database",
                "select datconnlimit from pg_database where datname = $1",
                &[(&database, Type::TEXT)],
            )
            .await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

//! Extensions. Their scripts run with the admin's rights, or a superuser's, and resolve names in the schema that they are made
//! in: what a tenant can write to is no such schema.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::admin::Admin;
use super::error::SqlError;
use super::quote::ident;

impl Admin {
    /// While nobody has claimed the database. An extension that insists on a schema gets that one; otherwise `schema`, else
    /// `public`.
    pub async fn ensure_extension(&self, name: &str, schema: Option<&str>) -> Result<(), SqlError> {
        let doing = format!("create extension {name} in {}", self.database());
        let fixed = "select 1 from pg_available_extension_versions where name = $1 and schema is not null";
        let insists = self.exists(&doing, fixed, &[(&name, Type::TEXT)]).await?;
        let mut sql = Vec::new();
        let mut create = format!("CREATE EXTENSION IF NOT EXISTS {}", ident(name));
        if !insists {
            let schema = schema.unwrap_or("public");
            if !self.has_schema(schema).await? {
                sql.push(format!("CREATE SCHEMA IF NOT EXISTS {}", ident(schema)));
            }
            create.push_str(&format!(" SCHEMA {}", ident(schema)));
        }
        sql.push(create);
        self.run_all(doing, &sql).await
    }

    /// In a claimed database, for `public`: made in a schema of its own, where there is nothing but what the script makes,
    /// and moved. What cannot be moved, and what an admin who is no superuser may only make because PostgreSQL trusts its
    /// script anywhere, is made where it shall be.
    pub async fn add_extension(&self, name: &str) -> Result<(), SqlError> {
        let doing = format!("create extension {name} in {}", self.database());
        let param = [(&name as _, Type::TEXT)];
        if self.exists(&doing, "select 1 from pg_extension where extname = $1", &param).await? {
            return Ok(());
        }
        let movable = "select 1 from pg_available_extensions e join pg_available_extension_versions v \
                       on v.name = e.name and v.version = e.default_version where e.name = $1 and v.relocatable";
        let moves = self.is_superuser() && self.has_schema("public").await?;
        if !moves || !self.exists(&doing, movable, &param).await? {
            return self.ensure_extension(name, None).await;
        }
        // Nobody can have guessed it, or keep it from being made.
        let (extension, own) = (ident(name), ident(&format!("fh_{}", Uuid::new_v4().simple())));
        let sql = [
            format!("CREATE SCHEMA {own}"),
            format!("CREATE EXTENSION {extension} SCHEMA {own}"),
            format!("ALTER EXTENSION {extension} SET SCHEMA public"),
            format!("DROP SCHEMA {own}"),
        ];
        self.run_all(doing, &sql).await
    }

    pub(super) async fn has_schema(&self, name: &str) -> Result<bool, SqlError> {
        self.exists("look for a schema", "select 1 from pg_namespace where nspname = $1", &[(&name, Type::TEXT)]).await
    }
}

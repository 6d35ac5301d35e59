//! Materialized views have no content at the target until they are refreshed: before the fence where that matters, after
//! it where it may take long. What they show is then as of that moment.

use super::side::Side;
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::ident;

impl Side {
    /// Here, those that are filled at the source, in the order they were made there: none can stand on a later one.
    pub async fn refresh_views(&self, source: &Side) -> Result<(), SqlError> {
        let sql = "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where c.relkind = 'm' and c.relispopulated order by c.oid";
        // Policies that bind their owner decide what is in it, as they did at the source.
        self.run("have policies apply", "SET row_security = on").await?;
        for row in source.admin.rows("list materialized views", sql, &[]).await? {
            let name = format!("{}.{}", ident(row.get::<_, &str>(0)), ident(row.get::<_, &str>(1)));
            self.run(format!("refresh {name}"), &format!("REFRESH MATERIALIZED VIEW {name}")).await?;
        }
        self.run("have no row hidden", "SET row_security = off").await
    }
}

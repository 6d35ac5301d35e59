//! The content of unlogged tables, which is in no log: copied under the fence, as the maintenance login, within a limit.

use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Row;

use super::side::Side;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, idents};

const TABLES: &str = "select n.nspname::text, c.relname::text, pg_table_size(c.oid), \
    (select array_agg(a.attname::text order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence = 'u' and n.nspname !~ '^pg_' and n.nspname <> 'freehold' order by 1, 2";

/// Ordinary triggers of the tenant's, which COPY would fire; at the target there are no others yet.
const TRIGGERS: &str = "select n.nspname::text, c.relname::text, t.tgname::text from pg_trigger t join pg_class c on c.oid = t.tgrelid \
    join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relpersistence = 'u' and n.nspname <> 'freehold' \
    and not t.tgisinternal and t.tgenabled = 'O'";

const REFERENCES: &str = "select n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text from pg_constraint k \
    join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace join pg_class r on r.oid = k.confrelid \
    join pg_namespace rn on rn.oid = r.relnamespace where k.contype = 'f' and c.relpersistence = 'u' and r.relpersistence = 'u'";

fn bytes(tables: &[Row]) -> u64 {
    tables.iter().map(|row| u64::try_from(row.get::<_, i64>(2)).unwrap_or(0)).sum()
}

impl Side {
    /// How large they are: for whoever decides, before the fence.
    pub async fn unlogged_bytes(&self) -> Result<u64, SqlError> {
        let sizes = self.admin.rows("measure unlogged tables", TABLES, &[]).await?;
        Ok(bytes(&sizes))
    }

    /// Here, what `source` has. More than `limit` bytes is refused: the tenant waits.
    pub async fn carry_unlogged(&self, source: &Side, limit: u64) -> Result<(), SqlError> {
        let doing = format!("copy the unlogged tables of {}", self.database());
        let rows = source.admin.rows(&doing, TABLES, &[]).await?;
        let total = bytes(&rows);
        if total > limit {
            let message = format!("they hold {total} bytes, of which {limit} may be copied while the tenant waits");
            return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let name = |row: &Row| format!("{}.{}", ident(row.get(0)), ident(row.get(1)));
        let columns = |row: &Row| row.get::<_, Option<Vec<String>>>(3).unwrap_or_default();
        let tables: Vec<(String, Vec<String>)> = rows.iter().map(|row| (name(row), columns(row))).collect();
        let references = source.admin.rows(&doing, REFERENCES, &[]).await?;
        let at = |row: &Row, column: usize| -> (String, String) { (row.get(column), row.get(column + 1)) };
        let place = |wanted: (String, String)| rows.iter().position(|row| at(row, 0) == wanted);
        let edges: Vec<(usize, usize)> =
            references.iter().filter_map(|row| Some((place(at(row, 0))?, place(at(row, 2))?))).collect();
        match self.replace_all(source, &doing, &tables, &in_order(tables.len(), &edges)).await {
            Ok(()) => self.run(doing, "COMMIT").await,
            Err(error) => {
                self.run(doing, "ROLLBACK").await?;
                Err(error)
            }
        }
    }

    /// In one transaction. TRUNCATE, for DELETE is what rules are about, and of all at once, for they may refer to each
    /// other; nothing that is logged can refer to them.
    async fn replace_all(
        &self,
        source: &Side,
        doing: &str,
        tables: &[(String, Vec<String>)],
        order: &[usize],
    ) -> Result<(), SqlError> {
        let triggers = self.admin.rows(doing, TRIGGERS, &[]).await?;
        let set = |verb: &str| -> String {
            let one = |row: &Row| {
                let table = format!("{}.{}", ident(row.get(0)), ident(row.get(1)));
                format!("; ALTER TABLE {table} {verb} TRIGGER {}", ident(row.get(2)))
            };
            triggers.iter().map(one).collect()
        };
        let list: Vec<String> = tables.iter().map(|(name, _)| format!("ONLY {name}")).collect();
        self.run(doing, &format!("BEGIN{}; TRUNCATE {}", set("DISABLE"), list.join(", "))).await?;
        for (name, columns) in order.iter().map(|at| &tables[*at]) {
            self.copy_from(source, name, columns).await?;
        }
        self.run(doing, &format!("SELECT 1{}", set("ENABLE"))).await
    }

    async fn copy_from(&self, source: &Side, name: &str, columns: &[String]) -> Result<(), SqlError> {
        let failed = |error| SqlError::from_pg(format!("copy {name}"), error);
        let list = idents(columns.iter().map(String::as_str));
        let out = source.maintenance.client().copy_out(&format!("COPY {name} ({list}) TO STDOUT")).await;
        let into = self.maintenance.client().copy_in(&format!("COPY {name} ({list}) FROM STDIN")).await;
        let (mut out, mut into) = (std::pin::pin!(out.map_err(failed)?), std::pin::pin!(into.map_err(failed)?));
        while let Some(bytes) = out.try_next().await.map_err(failed)? {
            into.send(bytes).await.map_err(failed)?;
        }
        into.finish().await.map(drop).map_err(failed)
    }
}

/// Those that are referred to first. Of a circle, as they come: PostgreSQL then says which one it was.
fn in_order(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(count);
    while order.len() < count {
        let left = || (0..count).filter(|at| !order.contains(at));
        let free = |at: &usize| edges.iter().all(|(from, to)| from != at || to == at || order.contains(to));
        match left().find(free).or_else(|| left().next()) {
            Some(next) => order.push(next),
            None => break,
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn unlogged_tables_come_after_those_they_refer_to() {
        assert_eq!(in_order(3, &[(0, 1), (1, 2), (2, 2)]), [2, 1, 0]);
        assert_eq!(in_order(2, &[(0, 1), (1, 0)]), [0, 1]);
        assert!(in_order(0, &[]).is_empty());
    }
}

//! Large objects, which no publication carries: copied under the fence, as the maintenance login, with their numbers,
//! privileges and comments. Afterwards both sides have the same ones.

use tokio_postgres::types::Type;

use super::side::{Side, Whose, rows};
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, literal};
use crate::server::sql::session::Maintenance;

/// Of one at a time.
pub(super) const CHUNK: i32 = 1 << 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub objects: u64,
    pub bytes: u64,
}

impl Side {
    /// What they take on disk: for whoever decides, before the fence.
    pub async fn large_object_bytes(&self) -> Result<u64, SqlError> {
        let sql =
            "select pg_relation_size('pg_largeobject'::regclass) where exists (select from pg_largeobject_metadata)";
        let rows = self.admin.rows("measure large objects", sql, &[]).await?;
        Ok(rows.first().map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
    }

    /// Their numbers. One that is another role's is refused: nobody could write it at the target as that role.
    pub async fn large_objects(&self) -> Result<Vec<u32>, SqlError> {
        if let Whose::Theirs { large_objects, .. } = &self.whose {
            return Ok(large_objects.clone());
        }
        let doing = format!("list the large objects of {}", self.database());
        let sql = "select m.oid, r.rolname::text from pg_largeobject_metadata m join pg_roles r on r.oid = m.lomowner order by 1";
        let rows = self.admin.rows(&doing, sql, &[]).await?;
        if let Some(row) = rows.iter().find(|row| row.get::<_, &str>(1) != self.owner) {
            let message = format!(
                "large object {} belongs to {}: give it to {} first",
                row.get::<_, u32>(0),
                row.get::<_, &str>(1),
                self.owner
            );
            return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
        }
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Here, what `source` has. More than `limit` bytes is refused: the tenant waits.
    pub async fn carry_large_objects(&self, source: &Side, limit: u64) -> Result<Carried, SqlError> {
        let doing = format!("copy the large objects of {}", self.database());
        let oids = source.large_objects().await?;
        self.run(&doing, "BEGIN").await?;
        match self.carry_all(source, &doing, &oids, limit).await {
            Ok(carried) => self.run(doing, "COMMIT").await.map(|()| carried),
            Err(error) => {
                self.run(doing, "ROLLBACK").await?;
                Err(error)
            }
        }
    }

    async fn carry_all(&self, source: &Side, doing: &str, oids: &[u32], limit: u64) -> Result<Carried, SqlError> {
        let mut carried = Carried::default();
        let unlink = "select pg_catalog.lo_unlink(oid) from pg_catalog.pg_largeobject_metadata";
        self.rows(doing, unlink, &[]).await?;
        for oid in oids {
            let left = limit.saturating_sub(carried.bytes);
            carried.bytes += carry_one(&source.maintenance, &self.maintenance, doing, *oid, left).await?;
            carried.objects += 1;
        }
        self.describe_large_objects(source, doing).await?;
        Ok(carried)
    }

    /// Privileges and comments of those that are there.
    pub(super) async fn describe_large_objects(&self, source: &Side, doing: &str) -> Result<(), SqlError> {
        // Roles of somebody else's are not the tenant's.
        if !source.is_theirs() {
            self.grant_large_objects(source, doing).await?;
        }
        self.comment_large_objects(source, doing).await
    }

    async fn grant_large_objects(&self, source: &Side, doing: &str) -> Result<(), SqlError> {
        let sql = "select m.oid, coalesce(g.rolname::text, ''), a.privilege_type, a.is_grantable from pg_largeobject_metadata m, \
                   lateral aclexplode(m.lomacl) a left join pg_roles g on g.oid = a.grantee where a.grantee <> m.lomowner";
        for row in source.admin.rows(doing, sql, &[]).await? {
            let (oid, grantee, privilege, grantable): (u32, String, String, bool) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let to = if grantee.is_empty() { "PUBLIC".to_owned() } else { ident(&grantee) };
            let option = if grantable { " WITH GRANT OPTION" } else { "" };
            self.run(doing, &format!("GRANT {privilege} ON LARGE OBJECT {oid} TO {to}{option}")).await?;
        }
        Ok(())
    }

    async fn comment_large_objects(&self, source: &Side, doing: &str) -> Result<(), SqlError> {
        // Others may have come since these were listed.
        let carried = source.large_objects().await?;
        let sql = "select objoid, description from pg_description where classoid = 'pg_largeobject'::regclass and objoid = any($1)";
        for row in source.admin.rows(doing, sql, &[(&carried, Type::OID_ARRAY)]).await? {
            let (oid, comment): (u32, String) = (row.get(0), row.get(1));
            self.run(doing, &format!("COMMENT ON LARGE OBJECT {oid} IS {}", literal(&comment))).await?;
        }
        Ok(())
    }
}

/// One of them, in the transaction that `to` has open. Answers how many bytes it has.
pub(super) async fn carry_one(
    from: &Maintenance,
    to: &Maintenance,
    doing: &str,
    oid: u32,
    limit: u64,
) -> Result<u64, SqlError> {
    rows(to, doing, "select pg_catalog.lo_create($1)", &[(&oid, Type::OID)]).await?;
    let (mut at, mut carried) = (0i64, 0u64);
    loop {
        let get = "select pg_catalog.lo_get($1, $2, $3)";
        let params = [(&oid as _, Type::OID), (&at as _, Type::INT8), (&CHUNK as _, Type::INT4)];
        let found = rows(from, doing, get, &params).await?;
        let bytes: Vec<u8> = found.first().map(|row| row.get(0)).unwrap_or_default();
        carried += bytes.len() as u64;
        if carried > limit {
            let message = format!("they hold {} bytes more than may be copied while the tenant waits", carried - limit);
            return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
        }
        if !bytes.is_empty() {
            let put = "select pg_catalog.lo_put($1, $2, $3)";
            let params = [(&oid as _, Type::OID), (&at as _, Type::INT8), (&bytes as _, Type::BYTEA)];
            rows(to, doing, put, &params).await?;
        }
        at += i64::from(CHUNK);
        if bytes.len() < CHUNK as usize {
            return Ok(carried);
        }
    }
}

//! Where sequences stand: replication does not carry it. All of them before the fence, and under it those that moved.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use super::side::Side;
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::{ident, literal};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    pub schema: String,
    pub name: String,
    pub last: i64,
    /// Whether `last` was handed out: else it is what comes next.
    pub is_called: bool,
}

/// In one statement.
const BATCH: usize = 500;

impl Side {
    pub async fn sequences(&self) -> Result<Vec<Sequence>, SqlError> {
        let doing = format!("read the sequences of {}", self.database());
        let sql = "select n.nspname::text, c.relname::text, pg_sequence_last_value(c.oid) from pg_class c \
                   join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' and c.relpersistence <> 't' \
                   and n.nspname <> 'freehold' and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass \
                   and d.objid = c.oid and d.deptype = 'e') order by 1, 2";
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for row in self.rows(&doing, sql, &[]).await? {
            let (schema, name): (String, String) = (row.get(0), row.get(1));
            match row.get::<_, Option<i64>>(2) {
                Some(last) => found.push(Sequence { schema, name, last, is_called: true }),
                // Not called since it was set: only the sequence itself says to what.
                None => silent.push((schema, name)),
            }
        }
        for batch in silent.chunks(BATCH) {
            let parts: Vec<String> = batch
                .iter()
                .map(|(schema, name)| {
                    format!(
                        "select {}, {}, last_value, is_called from {}.{}",
                        literal(schema),
                        literal(name),
                        ident(schema),
                        ident(name)
                    )
                })
                .collect();
            for row in self.rows(&doing, &parts.join(" union all "), &[]).await? {
                found.push(Sequence { schema: row.get(0), name: row.get(1), last: row.get(2), is_called: row.get(3) });
            }
        }
        found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(found)
    }

    pub async fn set_sequences(&self, sequences: &[Sequence]) -> Result<(), SqlError> {
        let doing = format!("set the sequences of {}", self.database());
        let sql = "select count(pg_catalog.setval(pg_catalog.format('%I.%I', s, n)::pg_catalog.regclass, v, c)) \
                   from unnest($1, $2, $3, $4) as t (s, n, v, c)";
        let schemas: Vec<&str> = sequences.iter().map(|sequence| sequence.schema.as_str()).collect();
        let names: Vec<&str> = sequences.iter().map(|sequence| sequence.name.as_str()).collect();
        let values: Vec<i64> = sequences.iter().map(|sequence| sequence.last).collect();
        let called: Vec<bool> = sequences.iter().map(|sequence| sequence.is_called).collect();
        let params = [
            (&schemas as _, Type::TEXT_ARRAY),
            (&names as _, Type::TEXT_ARRAY),
            (&values as _, Type::INT8_ARRAY),
            (&called as _, Type::BOOL_ARRAY),
        ];
        match sequences.is_empty() {
            true => Ok(()),
            false => self.rows(doing, sql, &params).await.map(drop),
        }
    }
}

/// Those of `now` that are not in `before` as they are.
pub fn changed(before: &[Sequence], now: &[Sequence]) -> Vec<Sequence> {
    let known: std::collections::HashSet<(&str, &str, i64, bool)> = before.iter().map(key).collect();
    now.iter().filter(|sequence| !known.contains(&key(sequence))).cloned().collect()
}

fn key(sequence: &Sequence) -> (&str, &str, i64, bool) {
    (&sequence.schema, &sequence.name, sequence.last, sequence.is_called)
}

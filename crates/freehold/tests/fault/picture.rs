//! All that there is on a server and in the store, as sorted lines without what is random: names, ids, times, salts.
//! Two runs that did the same have the same picture; whatever the store does not know keeps its name and shows up.

use std::collections::BTreeMap;

use regex::Regex;
use tokio_postgres::Client;

use crate::rig::{Rig, STORE};

#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub server: Vec<String>,
    pub store: Vec<String>,
}

/// Where a run begins: operations and audit events before it are of others.
pub struct Since {
    audit: i64,
    at: String,
}

const ROLES: &str = "SELECT format('role %s super=%s createdb=%s createrole=%s login=%s replication=%s bypass=%s limit=%s config=%s password=%s',
    rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
    (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0), rolpassword IS NOT NULL)
    FROM pg_authid a WHERE rolname NOT LIKE 'pg\\_%'";
const MEMBERS: &str = "SELECT format('member %s of %s admin=%s', m.member::regrole, m.roleid::regrole, m.admin_option)
    FROM pg_auth_members m WHERE m.member::regrole::text NOT LIKE 'pg\\_%'";
const DATABASES: &str = "SELECT format('database %s owner=%s connect=%s template=%s limit=%s encoding=%s collate=%s acl=%s', datname, datdba::regrole,
    datallowconn, datistemplate, datconnlimit, pg_encoding_to_char(encoding), datcollate,
    (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(datacl) acl)) FROM pg_database WHERE datname <> 'freehold_control'";
const SETTINGS: &str = "SELECT format('setting database=%s role=%s %s', d.datname, s.setrole::regrole, s.setconfig)
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setdatabase <> 0";

const INSIDE: &[&str] = &[
    "SELECT format('schema %s owner=%s acl=%s', nspname, nspowner::regrole, (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(nspacl) acl))
        FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'freehold')",
    "SELECT format('relation %s kind=%s owner=%s acl=%s', c.oid::regclass, relkind, relowner::regrole,
        (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(relacl) acl))
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'freehold')",
    "SELECT format('function %s owner=%s', p.oid::regprocedure, proowner::regrole) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
        WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",
    "SELECT format('extension %s owner=%s', extname, extowner::regrole) FROM pg_extension",
    "SELECT format('default acl of %s: %s', defaclrole::regrole, defaclacl) FROM pg_default_acl",
    "SELECT format('type %s owner=%s', oid::regtype, typowner::regrole) FROM pg_type WHERE oid >= 16384 AND typtype IN ('r', 'm')",
    "SELECT format('event trigger %s enabled=%s owner=%s', evtname, evtenabled, evtowner::regrole) FROM pg_event_trigger",
];

/// Not here: movability, which a loop judges at its own time; idempotency, for no scenario sends a key (`story/idempotency.rs`
/// does); what is counted and measured.
const OF_STORE: &[&str] = &[
    "SELECT format('tenant %s name=%s plan=%s template=%s version=%s state=%s before=%s reason=%s server=%s missing=%s deleted=%s',
        id, name, plan, template, left(template_version, 12), state, state_before, state_reason, server_id, missing_extensions, deleted_at IS NOT NULL) FROM tenant",
    "SELECT format('tenant_database %s owner=%s state=%s tenant=%s plan=%s template=%s current=%s missing=%s', database, owner, d.state, tenant_id, plan,
        template, (SELECT current FROM template t WHERE t.name = d.template AND t.version = d.template_version), missing) FROM tenant_database d",
    "SELECT format('login %s purpose=%s version=%s of=%s', l.role, purpose, version, d.database) FROM login l LEFT JOIN tenant_database d ON d.id = database_id",
    "SELECT format('build %s of %s state=%s current=%s missing=%s', database, name, state,
        (SELECT current FROM template t WHERE t.name = b.name AND t.version = b.version), missing) FROM template_build b",
    "SELECT format('server %s state=%s superuser=%s capacity=%s version=%s identifier=%s', id, state, superuser, capacity, version_num, system_identifier IS NOT NULL) FROM server",
    "SELECT format('visitor %s', role) FROM visitor",
    "SELECT format('label %s %s=%s', tenant_id, key, value) FROM tenant_label",
    "SELECT format('edge %s', edge_tenant) FROM edge_tenant",
    "SELECT format('pooler %s state=%s platform=%s placed=%s key=%s reason=%s', p.id, p.state, v.platform, v.place IS NOT NULL,
        EXISTS (SELECT FROM api_key k WHERE k.id = v.key_id AND k.revoked_at IS NULL), v.reason) FROM pooler p JOIN pooler_service v ON v.pooler_id = p.id",
    "SELECT format('move of %s from %s to %s moved=%s follows=%s kept=%s plans=%s,%s', tenant_id, from_server, to_server, flipped_at IS NOT NULL, follows, keep_until IS NOT NULL,
        plan_before, plan_after) FROM tenant_move",
    "SELECT format('rebalance of %s from %s to %s moved=%s code=%s', tenant_id, from_server, to_server, moved_by IS NOT NULL, code) FROM rebalance_tenant",
    "SELECT format('not moved by a rebalance %s: %s', tenant_id, code) FROM rebalance_failure",
    "SELECT format('change of plan of %s to %s waits=%s', tenant_id, plan, waits_code) FROM plan_change",
    "SELECT format('waits %s for %s as %s', id, waiting_for, waiting_plan) FROM tenant WHERE waiting_for IS NOT NULL",
    "SELECT format('import of %s as of %s notes=%s', tenant_id, as_of IS NOT NULL, notes <> '[]') FROM tenant_import",
    "SELECT format('source of an import %s', o.kind) FROM import_source s JOIN operation o ON o.id = s.operation",
    "SELECT format('key in force %s', name) FROM api_key WHERE revoked_at IS NULL",
    "SELECT format('template %s stocked=%s shipped=%s', name, stocked, shipped) FROM template WHERE current",
    "SELECT format('adoption of %s', d.database) FROM adoption a JOIN tenant_database d ON d.id = a.database_id",
    "SELECT format('kept login %s of %s', k.role, d.database) FROM kept_login k JOIN tenant_database d ON d.id = k.database_id",
    "SELECT format('drain of %s', server_id) FROM server_drain",
    "SELECT format('drain of %s: tenant %s moved=%s code=%s', server_id, tenant_id, moved_by IS NOT NULL, code) FROM server_drain_tenant",
    "SELECT format('pause of %s at %s', entry, pooler_id) FROM pooler_pause WHERE released_at IS NULL",
    "SELECT format('certificate authority in force=%s', retired_at IS NULL) FROM certificate_authority",
];

impl Rig {
    pub async fn since(&self) -> Since {
        let row = self.sql.query_one("SELECT coalesce(max(seq), 0), clock_timestamp()::text FROM audit", &[]).await;
        let row = row.expect("read the audit");
        Since { audit: row.get(0), at: row.get(1) }
    }

    pub async fn picture(&self, since: &Since, tenant: &str) -> Picture {
        let names = self.names(tenant).await;
        let admin = self.server().connect("postgres").await;
        let mut server = Vec::new();
        for sql in [ROLES, MEMBERS, DATABASES, SETTINGS] {
            server.extend(lines(&admin, sql).await);
        }
        let verifiers: BTreeMap<String, String> =
            pairs(&admin, "SELECT rolname::text, coalesce(rolpassword, '') FROM pg_authid").await;
        for (role, verifier) in
            pairs(&self.sql, "SELECT role, verifier FROM login UNION ALL SELECT role, verifier FROM visitor JOIN server s ON s.id = server_id AND s.platform IS NULL").await
        {
            let found = verifiers
                .get(&role)
                .map_or("no such role", |found| if *found == verifier { "the stored one" } else { "another" });
            server.push(format!("verifier of {role}: {found}"));
        }
        let databases = "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY 1";
        for database in lines(&admin, databases).await.into_iter().filter(|name| name != STORE) {
            let inside = self.server().connect(&database).await;
            for sql in INSIDE {
                server.extend(lines(&inside, sql).await.into_iter().map(|line| format!("in {database}: {line}")));
            }
            let info = lines(&inside, "SELECT coalesce(to_regclass('public.info')::text, '')").await;
            if info != [""] {
                let rows = lines(&inside, "SELECT format('%s', info) FROM public.info").await;
                server.extend(rows.into_iter().map(|line| format!("in {database}: row {line}")));
            }
        }
        server.extend(self.of_moves().await);
        let mut store = self.platform();
        store.extend(self.poolers());
        for sql in OF_STORE {
            store.extend(lines(&self.sql, sql).await);
        }
        let sql = format!(
            "SELECT format('operation %s on %s: %s because=%s %s', kind, subject, state, undo_reason, failed_error->>'code') FROM operation WHERE created_at > '{}'",
            since.at
        );
        store.extend(lines(&self.sql, &sql).await);
        let sql = format!(
            "SELECT format('audit %s on %s: %s', action, subject, outcome) FROM audit WHERE seq > {} AND action NOT LIKE 'truth.%'",
            since.audit
        );
        store.extend(lines(&self.sql, &sql).await);
        Picture { server: names.apply(server), store: names.apply(store) }
    }

    /// What is random in this run, and what it is called in a picture.
    async fn names(&self, tenant: &str) -> Names {
        let mut known = BTreeMap::new();
        let sql = "SELECT owner, coalesce('<' || tenant_id || '>', '<' || state || ' ' || template || '>') FROM tenant_database WHERE state <> 'moving'";
        known.extend(pairs(&self.sql, sql).await);
        let sql = "SELECT owner, '<build of ' || name || CASE WHEN current THEN '>' ELSE ' before>' END FROM template_build JOIN template USING (name, version)";
        known.extend(pairs(&self.sql, sql).await);
        known.extend(pairs(&self.sql, "SELECT role, '<visitor of ' || server_id || '>' FROM visitor").await);
        Names {
            known,
            tenant: tenant.to_owned(),
            uuid: Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").expect("a regex"),
            version: Regex::new("\\b[0-9a-f]{12}\\b").expect("a regex"),
            link: Regex::new("fh_(move|back)_[0-9a-f]{32}").expect("a regex"),
        }
    }
}

struct Names {
    known: BTreeMap<String, String>,
    tenant: String,
    uuid: Regex,
    version: Regex,
    /// Of a move.
    link: Regex,
}

impl Names {
    fn apply(&self, lines: Vec<String>) -> Vec<String> {
        let tidy = |mut line: String| {
            for (name, label) in &self.known {
                line = line.replace(name, label);
            }
            let underscored = self.tenant.replace('-', "_");
            line = line.replace(&self.tenant, "TENANT").replace(&underscored, "TENANT");
            let line = self.link.replace_all(&line, "LINK_$1");
            let line = self.uuid.replace_all(&line, "UUID").into_owned();
            self.version.replace_all(&line, "VERSION").into_owned()
        };
        let mut lines: Vec<String> = lines.into_iter().map(tidy).collect();
        lines.sort();
        lines
    }
}

async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

async fn pairs(client: &Client, sql: &str) -> BTreeMap<String, String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Panics with the lines that only one of them has.
pub fn same(what: &str, expected: &[String], found: &[String]) {
    if let Some(difference) = difference(expected, found) {
        panic!("{what}:\n{difference}");
    }
}

pub fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let mut counts: BTreeMap<&String, i32> = BTreeMap::new();
    expected.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    found.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    let lines: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(line, count)| format!("{} {count:+} {line}", if count < 0 { "missing" } else { "too many" }))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

//! What the facts say of an import: reasons against it, and what will be different. Pure: reads neither store nor server.
//!
//! What cannot be carried without asking somebody is refused; what an import leaves out is told. Nothing is lost in silence.

use freehold_api::server::{Finding, Severity};
use freehold_drivers::server::sql::movable::{Contents, Host, LocaleThere, Named, Theirs};

use super::look::{OLDEST, major};

#[cfg(test)]
mod tests;

/// Of the database, besides itself: WAL and what is sorted for indexes.
const MARGIN_PERCENT: u64 = 20;

/// Everything that was seen.
pub struct Facts<'a> {
    pub version_num: i32,
    pub contents: &'a Contents,
    pub theirs: &'a Theirs,
    /// Why none is here that reads this version.
    pub no_pg_dump: Option<&'a str>,
    /// Extensions that the plan and the template have.
    pub granted: &'a [String],
    pub quota: Option<u64>,
}

/// Where it would come to.
pub enum Target<'a> {
    There {
        name: &'a str,
        host: &'a Host,
        locale: &'a LocaleThere,
        free_bytes: Option<u64>,
    },
    /// A server that is started first.
    ToBeMade(&'a str),
    /// Why it has nowhere to go.
    Nowhere(&'a str),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    pub refusals: Vec<Finding>,
    pub notes: Vec<Finding>,
}

pub fn judge(facts: &Facts<'_>, target: &Target<'_>) -> Verdict {
    let mut found = Verdict::default();
    readable(facts, &mut found);
    contents(facts, &mut found);
    left_out(facts, &mut found);
    match target {
        Target::There { name, host, locale, free_bytes } => {
            versions(facts, name, host, &mut found);
            extensions(facts, name, host, &mut found);
            sorting(facts, name, locale, &mut found);
            disk(facts, name, *free_bytes, &mut found);
        }
        Target::ToBeMade(what) => found.note(
            "server_to_be_made",
            Severity::Low,
            format!("it begins by {what}; what that server lacks is known only then"),
        ),
        Target::Nowhere(why) => found.refuse("no_room", (*why).to_owned()),
    }
    found
}

/// Of one whose catalogs nobody here knows.
pub fn too_old(version_num: i32) -> Verdict {
    let mut found = Verdict::default();
    found.refuse(
        "source_version",
        format!("it is PostgreSQL {}, and {} or later can be imported: upgrade it, or restore a dump of it into a newer one first", major(version_num), major(OLDEST)),
    );
    found
}

fn readable(facts: &Facts<'_>, found: &mut Verdict) {
    let theirs = facts.theirs;
    if let Some(why) = facts.no_pg_dump {
        found.refuse("no_pg_dump", why.to_owned());
    }
    if !theirs.unreadable.is_empty() {
        let message = format!(
            "this login may not read {}: as their owner, GRANT SELECT ON ALL TABLES and ALL SEQUENCES, and USAGE of their schemas, or GRANT pg_read_all_data to it (14 and later)",
            listed(&theirs.unreadable)
        );
        found.refuse("source_privilege", message);
    }
    if !theirs.unreadable_objects.is_empty() {
        let message = format!(
            "this login may not read the large objects {}: GRANT SELECT ON LARGE OBJECT to it, or use the login that owns them",
            listed(&theirs.unreadable_objects)
        );
        found.refuse("source_large_objects", message);
    }
    if !theirs.hidden.is_empty() {
        let message = format!(
            "row security hides rows from this login in {}: use one with BYPASSRLS, or the owner of tables that do not FORCE it",
            listed(&theirs.hidden)
        );
        found.refuse("row_security", message);
    }
    if !theirs.in_freehold.is_empty() {
        let message = format!(
            "its schema freehold holds {}, and a schema of that name is the admin's here: rename it",
            listed(&theirs.in_freehold)
        );
        found.refuse("schema_freehold", message);
    }
}

fn contents(facts: &Facts<'_>, found: &mut Verdict) {
    let Facts { contents, theirs, .. } = facts;
    if !theirs.superusers.is_empty() {
        found.refuse(
            "superuser_objects",
            format!("a tenant may not make {}: drop them at the source", listed(&theirs.superusers)),
        );
    }
    if !theirs.casts.is_empty() {
        found.refuse(
            "superuser_casts",
            format!(
                "a tenant may not make the casts {}, for neither type is its own: drop them at the source",
                listed(&theirs.casts)
            ),
        );
    }
    if !contents.foreign.is_empty() {
        found.refuse(
            "foreign_server",
            format!("a tenant may not make {}: drop them at the source", listed(&contents.foreign)),
        );
    }
    if !theirs.policy_roles.is_empty() {
        found.refuse(
            "policy_roles",
            format!(
                "policies are for the roles {}, which there are not here: ALTER POLICY … TO PUBLIC, or drop them",
                listed(&theirs.policy_roles)
            ),
        );
    }
    if let Some(quota) = facts.quota.filter(|quota| contents.size_bytes > *quota) {
        found.refuse(
            "storage_quota",
            format!(
                "it takes {}, and the plan grants {}: take a larger plan",
                megabytes(contents.size_bytes),
                megabytes(quota)
            ),
        );
    }
}

/// What stays behind, and what becomes something else.
fn left_out(facts: &Facts<'_>, found: &mut Verdict) {
    use Severity::{Low, Medium};
    let Facts { contents, theirs, .. } = facts;
    let mut of = |code: &str, severity, named: &Named, what: &str| {
        if !named.is_empty() {
            found.notes.push(finding(code, severity, format!("{what}: {}", listed(named))));
        }
    };
    of("owners", Low, &contents.owners, "all of it becomes the tenant's, what these roles own too");
    of("grantees", Low, &contents.grantees, "privileges are left out, those of these roles too");
    of("default_privileges", Low, &contents.default_privileges, "default privileges are left out");
    of(
        "event_trigger",
        Medium,
        &contents.event_triggers,
        "event triggers are left out, for only a superuser makes them",
    );
    of(
        "publication",
        Medium,
        &contents.publications,
        "publications are left out, and their subscribers stay where they are",
    );
    of(
        "publication",
        Medium,
        &contents.publications_of_all,
        "publications are left out, and their subscribers stay where they are",
    );
    of(
        "subscription",
        Medium,
        &contents.subscriptions,
        "subscriptions are left out: what they bring later is not here",
    );
    of("security_label", Low, &contents.security_labels, "security labels are left out");
    of("tablespace", Low, &contents.in_tablespaces, "tablespaces are left out: everything is kept in one place");
    of(
        "database_settings",
        Medium,
        &contents.settings,
        "settings stored with the database are left out: set them by the template, or at the tenant's login",
    );
    of(
        "extension_rows",
        Low,
        &theirs.extension_rows,
        "rows that these extensions keep in tables of their own are left out",
    );
    of("materialized_view", Low, &contents.materialized_views, "materialized views are refreshed here");
}

fn versions(facts: &Facts<'_>, name: &str, host: &Host, found: &mut Verdict) {
    let (from, to) = (major(facts.version_num), major(host.version_num));
    if to >= from {
        return;
    }
    found.note("older_target", Severity::Medium, format!("PostgreSQL {from} becomes {to} on server {name}: where the schema has what {to} does not know, it is undone"));
    if !facts.contents.newer.is_empty() && to < 18 {
        found.refuse(
            "newer_feature",
            format!(
                "server {name} is PostgreSQL {to} and does not know {}, which 18 brought",
                listed(&facts.contents.newer)
            ),
        );
    }
}

fn extensions(facts: &Facts<'_>, name: &str, host: &Host, found: &mut Verdict) {
    for (extension, version) in &facts.contents.extensions {
        let Some(there) = host.extensions.get(extension) else {
            found.refuse("extension_missing", format!("server {name} does not have extension {extension}: install it on that machine, or drop it at the source"));
            continue;
        };
        if there.superuser && !facts.granted.contains(extension) {
            found.refuse("extension_denied", format!("extension {extension} takes a superuser, and no tenant has it because its source does: add it to the plan's or the template's extensions"));
        } else if there.superuser && !host.superuser {
            found.refuse(
                "extension_privilege",
                format!("{} may not create extension {extension} on server {name}: it takes a superuser", host.admin),
            );
        }
        if !there.versions.contains(version) {
            let is = there.default_version.as_deref().unwrap_or("none");
            found.note(
                "extension_version",
                Severity::Medium,
                format!("extension {extension} is {version} there, and {is} on server {name}"),
            );
        }
    }
}

fn sorting(facts: &Facts<'_>, name: &str, there: &LocaleThere, found: &mut Verdict) {
    let locale = &facts.contents.locale;
    let called = locale.locale.as_ref().unwrap_or(&locale.collate);
    if !there.exists {
        found.refuse("locale_missing", format!("it sorts by {called}, which server {name} does not have: install the locale on that machine; for one of the C library, SELECT pg_import_system_collations('pg_catalog')"));
    }
    let sorted_by = locale.version.as_ref().or(locale.recorded_version.as_ref());
    if let (Some(here), Some(at)) = (sorted_by, &there.version)
        && here != at
    {
        found.note("collation_version", Severity::Low, format!("{called} is version {here} there and {at} on server {name}: texts may sort differently; every index is built anew"));
    }
    if locale.encoding != "UTF8" {
        found.note(
            "encoding_differs",
            Severity::Low,
            format!("it is in {}, not in UTF8, and stays so", locale.encoding),
        );
    }
}

fn disk(facts: &Facts<'_>, name: &str, free_bytes: Option<u64>, found: &mut Verdict) {
    let size = facts.contents.size_bytes;
    let needed = size.saturating_add(size / 100 * MARGIN_PERCENT);
    match free_bytes {
        Some(free) if free < needed => {
            found.refuse(
                "target_disk",
                format!(
                    "server {name} has {} free, and {} are needed: give it more disk, or make room on another one",
                    megabytes(free),
                    megabytes(needed)
                ),
            );
        }
        Some(_) => {}
        None => found.note(
            "disk_unknown",
            Severity::Low,
            format!("how much disk server {name} has free is not known; {} are needed", megabytes(needed)),
        ),
    }
}

impl Verdict {
    fn refuse(&mut self, code: &str, message: String) {
        self.refusals.push(finding(code, Severity::High, message));
    }

    fn note(&mut self, code: &str, severity: Severity, message: String) {
        self.notes.push(finding(code, severity, message));
    }
}

fn finding(code: &str, severity: Severity, message: String) -> Finding {
    Finding { code: code.to_owned(), severity, message }
}

/// The first names, and how many there are besides.
fn listed(named: &Named) -> String {
    let more = named.count.saturating_sub(named.names.len() as u64);
    match more {
        0 => named.names.join(", "),
        more => format!("{} and {more} more", named.names.join(", ")),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1 << 20))
}

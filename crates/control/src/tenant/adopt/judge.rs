//! Whether a database may be adopted, and what that changes: every reason at once. Pure: reads neither store nor server.

use std::collections::{BTreeMap, BTreeSet};

use freehold_api::server::{Finding, Severity};
use freehold_drivers::server::sql::adopt::{EventTrigger, Inside, Object, Outside, OwnerFacts};
use serde::{Deserialize, Serialize};

/// What was found and what was asked for.
pub struct Facts<'a> {
    pub outside: &'a Outside,
    pub inside: &'a Inside,
    /// Of everybody who owns something in it, or is to be kept.
    pub roles: &'a [OwnerFacts],
    pub admin: Admin<'a>,
    /// Roles on this server that are other tenants', or Freehold's own; and whose.
    pub taken: &'a BTreeMap<String, String>,
    pub asked: &'a Asked,
}

pub struct Admin<'a> {
    pub name: &'a str,
    pub superuser: bool,
}

/// What the caller wants with it; kept in the operation's steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub owner: Option<String>,
    pub keep_logins: Vec<String>,
    pub end_sessions: bool,
    pub disable_event_triggers: bool,
}

#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub refusals: Vec<Finding>,
    pub notes: Vec<Finding>,
}

impl Verdict {
    fn refuse(&mut self, code: &str, message: impl Into<String>) {
        self.refusals.push(Finding { code: code.into(), severity: Severity::High, message: message.into() });
    }
    fn note(&mut self, code: &str, severity: Severity, message: impl Into<String>) {
        self.notes.push(Finding { code: code.into(), severity, message: message.into() });
    }
}

/// Which of what is there is to change hands.
pub fn wanted<'a>(objects: &'a [Object], asked: &Asked, owner: &str) -> Vec<&'a Object> {
    let in_scope = |found: &&Object| {
        let by = &found.owner;
        // `public` belongs to whoever owns the database (15 and later), to the superuser who made the server (before),
        // or to the former owner: it goes along in any case.
        let is_public = found.class == "pg_namespace" && (by == "pg_database_owner" || found.oid < 16_384);
        by != owner && (is_public || asked.owner.as_ref().is_none_or(|only| only == by))
    };
    objects.iter().filter(in_scope).collect()
}

/// What can be said without going in: where this refuses, nobody goes in.
pub fn from_outside(outside: &Outside, admin: &Admin<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    if ["postgres", "template0", "template1"].contains(&outside.name.as_str()) {
        verdict.refuse("system_database", format!("{} belongs to the server", outside.name));
    }
    if outside.is_template {
        verdict
            .refuse("template_database", format!("{} is a template: copies would be made of a tenant", outside.name));
    }
    if !outside.allows_connections {
        verdict.refuse("no_connections", "it admits nobody: ALTER DATABASE … ALLOW_CONNECTIONS true");
    }
    if outside.has_login_trigger && !admin.superuser {
        let message = "it has an event trigger on login, which would run as Freehold's admin: its owner has to drop it";
        verdict.refuse("event_trigger", message);
    }
    verdict
}

/// All that stands against it, and all that somebody should know.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let mut verdict = from_outside(facts.outside, &facts.admin);
    traps(facts, &mut verdict);
    owners(facts, &mut verdict);
    logins(facts, &mut verdict);
    surroundings(facts, &mut verdict);
    verdict
}

/// What would run with more rights than the tenant has.
fn traps(facts: &Facts<'_>, verdict: &mut Verdict) {
    let (inside, asked) = (facts.inside, facts.asked);
    for trigger in &inside.event_triggers {
        if !trigger.is_enabled() {
            asleep(facts, trigger, verdict);
            continue;
        }
        let what =
            format!("event trigger {} calls {} at every DDL, also at the admin's", trigger.name, trigger.function);
        match (asked.disable_event_triggers, facts.admin.superuser) {
            (true, true) => {
                let message = format!("{what}: it is disabled for good{}", becomes(facts, trigger));
                verdict.note("event_trigger", Severity::Medium, message);
            }
            (false, true) => {
                verdict.refuse(
                    "event_trigger",
                    format!("{what}: drop it, or let it be disabled (--disable-event-triggers)"),
                );
            }
            (_, false) => {
                verdict.refuse(
                    "event_trigger",
                    format!("{what}, and {} may not disable it: a superuser has to", facts.admin.name),
                );
            }
        }
    }
    for name in &inside.definer_traps {
        let message = format!(
            "{name} is SECURITY DEFINER and a superuser's: whoever calls it acts as one; drop it, or give it to the tenant's role first"
        );
        verdict.refuse("security_definer", message);
    }
    for name in &inside.untrusted {
        let message =
            format!("{name} is written in a language that is not trusted: it acts as the server itself; drop it");
        verdict.refuse("untrusted_language", message);
    }
    for name in &inside.catalog_additions {
        let message = format!("{name} was put where every session looks first: an admin would run it; drop it");
        verdict.refuse("catalog_changed", message);
    }
    for name in &inside.catalog_writers {
        verdict
            .refuse("catalog_writable", format!("{name} may create in pg_catalog: REVOKE CREATE ON SCHEMA pg_catalog"));
    }
    for name in &inside.subscriptions {
        let message =
            format!("subscription {name} applies as its owner, who runs the tenant's triggers: drop it first");
        verdict.refuse("subscription", message);
    }
    if inside.is_control_store {
        verdict.refuse("control_store", "it is a control store of Freehold's");
    } else if inside.has_schema_freehold {
        verdict.refuse("schema_freehold", "it has a schema freehold, which Freehold needs for itself: rename it");
    } else if inside.has_note {
        let message = "it has a note of Freehold's, which says whose it was: the note is written anew";
        verdict.note("former_note", Severity::Low, message);
    }
}

/// One that is disabled: whoever owns it may enable it, and the function that it calls is the tenant's to replace.
fn asleep(facts: &Facts<'_>, trigger: &EventTrigger, verdict: &mut Verdict) {
    let what = format!("event trigger {} is disabled, and {}, who owns it, may enable it", trigger.name, trigger.owner);
    match (facts.admin.superuser, trigger.owner_is_superuser) {
        (true, _) if trigger.owner != facts.admin.name => {
            verdict.note(
                "event_trigger",
                Severity::Low,
                format!("{what}: it stays disabled{}", becomes(facts, trigger)),
            );
        }
        (true, _) => {}
        (false, true) => verdict.note("event_trigger", Severity::Low, format!("{what}: it stays as it is")),
        (false, false) => verdict.refuse("event_trigger", format!("{what}, being no superuser any more: drop it")),
    }
}

fn becomes(facts: &Facts<'_>, trigger: &EventTrigger) -> String {
    match trigger.owner_is_superuser {
        _ if trigger.owner == facts.admin.name => String::new(),
        true => format!(" and becomes {}'s", facts.admin.name),
        false => format!(
            " and becomes {}'s for good, also if the database is given back: {} is no superuser any more, and nobody else can be given one",
            facts.admin.name, trigger.owner
        ),
    }
}

/// Who owns what is in it, and whether the admin may give that away.
fn owners(facts: &Facts<'_>, verdict: &mut Verdict) {
    let asked = facts.asked;
    let mut owners: BTreeSet<&str> =
        wanted(&facts.inside.objects, asked, "").iter().map(|object| object.owner.as_str()).collect();
    owners.remove("pg_database_owner");
    owners.insert(&facts.outside.owner);
    if let Some(only) = &asked.owner
        && !facts.roles.iter().any(|role| role.name == *only)
    {
        verdict.refuse("no_such_role", format!("there is no role {only} on the server"));
    }
    for name in owners {
        if let Some(whose) = facts.taken.get(name) {
            verdict.refuse("owned_by_another", format!("{name} owns things in it, and is {whose}"));
            continue;
        }
        if facts.admin.superuser || name == facts.admin.name {
            continue;
        }
        let Some(role) = facts.roles.iter().find(|role| role.name == name) else { continue };
        if role.superuser {
            let message =
                format!("{name}, a superuser, owns things in it: {} may not give them away", facts.admin.name);
            verdict.refuse("owned_by_superuser", message);
        } else if !role.admin_is_member && !role.admin_may_join {
            let message = format!("{0} may not act for {name}: GRANT {name} TO {0}", facts.admin.name);
            verdict.refuse("not_a_member", message);
        }
    }
    if !facts.admin.superuser {
        let of_superusers = |object: &Object| ["pg_opclass", "pg_opfamily"].contains(&object.class.as_str());
        if facts.inside.objects.iter().any(of_superusers) {
            verdict.refuse("operator_class", "operator classes can be given away by superusers alone");
        }
    }
    if let Some(only) = &asked.owner {
        let left: BTreeSet<&str> = facts
            .inside
            .objects
            .iter()
            .map(|found| found.owner.as_str())
            .filter(|by| by != only && *by != "pg_database_owner")
            .collect();
        for name in left {
            verdict.note("left_behind", Severity::Medium, format!("what {name} owns stays {name}'s"));
        }
    }
    for (extension, owner) in &facts.inside.extensions {
        if owner != facts.admin.name {
            verdict.note("extension_owner", Severity::Low, format!("extension {extension} stays {owner}'s"));
        }
    }
    for name in &facts.inside.superusers_only {
        verdict.note(
            "superusers_only",
            Severity::Low,
            format!("{name} stays as it is: its owner has to be a superuser"),
        );
    }
}

/// Who comes in now, and who will.
fn logins(facts: &Facts<'_>, verdict: &mut Verdict) {
    let asked = facts.asked;
    for name in &asked.keep_logins {
        let Some(role) = facts.roles.iter().find(|role| role.name == *name) else {
            verdict.refuse("no_such_role", format!("there is no role {name} to keep"));
            continue;
        };
        if let Some(whose) = facts.taken.get(name) {
            verdict.refuse("login_of_another", format!("{name} cannot be kept: it is {whose}"));
        } else if role.superuser || !role.powers.is_empty() {
            let powers = if role.superuser { "SUPERUSER".to_owned() } else { role.powers.join(", ") };
            verdict.refuse("login_too_powerful", format!("{name} cannot be kept: it has {powers}"));
        } else if !role.can_login {
            verdict.refuse("no_login", format!("{name} cannot log in: there is nothing to keep"));
        } else if !facts.admin.superuser && !role.admin_may_join {
            let message = format!("{0} may not alter {name}: GRANT {name} TO {0} WITH ADMIN OPTION", facts.admin.name);
            verdict.refuse("not_a_member", message);
        } else {
            let message =
                format!("{name} may go on logging in, here and wherever else it may; its password is not Freehold's");
            verdict.note("login_kept", Severity::Medium, message);
        }
    }
    let strangers: Vec<_> =
        facts.outside.sessions.iter().filter(|(role, _)| !asked.keep_logins.contains(role)).collect();
    if !strangers.is_empty() {
        let told: Vec<String> = strangers.iter().map(|(role, count)| format!("{role} ({count})")).collect();
        let told = told.join(", ");
        match asked.end_sessions {
            true => verdict.note("sessions", Severity::Medium, format!("the sessions of {told} are ended")),
            false => verdict.refuse(
                "sessions",
                format!("{told} are in it: stop them, keep their logins (--keep-login), or let them be ended (--end-sessions)"),
            ),
        }
    }
    let named: BTreeSet<&str> = facts.outside.connect.iter().map(|entry| entry.grantee.as_str()).collect();
    for name in named {
        let stays = name == facts.admin.name || asked.keep_logins.iter().any(|kept| kept == name);
        match name {
            "" => verdict.note("closed", Severity::Low, "PUBLIC may not connect any more"),
            name if !stays => verdict.note("closed", Severity::Low, format!("{name} may not connect any more")),
            _ => {}
        }
    }
}

/// What is around it.
fn surroundings(facts: &Facts<'_>, verdict: &mut Verdict) {
    let outside = facts.outside;
    if outside.prepared > 0 {
        let message = format!("{} prepared transactions hold what they touched: end them first", outside.prepared);
        verdict.refuse("prepared_transactions", message);
    }
    for slot in &outside.slots {
        verdict.note("replication_slot", Severity::Medium, format!("replication slot {slot} reads from it, and stays"));
    }
    for setting in &outside.settings {
        verdict.note("setting", Severity::Low, format!("{setting} is set for everybody in it, and stays"));
    }
    if outside.encoding != "UTF8" {
        let message = format!("its encoding is {}: a move or a copy takes that along", outside.encoding);
        verdict.note("encoding", Severity::Low, message);
    }
    if !facts.inside.default_acls.is_empty() {
        let message =
            "default privileges of the former owners hold for the new one, as far as those they name are kept";
        verdict.note("default_privileges", Severity::Low, message);
    }
}

#[cfg(test)]
mod tests;

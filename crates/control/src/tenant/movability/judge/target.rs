//! What the server has, or lacks, that the database comes to.

use freehold_api::movability::MoveCode::*;
use freehold_drivers::server::sql::movable::{Host, LocaleThere};

use super::{ALL, Against, Facts, Found, LOGICAL, Seen, Target, Told, megabytes, several};

/// A subscription, and two that copy tables; and one for the way back.
const WORKERS: u64 = 2;
const SLOTS: u64 = 2;
/// Of the database, besides itself: WAL and what is sorted for indexes.
const MARGIN_PERCENT: u64 = 20;

pub fn judge(facts: &Facts<'_>, target: &Target<'_>, found: &mut Found) {
    for against in target.against {
        match against {
            Against::Full(why) => found
                .blocks(TargetFull, ALL, format!("{}: {why}", target.name))
                .passes(!matches!(target.seen, Seen::Nowhere))
                .next("freehold server update NAME --capacity N, or take another target"),
            Against::Disk(why) => found
                .blocks(TargetDisk, ALL, format!("{}: {why}", target.name))
                .next("give it more disk, or take another target"),
            Against::Unfit(why) | Against::Away(why) => found
                .blocks(TargetUnfit, ALL, format!("{}: {why}", target.name))
                .passes(matches!(against, Against::Away(_)))
                .next("freehold placement explain tells which servers could take it"),
        };
    }
    match target.seen {
        Seen::There { host, locale } => there(facts, target, host, locale, found),
        Seen::Away(why) => {
            found
                .blocks(TargetUnreachable, ALL, format!("{} does not answer: {why}", target.name))
                .passes(true)
                .next("freehold server check it, or take another target");
        }
        Seen::ToBeMade(postgres) => {
            found
                .slows(TargetToBeMade, format!("no server of {} has room: it has to start one", target.name))
                .handled("waits for the server; what it lacks is known only then")
                .next("freehold server-pool grow starts it now");
            versions(facts, i32::from(postgres) * 10_000, found);
        }
        Seen::Nowhere => {}
    }
}

fn there(facts: &Facts<'_>, target: &Target<'_>, host: &Host, locale: &LocaleThere, found: &mut Found) {
    versions(facts, host.version_num, found);
    privileges(target, host, found);
    replication(target, host, found);
    disk(facts, target, found);
    extensions(facts, target, host, found);
    sorting(facts, target, locale, found);
}

fn versions(facts: &Facts<'_>, there: i32, found: &mut Found) {
    let (from, to) = (facts.source.version_num / 10_000, there / 10_000);
    if to > from {
        found
            .note(NewerTarget, format!("PostgreSQL {from} becomes {to}"))
            .handled("restores the schema with the target's own tools, and has it analyzed")
            .next("read the release notes between, as for any upgrade");
    }
    if to >= from {
        return;
    }
    found
        .slows(OlderTarget, format!("PostgreSQL {from} becomes {to}: what {to} does not know cannot be restored there"))
        .handled("leaves out settings that the target does not know, and stops before anything is stopped where the schema does not restore")
        .next("take a target of the same version, where there is one");
    if !facts.contents.newer.is_empty() && to < 18 {
        found
            .blocks(
                NewerFeature,
                ALL,
                several(facts.contents.newer.count, "thing that 18 brought", "things that 18 brought"),
            )
            .about(&facts.contents.newer)
            .next("take a target of the same version");
    }
}

/// What the admin may do there, by version: without superuser, dump and restore take CREATEDB and CREATEROLE, logical
/// replication takes `pg_create_subscription`, which there is from 16 on.
fn privileges(target: &Target<'_>, host: &Host, found: &mut Found) {
    if host.superuser {
        return;
    }
    let (name, admin) = (target.name, &host.admin);
    if !host.createdb || !host.createrole {
        found
            .blocks(TargetPrivilege, ALL, format!("{admin} lacks CREATEDB or CREATEROLE on {name}"))
            .next(format!("as a superuser there: ALTER ROLE {admin} CREATEDB CREATEROLE"));
    }
    if host.version_num < 160_000 {
        found
            .blocks(
                TargetPrivilege,
                LOGICAL,
                format!("{admin} is no superuser on {name}, and on PostgreSQL 15 only those subscribe"),
            )
            .next("use a superuser as its admin, move to 16 or later, or move by dump");
    } else if !host.create_subscription {
        found
            .blocks(TargetPrivilege, LOGICAL, format!("{admin} may not subscribe on {name}"))
            .next(format!("as a superuser there: GRANT pg_create_subscription TO {admin}"));
    }
}

fn replication(target: &Target<'_>, host: &Host, found: &mut Found) {
    let name = target.name;
    let (most, taken) = host.logical_workers;
    if most.saturating_sub(taken) < WORKERS {
        found
            .blocks(
                TargetWorkers,
                LOGICAL,
                format!(
                    "{taken} of {most} workers for logical replication of {name} are taken; a move needs {WORKERS}"
                ),
            )
            .passes(most >= WORKERS)
            .next("raise max_logical_replication_workers and max_worker_processes there, and restart it");
    }
    // Where a subscription stands is kept in what max_replication_slots bounds; it is also what the way back needs.
    let (most, taken) = host.slots;
    match most.saturating_sub(taken) {
        0 => {
            found
                .blocks(TargetSlots, LOGICAL, format!("all {most} replication slots of {name} are taken"))
                .passes(most > 0)
                .next("raise max_replication_slots there, and restart it");
        }
        free if free < SLOTS => {
            found
                .slows(
                    TargetSlots,
                    format!("{taken} of {most} replication slots of {name} are taken: none is left for the way back"),
                )
                .next("raise max_replication_slots there, and restart it");
        }
        _ => {}
    }
    if host.wal_level != "logical" {
        found
            .slows(
                TargetWalLevel,
                format!(
                    "wal_level of {name} is {}: once moved, there is no way back without stopping writes",
                    host.wal_level
                ),
            )
            .next("set wal_level = logical there, and restart it");
    }
}

fn disk(facts: &Facts<'_>, target: &Target<'_>, found: &mut Found) {
    let size = facts.contents.size_bytes;
    let needed = size.saturating_add(size / 100 * MARGIN_PERCENT);
    match target.free_bytes {
        Some(free) if free < needed => {
            let message = format!(
                "the disk of {} has {} free, and {} are needed",
                target.name,
                megabytes(free),
                megabytes(needed)
            );
            found.blocks(TargetDisk, ALL, message).next("give it more disk, or take another target");
        }
        Some(_) => {}
        None => {
            let message =
                format!("how much disk {} has free is not known; {} are needed", target.name, megabytes(needed));
            found.note(TargetDisk, message).next("look at it where it runs");
        }
    }
}

fn extensions(facts: &Facts<'_>, target: &Target<'_>, host: &Host, found: &mut Found) {
    let (mut missing, mut denied, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for (name, version) in &facts.contents.extensions {
        match host.extensions.get(name) {
            None => missing.push(format!("{name} {version}")),
            Some(there) => {
                if there.superuser && !host.superuser {
                    denied.push(name.clone());
                }
                if there.default_version.as_ref() != Some(version) {
                    let is = there.default_version.as_deref().unwrap_or("none");
                    let can = if there.versions.contains(version) { ", which has it too" } else { "" };
                    other.push(format!("{name} {version}, there {is}{can}"));
                }
            }
        }
    }
    let name = target.name;
    if !missing.is_empty() {
        let finding =
            found.blocks(ExtensionMissing, ALL, format!("{name} has not all extensions that the database has"));
        (finding.count, finding.objects) = (missing.len() as u64, missing);
        finding.next("install them on that machine");
    }
    if !denied.is_empty() {
        let finding = found.blocks(
            ExtensionPrivilege,
            ALL,
            format!("{} may not create extensions on {name} that take a superuser", host.admin),
        );
        (finding.count, finding.objects) = (denied.len() as u64, denied);
        finding.next("move to a server whose admin is a superuser");
    }
    if !other.is_empty() {
        let finding = found.slows(ExtensionVersion, format!("{name} has other versions of extensions"));
        (finding.count, finding.objects) = (other.len() as u64, other);
        finding
            .handled("creates the same version where there is one, else the target's default")
            .next("ALTER EXTENSION … UPDATE where it is older, before the move");
    }
}

fn sorting(facts: &Facts<'_>, target: &Target<'_>, there: &LocaleThere, found: &mut Found) {
    let (locale, name) = (&facts.contents.locale, target.name);
    let called = locale.locale.as_ref().unwrap_or(&locale.collate);
    if !there.exists {
        let by = match locale.provider.as_str() {
            "i" => "ICU",
            "b" => "PostgreSQL itself",
            _ => "the C library",
        };
        found
            .blocks(LocaleMissing, ALL, format!("the database sorts by {called} of {by}, which {name} does not have"))
            .next("install the locale on that machine; for one of the C library, SELECT pg_import_system_collations('pg_catalog')");
    }
    let sorted_by = locale.version.as_ref().or(locale.recorded_version.as_ref());
    if let (Some(here), Some(at)) = (sorted_by, &there.version)
        && here != at
    {
        found
            .slows(
                CollationVersion,
                format!("{called} is version {here} here and {at} on {name}: texts may sort differently"),
            )
            .handled("builds every index anew at the target");
    }
    if locale.encoding != "UTF8" {
        found
            .note(EncodingDiffers, format!("the database is in {}, not in UTF8", locale.encoding))
            .handled("makes the new one in the same encoding");
    }
}

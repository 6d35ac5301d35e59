//! What the server has that the database leaves.

use freehold_api::movability::MoveCode::*;

use super::estimate::APPLIED_ROWS;
use super::{ALL, Facts, Found, LOGICAL, Told, several, span};

/// A move's own slot, and those of the tables that are copied at the moment.
const SLOTS: u64 = 2;

pub fn judge(facts: &Facts<'_>, found: &mut Found) {
    replication(facts, found);
    waiting(facts, found);
    traffic(facts, found);
    superusers(facts, found);
}

fn replication(facts: &Facts<'_>, found: &mut Found) {
    let (source, server) = (facts.source, facts.server);
    if source.wal_level != "logical" {
        found
            .blocks(SourceWalLevel, LOGICAL, format!("wal_level of server {server} is {}", source.wal_level))
            .next("set wal_level = logical there, and restart it");
    }
    for (code, what, (most, taken)) in
        [(SourceSlots, "replication slots", source.slots), (SourceSenders, "WAL senders", source.senders)]
    {
        if most.saturating_sub(taken) < SLOTS {
            found
                .blocks(
                    code,
                    LOGICAL,
                    format!("{taken} of {most} {what} of server {server} are taken; a move needs {SLOTS}"),
                )
                .passes(most >= SLOTS)
                .next(format!("raise max_{} there, and restart it", what.to_lowercase().replace(' ', "_")));
        }
    }
    if !source.superuser && !source.replication {
        let admin = &source.admin;
        found
            .blocks(SourcePrivilege, LOGICAL, format!("{admin} may not make replication slots on server {server}"))
            .next(format!("as a superuser there: ALTER ROLE {admin} REPLICATION"));
    }
}

/// A slot begins where no transaction writes that was there before: it waits for all of the server.
fn waiting(facts: &Facts<'_>, found: &mut Found) {
    let server = facts.server;
    let writers = &facts.source.writers;
    if !writers.named.is_empty() {
        let message = several(
            writers.named.count,
            &format!("transaction that writes is open on server {server}"),
            &format!("transactions that write are open on server {server}"),
        );
        match writers.oldest_seconds {
            Some(oldest) => found
                .slows(LongTransaction, format!("{message}, the oldest for {}", span(oldest)))
                .handled("waits for them before it begins, whoever's they are"),
            None => found.note(LongTransaction, format!("{message}; this admin may not see for how long")),
        }
        .about(&writers.named)
        .next("let them end, or end them: objects are the process ids of their sessions");
    }
    let others = facts.source.prepared.named.count.saturating_sub(facts.contents.prepared.count);
    if others > 0 {
        let since = facts
            .source
            .prepared
            .oldest_seconds
            .map_or(String::new(), |oldest| format!(", the oldest for {}", span(oldest)));
        let message = format!(
            "{} on server {server}{since}: no replication slot can be made before they end",
            several(
                others,
                "transaction of another database is prepared",
                "transactions of other databases are prepared"
            )
        );
        let finding = found.blocks(PreparedTransaction, LOGICAL, message);
        finding.count = others;
        finding
            .passes(true)
            .next("COMMIT PREPARED or ROLLBACK PREPARED in their databases: pg_prepared_xacts lists them");
    }
}

fn traffic(facts: &Facts<'_>, found: &mut Found) {
    let Some(traffic) = facts.traffic else { return };
    if traffic.rows_per_second > APPLIED_ROWS / 2.0 {
        let rows = traffic.rows_per_second;
        found
            .slows(
                WritesOutrunCopy,
                format!("{rows:.0} rows are written per second now, and about {APPLIED_ROWS:.0} can be applied"),
            )
            .handled("goes on copying, and stops writes only once the target is close behind")
            .next("move at a quieter time, or by dump");
    }
}

/// Whether that stops anything is the target's admin to say; with no target it is only told.
fn superusers(facts: &Facts<'_>, found: &mut Found) {
    let contents = facts.contents;
    let host = facts.target.as_ref().and_then(|target| match target.seen {
        super::Seen::There { host, .. } => Some(host),
        super::Seen::Away(_) | super::Seen::ToBeMade(_) | super::Seen::Nowhere => None,
    });
    for (code, named, one, many) in [
        (EventTrigger, &contents.event_triggers, "event trigger", "event triggers"),
        (
            SuperuserObjects,
            &contents.of_superusers,
            "object that only a superuser makes",
            "objects that only a superuser makes",
        ),
        (Publication, &contents.publications_of_all, "publication FOR ALL TABLES", "publications FOR ALL TABLES"),
    ] {
        if named.is_empty() {
            continue;
        }
        let message = several(named.count, one, many);
        match host {
            Some(host) if !host.superuser => found
                .blocks(code, ALL, format!("{message}, and {} is no superuser at the target", host.admin))
                .next("drop them, or move to a server whose admin is a superuser"),
            Some(_) => found.note(code, message).handled("makes them at the target, as its superuser"),
            None => found.note(code, message).next("move to a server whose admin is a superuser"),
        }
        .about(named);
    }
}

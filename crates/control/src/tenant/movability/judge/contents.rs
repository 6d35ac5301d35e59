//! What is in the database.

use freehold_api::movability::MoveCode::*;
use freehold_drivers::server::sql::movable::Named;

use super::{ALL, Facts, Found, LOGICAL, Told, megabytes, several};
use crate::tenant::moving::CARRIED;

/// From so many on, what is done for each table is most of the work.
const MANY: u64 = 1000;

pub fn judge(facts: &Facts<'_>, found: &mut Found) {
    identities(facts, found);
    not_replicated(facts, found);
    definitions(facts, found);
    strangers(facts, found);
    owners(facts, found);
    sessions(facts, found);
}

fn identities(facts: &Facts<'_>, found: &mut Found) {
    let contents = facts.contents;
    if !contents.keyless.is_empty() {
        let message = format!("{} no primary key", have(contents.keyless.count, "table"));
        found
            .slows(NoReplicaIdentity, message)
            .about(&contents.keyless)
            .handled("sets REPLICA IDENTITY FULL on them before they are published; each UPDATE and DELETE then reads the whole table at the target")
            .next("give them a primary key, or a unique index NOT NULL as REPLICA IDENTITY");
    }
    if !contents.full_identity.is_empty() {
        let message = format!("{} REPLICA IDENTITY FULL", have(contents.full_identity.count, "table"));
        found
            .slows(FullReplicaIdentity, message)
            .about(&contents.full_identity)
            .next("give them a primary key, and REPLICA IDENTITY DEFAULT");
    }
    if !contents.incomparable.is_empty() {
        let message = format!(
            "{} no primary key, and a column of a type that nothing compares (json, xml, point, …): an UPDATE or DELETE could not be applied",
            have(contents.incomparable.count, "table")
        );
        found
            .blocks(NoEquality, LOGICAL, message)
            .about(&contents.incomparable)
            .next("give them a primary key, or jsonb instead of json");
    }
}

fn too_much(message: &str) -> String {
    format!("{message}: more than the {} that are copied while everybody waits", megabytes(CARRIED))
}

/// What logical replication does not carry.
fn not_replicated(facts: &Facts<'_>, found: &mut Found) {
    let contents = facts.contents;
    if !contents.unlogged.is_empty() {
        let unlogged = several(contents.unlogged.count, "table is unlogged", "tables are unlogged");
        let message = format!("{unlogged}, of {} in all", megabytes(contents.unlogged_bytes));
        let finding = match contents.unlogged_bytes > CARRIED {
            true => found.blocks(UnloggedTable, LOGICAL, too_much(&message)),
            false => found.slows(UnloggedTable, message),
        };
        finding
            .about(&contents.unlogged)
            .handled("copies their rows while writes are stopped")
            .next("empty those that are caches, or set them LOGGED");
    }
    if contents.large_objects > 0 {
        let message = format!(
            "{} of {} in all",
            several(contents.large_objects, "large object", "large objects"),
            megabytes(contents.large_object_bytes)
        );
        let large = match contents.large_object_bytes > CARRIED {
            true => found.blocks(LargeObjects, LOGICAL, too_much(&message)),
            false => found.slows(LargeObjects, message),
        };
        large.count = contents.large_objects;
        large
            .handled("copies them while writes are stopped")
            .next("remove those that nothing points to (vacuumlo), or keep them in bytea");
    }
    if !contents.sequences.is_empty() {
        let message = several(contents.sequences.count, "sequence", "sequences");
        let finding = match contents.sequences.count > MANY {
            true => found.slows(Sequences, message),
            false => found.note(Sequences, message),
        };
        finding.about(&contents.sequences).handled("carries their values over while writes are stopped");
    }
    if !contents.materialized_views.is_empty() {
        found
            .note(
                MaterializedView,
                several(contents.materialized_views.count, "materialized view", "materialized views"),
            )
            .about(&contents.materialized_views)
            .handled("refreshes them at the target before writes are stopped")
            .next("refresh them again afterwards where they must be of that moment");
    }
    if contents.tables.count > MANY {
        let tables = found.slows(ManyTables, format!("{} tables", contents.tables.count));
        tables.count = contents.tables.count;
        tables.next("nothing has to be done: each is copied by itself, which takes its time");
    }
    if !contents.wide.is_empty() {
        let message =
            format!("{} 64 MB or more of values that are kept out of line", have(contents.wide.count, "table"));
        found
            .slows(WideRows, message)
            .about(&contents.wide)
            .handled("reads rows one by one: the longest has to fit the memory of both servers several times");
    }
}

/// What is carried as it is, and is good to know.
fn definitions(facts: &Facts<'_>, found: &mut Found) {
    let contents = facts.contents;
    let mut note = |code, named: &Named, one: &str, many: &str, handled: &str| {
        if !named.is_empty() {
            found.note(code, several(named.count, one, many)).about(named).handled(handled);
        }
    };
    note(
        PartitionedTable,
        &contents.partitioned,
        "partitioned table",
        "partitioned tables",
        "replicates each partition into the one of the same name",
    );
    note(
        InheritedTable,
        &contents.inherited,
        "table that others inherit from",
        "tables that others inherit from",
        "replicates each table by itself",
    );
    note(
        GeneratedColumn,
        &contents.generated,
        "table with generated columns",
        "tables with generated columns",
        "has the target generate them anew",
    );
    note(
        IdentityColumn,
        &contents.identity,
        "table with identity columns",
        "tables with identity columns",
        "carries the values, and the sequences behind them",
    );
    note(
        RowSecurity,
        &contents.row_security,
        "table with row security",
        "tables with row security",
        "carries the policies; the owner reads past them",
    );
    note(
        SecurityLabel,
        &contents.security_labels,
        "security label",
        "security labels",
        "carries those whose provider the target has",
    );
    note(
        DatabaseSettings,
        &contents.settings,
        "setting stored with the database",
        "settings stored with the database",
        "stores them at the target too, where its admin may",
    );
    note(
        DefaultPrivileges,
        &contents.default_privileges,
        "entry of default privileges",
        "entries of default privileges",
        "carries them over",
    );
    note(
        Tablespace,
        &contents.in_tablespaces,
        "table or index in a tablespace of its own",
        "tables and indexes in tablespaces of their own",
        "puts them where the target keeps its databases",
    );
    if !contents.forced_row_security.is_empty() {
        let message =
            format!("{} row security that the owner is subject to", have(contents.forced_row_security.count, "table"));
        found
            .slows(ForcedRowSecurity, message)
            .about(&contents.forced_row_security)
            .handled("lifts FORCE while it reads and writes them, and puts it back")
            .next("ALTER TABLE … NO FORCE ROW LEVEL SECURITY for the time of the move");
    }
    if !contents.always_triggers.is_empty() {
        let message = several(
            contents.always_triggers.count,
            "trigger or rule that fires when rows are replicated",
            "triggers and rules that fire when rows are replicated",
        );
        found
            .slows(AlwaysTrigger, message)
            .about(&contents.always_triggers)
            .handled("keeps them disabled at the target until it has taken over, so that none fires twice");
    }
}

/// What reaches beyond the database.
fn strangers(facts: &Facts<'_>, found: &mut Found) {
    let contents = facts.contents;
    if !contents.publications.is_empty() {
        found
            .slows(Publication, several(contents.publications.count, "publication", "publications"))
            .about(&contents.publications)
            .handled("makes them at the target too")
            .next("have their subscribers connect to the target, with new slots");
    }
    if !contents.subscriptions.is_empty() {
        found
            .blocks(Subscription, ALL, several(contents.subscriptions.count, "subscription", "subscriptions"))
            .about(&contents.subscriptions)
            .next("drop them, move, and subscribe again: where they stand is not carried, nor is their password");
    }
    if !contents.slots.is_empty() {
        found
            .blocks(
                ReplicationSlot,
                ALL,
                several(contents.slots.count, "replication slot of it", "replication slots of it"),
            )
            .about(&contents.slots)
            .next(
                "end whoever reads from them and SELECT pg_drop_replication_slot(name): a slot does not change servers",
            );
    }
    if !contents.prepared.is_empty() {
        let message = several(
            contents.prepared.count,
            "transaction is prepared and neither committed nor rolled back",
            "transactions are prepared and neither committed nor rolled back",
        );
        found
            .blocks(PreparedTransaction, ALL, message)
            .about(&contents.prepared)
            .passes(true)
            .next("COMMIT PREPARED or ROLLBACK PREPARED, as the tenant");
    }
    if !contents.foreign.is_empty() {
        found
            .slows(
                ForeignServer,
                several(
                    contents.foreign.count,
                    "foreign server or foreign table",
                    "foreign servers and foreign tables",
                ),
            )
            .about(&contents.foreign)
            .handled("carries their definitions, and no rows")
            .next("see that the target reaches those servers; passwords of user mappings are carried as they are");
    }
}

fn owners(facts: &Facts<'_>, found: &mut Found) {
    let (of_logins, of_others): (Vec<&String>, Vec<&String>) =
        facts.contents.owners.names.iter().partition(|name| facts.logins.contains(name));
    if !of_logins.is_empty() {
        let finding = found.note(OwnedByLogin, "something was made as a login, after SET ROLE NONE");
        finding.handled("gives it to the owner role first");
        finding.count = of_logins.len() as u64;
        finding.objects = of_logins.into_iter().cloned().collect();
    }
    if !of_others.is_empty() {
        let finding = found.slows(OwnedByOthers, "objects in it belong to roles that are not the tenant's");
        finding.count = of_others.len() as u64;
        finding.objects = of_others.into_iter().cloned().collect();
        finding
            .handled("gives what they own to the owner role at the target")
            .next("REASSIGN OWNED BY … TO the owner role");
    }
    let strangers: Vec<String> =
        facts.contents.grantees.names.iter().filter(|name| !facts.logins.contains(name)).cloned().collect();
    if !strangers.is_empty() {
        let finding = found.note(GrantedToOthers, "roles that are not the tenant's have grants in it");
        finding.count = strangers.len() as u64;
        finding.objects = strangers;
        finding.handled("carries grants to roles that the target has, and leaves out the others");
    }
}

fn sessions(facts: &Facts<'_>, found: &mut Found) {
    if !facts.admitted {
        found.note(Suspended, "it is suspended: nobody waits").handled("leaves it suspended, at the target too");
    }
    let contents = facts.contents;
    let (locks, temporary) = (contents.sessions_with_locks, contents.sessions_with_temporary_tables);
    let (count, message) = match facts.sessions.pooled {
        false if facts.sessions.open > 0 => {
            let open = facts.sessions.open;
            (open, format!("{} a session of the server", several(open, "client holds", "clients hold")))
        }
        true if locks > 0 || temporary > 0 => {
            (locks.max(temporary), format!("{locks} sessions hold advisory locks, {temporary} have temporary tables"))
        }
        _ => return,
    };
    let finding = found.slows(SessionModeClients, message);
    finding.count = count;
    finding
        .handled("ends them when writes are stopped: what they keep in their session is lost, and they connect again")
        .next("connect through a pooler in transaction mode: then clients wait, and see nothing of it");
}

fn have(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one} has"),
        count => format!("{count} {one}s have"),
    }
}

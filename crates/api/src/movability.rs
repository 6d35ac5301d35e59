//! Whether a tenant can be moved to another server, by which methods, what that takes, and what speaks against it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{PlanName, PoolName, ServerId, TenantId};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeMovability {
    /// Absent: judged by where it is alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MoveTo>,
}

/// Where to. Of a server pool, a plan or a region it is the server that a create would choose, the tenant's own left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", try_from = "OneOf")]
pub enum MoveTo {
    Server(ServerId),
    ServerPool(PoolName),
    /// To what this plan wants.
    Plan(PlanName),
    Region(String),
    /// To whatever is called so; refused where a server, a server pool, a plan and a region do not agree on it.
    Name(String),
}

/// As it comes in: whoever names nothing, or several, is told so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneOf {
    server: Option<ServerId>,
    server_pool: Option<PoolName>,
    plan: Option<PlanName>,
    region: Option<String>,
    name: Option<String>,
}

impl TryFrom<OneOf> for MoveTo {
    type Error = &'static str;
    fn try_from(given: OneOf) -> Result<Self, Self::Error> {
        let given = [
            given.server.map(Self::Server),
            given.server_pool.map(Self::ServerPool),
            given.plan.map(Self::Plan),
            given.region.map(Self::Region),
            given.name.map(Self::Name),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(one), None) => Ok(one),
            _ => Err("`to` names one thing: server, server_pool, plan, region or name"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Movability {
    pub tenant: TenantId,
    /// Where it is.
    pub server: ServerId,
    pub at: Timestamp,
    /// Null where no target was named.
    pub to: Option<MoveDestination>,
    /// Those that nothing blocks, the better one first; empty: it cannot be moved.
    pub methods: Vec<MoveMethod>,
    /// 0 cannot be moved, 1 to 40 only with writes stopped, up to 100 nothing is in the way.
    #[schema(maximum = 100)]
    pub score: u8,
    /// One for each method.
    pub estimates: Vec<MoveEstimate>,
    /// What is written now; null where that was not measured.
    pub traffic: Option<MoveTraffic>,
    /// What blocks first, then what slows, then notes.
    pub findings: Vec<MoveFinding>,
}

/// The best method that is left; `none`: it was judged, and cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovableBy {
    Logical,
    Dump,
    None,
}

impl MovableBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logical => "logical",
            Self::Dump => "dump",
            Self::None => "none",
        }
    }
}

/// As it was last judged by itself, which is about once a day, and by where it is alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantMovability {
    pub at: Timestamp,
    #[schema(maximum = 100)]
    pub score: u8,
    /// The best one that nothing rules out; null: it cannot be moved.
    pub method: Option<MoveMethod>,
    /// Of what blocks and what slows.
    pub codes: Vec<MoveCode>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveDestination {
    /// Null: none could take it now; see the findings.
    pub server: Option<ServerId>,
    pub server_pool: Option<PoolName>,
    pub plan: Option<PlanName>,
    pub region: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveMethod {
    /// Logical replication: writes stop for an instant.
    #[default]
    Logical,
    /// Dump and restore: writes stop for all of it.
    Dump,
}

impl MoveMethod {
    pub const ALL: [Self; 2] = [Self::Logical, Self::Dump];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logical => "logical",
            Self::Dump => "dump",
        }
    }

    /// As [`Self::as_str`] writes it.
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// From documented rates, which no move of this tenant has proven yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveEstimate {
    pub method: MoveMethod,
    /// Rows and large objects that are copied.
    pub copy_bytes: u64,
    /// Indexes that are built at the target.
    pub index_bytes: u64,
    /// From begin to end.
    pub seconds: f64,
    /// For how long of that nobody can write; 0 of a tenant that is suspended.
    pub stall_seconds: f64,
    /// Bytes of rows per second that this reckons with.
    pub copy_bytes_per_second: u64,
}

/// Measured while this was judged, for a second or so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveTraffic {
    /// Of the whole server: whoever decodes one database reads them all.
    pub wal_bytes_per_second: f64,
    /// Inserted, updated and deleted in the tenant's database.
    pub rows_per_second: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveFinding {
    pub code: MoveCode,
    pub severity: MoveSeverity,
    /// The methods that this rules out; empty unless it blocks.
    pub blocks: Vec<MoveMethod>,
    /// It goes by itself, or with what somebody is about to do: another time it may be gone.
    #[serde(default)]
    pub passes: bool,
    /// What was found.
    pub message: String,
    /// How many objects it is about, and what the first of them are called.
    pub count: u64,
    pub objects: Vec<String>,
    /// What a move does about it by itself.
    pub handled: Option<String>,
    /// What you can do about it.
    pub next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveSeverity {
    /// Rules out at least one method.
    Blocks,
    /// Costs time or care.
    Slows,
    Note,
}

impl MoveSeverity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Slows => "slows",
            Self::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $cost:literal;)*) => {
        /// What can be found. Stable, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum MoveCode { $($(#[$doc])* $variant,)* }

        impl MoveCode {
            pub const ALL: &[MoveCode] = &[$(MoveCode::$variant,)*];
            pub fn as_str(self) -> &'static str { match self { $(MoveCode::$variant => $code,)* } }
            /// What it takes off the score where it slows.
            pub fn cost(self) -> u8 { match self { $(MoveCode::$variant => $cost,)* } }
        }
    };
}

codes! {
    NoReplicaIdentity = "no_replica_identity", 10;
    FullReplicaIdentity = "full_replica_identity", 5;
    NoEquality = "no_equality", 10;
    UnloggedTable = "unlogged_table", 5;
    LargeObjects = "large_objects", 10;
    Sequences = "sequences", 2;
    MaterializedView = "materialized_view", 2;
    EventTrigger = "event_trigger", 5;
    ForeignServer = "foreign_server", 5;
    Publication = "publication", 5;
    Subscription = "subscription", 10;
    ReplicationSlot = "replication_slot", 10;
    PreparedTransaction = "prepared_transaction", 10;
    LongTransaction = "long_transaction", 15;
    SessionModeClients = "session_mode_clients", 5;
    Suspended = "suspended", 0;
    AlwaysTrigger = "always_trigger", 5;
    PartitionedTable = "partitioned_table", 0;
    InheritedTable = "inherited_table", 0;
    GeneratedColumn = "generated_column", 0;
    IdentityColumn = "identity_column", 0;
    RowSecurity = "row_security", 0;
    ForcedRowSecurity = "forced_row_security", 5;
    SecurityLabel = "security_label", 0;
    DatabaseSettings = "database_settings", 0;
    DefaultPrivileges = "default_privileges", 0;
    OwnedByLogin = "owned_by_login", 0;
    OwnedByOthers = "owned_by_others", 5;
    GrantedToOthers = "granted_to_others", 0;
    Tablespace = "tablespace", 0;
    SuperuserObjects = "superuser_objects", 5;
    ManyTables = "many_tables", 10;
    WideRows = "wide_rows", 5;
    WritesOutrunCopy = "writes_outrun_copy", 20;
    SourceWalLevel = "source_wal_level", 10;
    SourceSlots = "source_slots", 5;
    SourceSenders = "source_senders", 5;
    SourcePrivilege = "source_privilege", 10;
    TargetFull = "target_full", 10;
    TargetDisk = "target_disk", 10;
    TargetUnfit = "target_unfit", 10;
    TargetUnreachable = "target_unreachable", 10;
    TargetToBeMade = "target_to_be_made", 5;
    TargetWalLevel = "target_wal_level", 10;
    TargetSlots = "target_slots", 5;
    TargetWorkers = "target_workers", 5;
    TargetPrivilege = "target_privilege", 10;
    NewerTarget = "newer_target", 0;
    OlderTarget = "older_target", 15;
    NewerFeature = "newer_feature", 10;
    ExtensionMissing = "extension_missing", 10;
    ExtensionVersion = "extension_version", 5;
    ExtensionPrivilege = "extension_privilege", 10;
    LocaleMissing = "locale_missing", 10;
    CollationVersion = "collation_version", 5;
    EncodingDiffers = "encoding_differs", 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelt_the_same_in_json() {
        for code in MoveCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), serde_json::json!(code.as_str()));
        }
    }

    #[test]
    fn where_to_is_one_thing() {
        let to = |text: &str| serde_json::from_str::<JudgeMovability>(text);
        assert_eq!(to("{}").unwrap().to, None);
        let plan = MoveTo::Plan("pro".parse().unwrap());
        assert_eq!(to(r#"{"to": {"plan": "pro"}}"#).unwrap().to, Some(plan));
        for wrong in
            [r#"{"to": {}}"#, r#"{"to": {"plan": "a", "region": "b"}}"#, r#"{"to": "local-2"}"#, r#"{"too": 1}"#]
        {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }
}

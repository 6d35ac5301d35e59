//! What the facts say: findings, and from them the methods that are left, the score and the estimates. Pure: reads neither
//! store nor server.
//!
//! The score begins at 100, and every finding that slows takes off what its code costs. It stays above 40 while logical
//! replication is left, is 40 at most where only dump and restore is, and 0 where nothing is: another finding never
//! raises it.

mod contents;
mod estimate;
mod source;
mod target;
#[cfg(test)]
mod tests;

use freehold_api::movability::{MoveCode, MoveEstimate, MoveFinding, MoveMethod, MoveSeverity, MoveTraffic};
use freehold_drivers::server::sql::movable::{Contents, Host, LocaleThere, Named};

pub use estimate::{APPLIED_ROWS, COMPARED_BYTES, COPIED_BYTES, DUMPED_BYTES, INDEXED_BYTES, of as estimate};

/// What is only possible with writes stopped scores so much at most.
const DUMP_AT_MOST: u32 = 40;
const LOGICAL: &[MoveMethod] = &[MoveMethod::Logical];
const ALL: &[MoveMethod] = &MoveMethod::ALL;

/// Everything that was seen.
pub struct Facts<'a> {
    pub tenant: &'a str,
    pub server: &'a str,
    /// The tenant's logins, which may own things after SET ROLE NONE.
    pub logins: &'a [String],
    pub contents: &'a Contents,
    pub source: &'a Host,
    pub sessions: Sessions,
    /// Else it is suspended, and nobody waits for a move.
    pub admitted: bool,
    pub traffic: Option<MoveTraffic>,
    pub target: Option<Target<'a>>,
}

/// Of the tenant, at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sessions {
    pub open: u64,
    /// A pooler lends its server connections for a transaction only.
    pub pooled: bool,
}

pub struct Target<'a> {
    /// `server local-2`, `server pool big`.
    pub name: &'a str,
    pub against: &'a [Against],
    pub seen: Seen<'a>,
    /// None: only the server's own machine could tell.
    pub free_bytes: Option<u64>,
}

/// What placement says against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    Full(String),
    Disk(String),
    Unfit(String),
    /// It would do, were it not cordoned, ill or busy.
    Away(String),
}

#[derive(Clone, Copy)]
pub enum Seen<'a> {
    There {
        host: &'a Host,
        locale: &'a LocaleThere,
    },
    /// It does not answer, and says so.
    Away(&'a str),
    /// The next server of a pool, of this PostgreSQL.
    ToBeMade(u16),
    Nowhere,
}

#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub methods: Vec<MoveMethod>,
    pub score: u8,
    pub estimates: Vec<MoveEstimate>,
    pub findings: Vec<MoveFinding>,
}

pub fn judge(facts: &Facts<'_>) -> Verdict {
    let mut found = Found::default();
    contents::judge(facts, &mut found);
    source::judge(facts, &mut found);
    if let Some(target) = &facts.target {
        target::judge(facts, target, &mut found);
    }
    let mut findings = found.findings;
    findings.sort_by_key(|finding| (finding.severity, finding.code));
    let methods = left(&findings);
    let estimate = |method: &MoveMethod| {
        let of = estimate::of(*method, facts.contents);
        MoveEstimate { stall_seconds: if facts.admitted { of.stall_seconds } else { 0.0 }, ..of }
    };
    let estimates = methods.iter().map(estimate).collect();
    Verdict { score: score(&methods, &findings), methods, estimates, findings }
}

/// The methods that no finding rules out.
fn left(findings: &[MoveFinding]) -> Vec<MoveMethod> {
    let blocked = |method: &MoveMethod| findings.iter().any(|finding| finding.blocks.contains(method));
    MoveMethod::ALL.into_iter().filter(|method| !blocked(method)).collect()
}

fn score(methods: &[MoveMethod], findings: &[MoveFinding]) -> u8 {
    let slows = findings.iter().filter(|finding| finding.severity == MoveSeverity::Slows);
    let cost: u32 = slows.map(|finding| u32::from(finding.code.cost())).sum();
    let score = match methods.first() {
        None => 0,
        Some(MoveMethod::Dump) => DUMP_AT_MOST.saturating_sub(cost).max(1),
        Some(MoveMethod::Logical) => 100_u32.saturating_sub(cost).max(DUMP_AT_MOST + 1),
    };
    u8::try_from(score).unwrap_or(100)
}

#[derive(Default)]
struct Found {
    findings: Vec<MoveFinding>,
}

impl Found {
    fn note(&mut self, code: MoveCode, message: impl Into<String>) -> &mut MoveFinding {
        self.add(code, MoveSeverity::Note, &[], message.into())
    }

    fn slows(&mut self, code: MoveCode, message: impl Into<String>) -> &mut MoveFinding {
        self.add(code, MoveSeverity::Slows, &[], message.into())
    }

    fn blocks(&mut self, code: MoveCode, methods: &[MoveMethod], message: impl Into<String>) -> &mut MoveFinding {
        self.add(code, MoveSeverity::Blocks, methods, message.into())
    }

    fn add(
        &mut self,
        code: MoveCode,
        severity: MoveSeverity,
        blocks: &[MoveMethod],
        message: String,
    ) -> &mut MoveFinding {
        let objects = Vec::new();
        let blocks = blocks.to_vec();
        self.findings.push(MoveFinding {
            code,
            severity,
            blocks,
            passes: false,
            message,
            count: 0,
            objects,
            handled: None,
            next: None,
        });
        self.findings.last_mut().expect("one was pushed")
    }
}

/// The rest of a finding, said one after the other.
trait Told {
    fn about(&mut self, named: &Named) -> &mut Self;
    fn handled(&mut self, how: impl Into<String>) -> &mut Self;
    fn next(&mut self, next: impl Into<String>) -> &mut Self;
    fn passes(&mut self, passes: bool) -> &mut Self;
}

impl Told for MoveFinding {
    fn about(&mut self, named: &Named) -> &mut Self {
        self.count = named.count;
        self.objects.clone_from(&named.names);
        self
    }

    fn handled(&mut self, how: impl Into<String>) -> &mut Self {
        self.handled = Some(how.into());
        self
    }

    fn next(&mut self, next: impl Into<String>) -> &mut Self {
        self.next = Some(next.into());
        self
    }

    fn passes(&mut self, passes: bool) -> &mut Self {
        self.passes = passes;
        self
    }
}

/// `1 table`, `3 tables`.
fn several(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1 << 20))
}

/// `3 min`, for people.
pub fn span(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

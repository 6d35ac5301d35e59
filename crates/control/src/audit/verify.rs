//! Walks the chain in the store, from one end to the other, against the checkpoints that this plane wrote. What it says of itself
//! is worth as much as the plane: whoever does not trust it walks an export, with the same code.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use freehold_api::audit::{AuditFinding, AuditFindingKind, AuditVerified, VerifyAudit};
use freehold_api::problem::Code;
use freehold_chain::{Checkpoint, End, Record, Start, Walk, Walked, read_checkpoints};
use tokio::time::Instant;
use uuid::Uuid;

use super::store::{At, EndRow, Unsealed};
use super::{key, retention, store};
use crate::http::extract::{Json, Query};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};

const PAGE: i64 = 2000;
/// Well within what callers wait for an answer.
const BUDGET: Duration = Duration::from_secs(15);

/// Walk the audit's chain and tell what was bent
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit", params(VerifyAudit),
    responses((status = 200, description = "What was found; go on at `next` where it is not null", body = AuditVerified)))]
pub async fn verify(State(plane): State<Plane>, Query(query): Query<VerifyAudit>) -> Answer<Json<AuditVerified>> {
    let mut tx = store::look(&plane.store).await?;
    let unsealed = store::unsealed(&mut *tx).await?;
    let Some(end) = store::end(&mut *tx).await? else {
        return Ok(Json(answer(
            Uuid::nil(),
            Walk::new(Start::Anywhere, Vec::new()).pause(),
            unsealed,
            None,
            vec![gone()],
        )));
    };
    let (checkpoints, mut findings) = checkpoints(&plane.core, &end, query.after.is_none()).await?;
    let start = match query.after {
        None => Start::First(end.store),
        Some(place) => match store::hash_at(&mut *tx, place).await? {
            Some(hash) => Start::After { place, hash },
            None => return Err(Refused::field("after", format!("no event stands at place {place}; use `next`"))),
        },
    };
    let anchored = checkpoints.is_some();
    let mut checkpoints = checkpoints.unwrap_or_default();
    match begins(&plane.core, &mut tx, &end).await? {
        Ok(beginning) => checkpoints.extend(beginning),
        Err(finding) => findings.extend(Some(finding).filter(|_| query.after.is_none())),
    }
    let mut walk = Walk::new(start, checkpoints);
    store::redactions(&mut tx).await?.into_iter().map(Record::from).for_each(|record| walk.knows(&record));
    let until = Instant::now() + BUDGET;
    let mut at = query.after.map_or(At::BEGIN, At::end_of);
    let next = loop {
        let page = store::after(&mut tx, at, PAGE).await?;
        let is_last = (page.len() as i64) < PAGE;
        let is_late = Instant::now() > until;
        for record in page.into_iter().map(Record::from) {
            // The next answer begins after a place, whoever shares it.
            if is_late && record.place != at.place {
                break;
            }
            at = At::of(&record);
            walk.take(&record);
        }
        match (is_late, is_last) {
            (true, _) => break Some(at.place),
            (false, true) => break None,
            (false, false) => {}
        }
    };
    let walked = match next {
        Some(_) => walk.pause(),
        None => walk.finish(Some(End { place: end.place, hash: end.hash() })),
    };
    if query.after.is_none() {
        findings.extend(waits(unsealed));
    }
    let mut answer = answer(end.store, walked, unsealed, next, findings);
    if !anchored {
        answer.checkpoints = None;
    }
    Ok(Json(answer))
}

fn answer(
    store: Uuid,
    walked: Walked,
    unsealed: Unsealed,
    next: Option<i64>,
    mut findings: Vec<AuditFinding>,
) -> AuditVerified {
    let Walked { records, removed, first, last, agreed, findings: found, more } = walked;
    findings.extend(found);
    AuditVerified {
        store,
        records,
        removed: removed.unsigned_abs(),
        first,
        last: last.map(|last| last.place),
        hash: last.map(|last| last.hash.to_string()),
        unsealed: unsealed.count.unsigned_abs(),
        checkpoints: Some(agreed),
        findings,
        more,
        next,
    }
}

/// Where the store says that the chain begins, if this plane signed that.
async fn begins(
    core: &Core,
    tx: &mut sqlx::PgConnection,
    end: &EndRow,
) -> Answer<Result<Option<Checkpoint>, AuditFinding>> {
    let Some(row) = retention::store::beginning(tx).await? else { return Ok(Ok(None)) };
    let (place, beginning) = (row.place, row.checkpoint(end.store));
    if beginning.is_signed_by(&key::of(core)) {
        return Ok(Ok(Some(beginning)));
    }
    let message = format!(
        "that the chain begins after place {place} is signed by another key, or was changed: see audit_beginning in the store"
    );
    Ok(Err(AuditFinding { kind: AuditFindingKind::Checkpoint, place: Some(place), message }))
}

fn gone() -> AuditFinding {
    let message = "the row that says where the chain ends (audit_end) is gone: nothing can be sealed, and nothing be compared with it";
    AuditFinding { kind: AuditFindingKind::Truncated, place: None, message: message.into() }
}

/// Sealing takes a second: what waits for longer was put in while nothing sealed, or nothing seals.
fn waits(unsealed: Unsealed) -> Option<AuditFinding> {
    let message = format!(
        "{} events wait for longer than a minute to be sealed: does the loop audit run (freehold status, freehold freeze)?",
        unsealed.late
    );
    (unsealed.late > 0).then_some(AuditFinding { kind: AuditFindingKind::Unsealed, place: None, message })
}

/// None where none are written; and what is wrong with them, told once.
async fn checkpoints(core: &Core, end: &EndRow, tell: bool) -> Answer<(Option<Vec<Checkpoint>>, Vec<AuditFinding>)> {
    let Some(path) = core.settings.audit.checkpoint_file.clone() else { return Ok((None, Vec::new())) };
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || text_of(&path)).await
    };
    let read = read.map_err(|error| Refused::internal("reading checkpoints ended", &error))?;
    let text = read.map_err(|error| {
        let detail = format!("the file of checkpoints {} cannot be read: {error}", path.display());
        Refused::new(Code::Prerequisite, detail)
    })?;
    let (good, mut findings) = read_checkpoints(text.as_deref().unwrap_or_default(), &key::of(core), Some(end.store));
    if text.is_none() && end.checkpoint_place > 0 {
        let message = format!(
            "{} is not there, and a checkpoint of place {} was written to it",
            path.display(),
            end.checkpoint_place
        );
        findings.push(AuditFinding { kind: AuditFindingKind::Checkpoint, place: Some(end.checkpoint_place), message });
    }
    if !tell {
        findings.clear();
    }
    Ok((Some(good), findings))
}

fn text_of(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

//! `freehold audit verify`: by the control plane, or here, against checkpoints that somebody else kept.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use freehold_api::audit::{AuditFinding, AuditFindingKind, AuditKey, AuditVerified};
use freehold_chain::{Checkpoint, PublicKey, read_checkpoints};
use uuid::Uuid;

use super::walk::Lines;
use crate::Cx;
use crate::client::Request;
use crate::failure::{Failure, Outcome};
use crate::given;
use crate::output::plain;

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Walk the events here, against the checkpoints in this file, instead of having the control plane walk
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// What they must be signed with, as `freehold audit key` printed it [default: what the control plane says now]
    #[arg(long, value_name = "KEY", requires = "checkpoints")]
    public_key: Option<PublicKey>,
    /// Walk an export (JSON lines), without a control plane
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub async fn run(args: Verify, cx: &mut Cx) -> Outcome {
    let verified = match (&args.file, &args.checkpoints) {
        (None, None) => by_the_plane(cx, None).await?,
        (None, Some(checkpoints)) => from_the_plane(cx, checkpoints, args.public_key).await?,
        (Some(file), checkpoints) => from_a_file(file, checkpoints.as_deref(), args.public_key)?,
    };
    tell(cx, &verified)
}

/// Answer after answer, until the chain is at its end.
async fn by_the_plane(cx: &mut Cx, mut after: Option<i64>) -> Result<AuditVerified, Failure> {
    let mut all: Option<AuditVerified> = None;
    loop {
        let request = Request::get(&["audit", "verify"]).query("after", after);
        let part: AuditVerified = cx.client()?.send(request).await?.parse()?;
        after = part.next;
        let whole = match all.take() {
            None => part,
            Some(before) => joined(before, part),
        };
        if after.is_none() {
            return Ok(whole);
        }
        all = Some(whole);
    }
}

fn joined(mut before: AuditVerified, part: AuditVerified) -> AuditVerified {
    before.findings.extend(part.findings);
    let checkpoints = before.checkpoints.zip(part.checkpoints).map(|(before, part)| before + part);
    AuditVerified {
        records: before.records + part.records,
        removed: before.removed,
        first: before.first.or(part.first),
        last: part.last.or(before.last),
        hash: part.hash.or(before.hash),
        checkpoints,
        findings: before.findings,
        more: before.more + part.more,
        ..part
    }
}

async fn from_the_plane(cx: &mut Cx, checkpoints: &Path, key: Option<PublicKey>) -> Result<AuditVerified, Failure> {
    let client = cx.client()?;
    let theirs: AuditKey = client.get(&["audit", "key"]).await?;
    let key = match key {
        Some(key) => key,
        None => {
            cx.out.note("the key is what the control plane says now; --public-key takes one that you kept");
            theirs.public_key.parse().map_err(Failure::usage)?
        }
    };
    let (mut good, mut findings) = read_checkpoints(&given::text(checkpoints)?, &key, Some(theirs.store));
    // Signed, so that it need not be believed.
    match theirs.beginning.map(|told| Checkpoint::beginning(theirs.store, &told)).transpose() {
        Ok(Some(beginning)) if beginning.is_signed_by(&key) => good.push(beginning),
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => findings.push(AuditFinding {
            kind: AuditFindingKind::Checkpoint,
            place: None,
            message: format!("where the control plane says that the chain begins is not signed by {}", key.id()),
        }),
    }
    let mut lines = Lines::new(Some(good), Some(theirs.store), true);
    let mut download = client.download(Request::get(&["audit", "export"])).await?;
    let mut pending: Vec<u8> = Vec::new();
    while let Some(bytes) = download.next().await? {
        pending.extend(bytes);
        let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = pending.split_off(whole);
        for line in pending.split_inclusive(|byte| *byte == b'\n') {
            lines.take(line)?;
        }
        pending = rest;
    }
    let here = lines.finish(findings);
    // What the store keeps apart, its end above all, only the plane can compare.
    let there = by_the_plane(cx, here.last).await?;
    let told = there.findings.into_iter().filter(|finding| !here.findings.contains(finding)).collect::<Vec<_>>();
    let mut verified = AuditVerified { unsealed: there.unsealed, ..here };
    verified.findings.extend(told);
    Ok(verified)
}

fn from_a_file(file: &Path, checkpoints: Option<&Path>, key: Option<PublicKey>) -> Result<AuditVerified, Failure> {
    let (checkpoints, store, findings) = match (checkpoints, key) {
        (None, _) => (None, None, Vec::new()),
        (Some(path), Some(key)) => {
            let (good, findings) = read_checkpoints(&given::text(path)?, &key, None);
            let (good, store) = of_one_store(good);
            (Some(good), store, findings)
        }
        (Some(_), None) => {
            return Err(Failure::usage(
                "without a control plane, --checkpoints needs --public-key, as freehold audit key printed it",
            ));
        }
    };
    let mut lines = Lines::new(checkpoints, store, false);
    let cannot = |error: std::io::Error| Failure::Prerequisite {
        detail: format!("cannot read {}: {error}", file.display()),
        next: None,
    };
    for line in BufReader::new(std::fs::File::open(file).map_err(cannot)?).split(b'\n') {
        lines.take(&line.map_err(cannot)?)?;
    }
    Ok(lines.finish(findings))
}

/// Those about the store of the last one.
fn of_one_store(mut good: Vec<Checkpoint>) -> (Vec<Checkpoint>, Option<Uuid>) {
    let store = good.iter().max_by_key(|checkpoint| checkpoint.at).map(|checkpoint| checkpoint.store);
    good.retain(|checkpoint| Some(checkpoint.store) == store);
    (good, store)
}

fn tell(cx: &Cx, verified: &AuditVerified) -> Outcome {
    let worst = verified.findings.iter().map(|finding| finding.kind.severity()).max();
    if cx.out.wants_json() {
        cx.out.json(verified)?;
    } else {
        let places = verified.first.zip(verified.last).map(|(first, last)| format!("{first} to {last}"));
        cx.out.fields(&[
            ("events", Some(verified.records.to_string())),
            ("places", places),
            ("removed before", Some(verified.removed).filter(|count| *count > 0).map(|count| count.to_string())),
            ("last hash", verified.hash.clone()),
            ("to be sealed", Some(verified.unsealed).filter(|count| *count > 0).map(|count| count.to_string())),
            ("checkpoints", verified.checkpoints.map(|agreed| format!("{agreed} agree"))),
        ]);
        for finding in &verified.findings {
            cx.out.finding(finding.kind.severity(), &line(finding));
        }
        if verified.more > 0 {
            cx.out.line(&format!("and {} more", verified.more));
        }
        if worst.is_none() {
            cx.out.line("nothing was bent");
        }
    }
    worst.map_or(Ok(()), |worst| Err(Failure::Findings(worst)))
}

fn line(finding: &AuditFinding) -> String {
    format!("{}: {}", finding.kind.as_str(), plain(&finding.message))
}

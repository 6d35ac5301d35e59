//! Hands out sealed events, in the order of the chain, as long as it takes: JSON lines that can be walked elsewhere, or CSV.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use freehold_api::audit::{ExportAudit, ExportFormat, ListAudit};
use freehold_chain::Record;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::store::{self, At};
use crate::http::extract::Query;
use crate::plane::{Answer, Plane};

const PAGE: i64 = 1000;

/// Export the audit, oldest first
#[utoipa::path(get, path = "/v1/audit/export", tag = "audit", params(ExportAudit),
    responses((status = 200, description = "Sealed events, one on each line", content(
        (String = "application/x-ndjson"), (String = "text/csv")))))]
pub async fn export(State(plane): State<Plane>, Query(query): Query<ExportAudit>) -> Answer<Response> {
    let format = query.format.unwrap_or_default();
    // What is sealed from now on is for the next one.
    let upto = upto(&plane).await?;
    let (send, receive) = mpsc::channel(4);
    let kind = match format {
        ExportFormat::Jsonl => "application/x-ndjson",
        ExportFormat::Csv => "text/csv; charset=utf-8",
    };
    tokio::spawn(write(plane, query.choice(), format, upto, send));
    let body = Body::from_stream(ReceiverStream::new(receive));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

type Chunk = Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// Ends with the last event, or when the caller hangs up. An error tears the answer, so that nobody takes a part for the whole.
async fn write(plane: Plane, choice: ListAudit, format: ExportFormat, mut upto: i64, send: mpsc::Sender<Chunk>) {
    if format == ExportFormat::Csv && send.send(Ok(HEADER.to_owned())).await.is_err() {
        return;
    }
    let mut at = At::BEGIN;
    loop {
        let (records, now) = match page(&plane, &choice, at, upto).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "an export of the audit was torn");
                let _ = send.send(Err(error.into())).await;
                return;
            }
        };
        let more = records.len() as i64 == PAGE || now > upto;
        upto = now;
        at = records.last().map_or(at, At::of);
        let text: Result<String, _> = records.iter().map(|record| line(record, format)).collect();
        let failed = text.is_err();
        if send.send(text.map_err(Into::into)).await.is_err() || failed || !more {
            return;
        }
    }
}

/// And up to where it goes. What is found redacted may have been a moment ago, and the event that says so has to follow.
async fn page(plane: &Plane, choice: &ListAudit, at: At, upto: i64) -> sqlx::Result<(Vec<Record>, i64)> {
    let rows = store::chosen(&plane.store, choice, at, upto, PAGE).await?;
    let records: Vec<Record> = rows.into_iter().map(Record::from).collect();
    match records.iter().any(|record| record.redacted.is_some()) {
        true => Ok((records, self::upto(plane).await?)),
        false => Ok((records, upto)),
    }
}

async fn upto(plane: &Plane) -> sqlx::Result<i64> {
    Ok(store::end(&plane.store).await?.map_or(i64::MAX, |end| end.place))
}

fn line(record: &Record, format: ExportFormat) -> serde_json::Result<String> {
    match format {
        ExportFormat::Jsonl => serde_json::to_string(record).map(|line| line + "\n"),
        ExportFormat::Csv => Ok(csv(record)),
    }
}

const HEADER: &str = "place,id,at,actor,actor_name,action,subject,outcome,reason,request_id,client,details,hash\r\n";

fn csv(record: &Record) -> String {
    let Record {
        place,
        id,
        at,
        actor,
        actor_name,
        action,
        subject,
        outcome,
        reason,
        request_id,
        client,
        details,
        hash,
        ..
    } = record;
    let optional = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
    let cells = [
        place.to_string(),
        id.to_string(),
        at.to_string(),
        cell(actor),
        optional(actor_name),
        cell(action),
        optional(subject),
        cell(outcome),
        optional(reason),
        optional(request_id),
        optional(client),
        cell(details),
        hash.to_string(),
    ];
    cells.join(",") + "\r\n"
}

/// A spreadsheet runs what begins like a formula: there an apostrophe comes first.
fn cell(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if runs { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\n', '\r', '\'']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_run_nothing_and_hold_anything() {
        for (text, written) in [
            ("tenant:acme", "tenant:acme"),
            ("", ""),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2", "\"'-2\""),
            ("+cmd|' /C calc'!A0", "\"'+cmd|' /C calc'!A0\""),
            ("\t=1", "\"'\t=1\""),
            ("a,b", "\"a,b\""),
            ("{\"a\": 1}", "\"{\"\"a\"\": 1}\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}

//! `GET /api/audit/export/csv`: the same as rows, 10,000 at most.

use axum::extract::{Request, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use freehold_api::key::Scope;
use serde_json::json;

use super::audit::{After, Choice, Item, Wanted, choose, number, page};
use super::{Need, admit};
use crate::audit::record::Event;
use crate::http::extract::Query;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::settings::Edge;

const ACTION: &str = "edge.tansucloud.audit.export";
const NEED: Need = Need { any: &[Scope::Admin], action: ACTION, title: Some("Admin scope required (admin.full)") };
const ROWS: i64 = 10_000;
const AT_ONCE: i64 = 1000;
const HEADER: &str = "WhenUtc,TenantId,Subject,Category,Action,Service,Outcome,ReasonCode,CorrelationId,TraceId,SpanId,\
    RouteTemplate,Environment,Version,ClientIpHash,UserAgent,ImpersonatedBy,SourceHost,Details\r\n";

pub(super) async fn export(State((plane, _)): State<(Plane, Edge)>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let caller = match admit(&plane, &mut parts, &NEED).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let answer = async {
        let Query(wanted) = Query::<Wanted>::of(&parts)?;
        let limit = number("limit", wanted.limit.as_deref())?.unwrap_or(ROWS).clamp(1, ROWS);
        let after = wanted.after()?;
        let choice = choose(&plane, &caller, wanted).await?;
        let (text, count) = rows(&plane, &choice, after, limit).await?;
        Event::done(&caller.actor(), ACTION, "audit").with(json!({"rows": count})).save(&plane.store).await?;
        Ok::<_, Refused>((text, count, limit))
    };
    let (text, count, limit) = match answer.await {
        Ok(answer) => answer,
        Err(refused) => return refused.into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/csv".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\"".to_owned()),
        (HeaderName::from_static("x-export-limit"), limit.to_string()),
        (HeaderName::from_static("x-export-count"), count.to_string()),
    ];
    (headers, text).into_response()
}

async fn rows(plane: &Plane, choice: &Choice, mut after: Option<After>, limit: i64) -> Answer<(String, i64)> {
    let (mut text, mut count) = (HEADER.to_owned(), 0);
    while count < limit {
        let (items, next) = page(plane, choice, after, AT_ONCE.min(limit - count)).await?;
        count += items.len() as i64;
        items.iter().for_each(|item| text.push_str(&row(item)));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok((text, count))
}

fn row(item: &Item) -> String {
    let optional = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
    let cells = [
        cell(&item.when_utc.to_string()),
        cell(&item.tenant_id),
        cell(&item.subject),
        cell(&item.category),
        cell(&item.action),
        cell(item.service),
        cell(item.outcome),
        optional(&item.reason_code),
        cell(&item.correlation_id),
        cell(item.trace_id),
        cell(item.span_id),
        cell(&item.route_template),
        cell(item.environment),
        cell(item.version),
        optional(&item.client_ip_hash),
        optional(&item.user_agent),
        optional(&item.impersonated_by),
        optional(&item.source_host),
        cell(&item.details.to_string()),
    ];
    cells.join(",") + "\r\n"
}

/// Quoted where there is anything; a spreadsheet runs what begins like a formula, so there an apostrophe comes first.
fn cell(text: &str) -> String {
    let apostrophe = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    match text {
        "" => String::new(),
        text => format!("\"{apostrophe}{}\"", text.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_are_quoted_and_run_nothing() {
        for (text, written) in [("", ""), ("a", "\"a\""), ("a\"b,c", "\"a\"\"b,c\""), ("=1+1", "\"'=1+1\"")] {
            assert_eq!(cell(text), written);
        }
    }
}

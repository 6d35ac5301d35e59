//! `GET /api/audit`: Freehold's audit in the shape of TansuCloud's, newest first.
//!
//! Absent: what Freehold does not record (traces, browsers, who acts as somebody else), and the client's address, which the
//! original has as a hash: `GET /v1/audit` has it, for those who may read that.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use freehold_api::id::shown;
use freehold_api::key::Scope;
use freehold_api::problem::Code;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::store::{self, Row};
use super::{NAME, Need, admit};
use crate::edge::store as edges;
use crate::http::access::Caller;
use crate::http::extract::{Query, cursor, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::settings::Edge;

const NEED: Need = Need { any: &[Scope::Read], action: "edge.tansucloud.audit", title: None };
const PAGE: i64 = 100;
const PAGE_MAX: i64 = 200;
const SERVICE: &str = "freehold";

/// As text: what cannot be read is 400 here, and not what the rest of Freehold answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wanted {
    start_utc: Option<String>,
    end_utc: Option<String>,
    tenant_id: Option<String>,
    subject: Option<String>,
    category: Option<String>,
    action: Option<String>,
    service: Option<String>,
    outcome: Option<String>,
    correlation_id: Option<String>,
    impersonation_only: Option<String>,
    page_size: Option<String>,
    page_token: Option<String>,
    /// Of an export.
    pub limit: Option<String>,
}

/// What is asked for, and may be seen.
#[derive(Debug)]
pub(super) struct Choice {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Freehold's id.
    pub tenant: Option<String>,
    pub actor: Option<String>,
    pub category: Option<String>,
    pub action: Option<String>,
    pub outcome: Option<&'static str>,
    pub request_id: Option<String>,
    /// It can only be empty: another service's, or somebody's who acts as another.
    pub nothing: bool,
}

/// Where a page ended: time, in microseconds, and the order within it.
pub(super) type After = (i64, i64);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub id: Uuid,
    pub when_utc: Timestamp,
    pub service: &'static str,
    pub environment: &'static str,
    pub version: &'static str,
    pub tenant_id: String,
    pub subject: String,
    pub action: String,
    pub category: String,
    pub route_template: String,
    pub correlation_id: String,
    pub trace_id: &'static str,
    pub span_id: &'static str,
    pub client_ip_hash: Option<String>,
    pub user_agent: Option<String>,
    pub outcome: &'static str,
    pub reason_code: Option<String>,
    pub details: Value,
    pub impersonated_by: Option<String>,
    pub source_host: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Item>,
    next_page_token: Option<String>,
}

pub(super) async fn list(State((plane, _)): State<(Plane, Edge)>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let caller = match admit(&plane, &mut parts, &NEED).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let answer = async {
        let Query(wanted) = Query::<Wanted>::of(&parts)?;
        let size = number("pageSize", wanted.page_size.as_deref())?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let after = wanted.after()?;
        let choice = choose(&plane, &caller, wanted).await?;
        let (items, next) = page(&plane, &choice, after, size).await?;
        Ok::<_, Refused>(Page { items, next_page_token: next.and_then(|after| next_cursor(&after)) })
    };
    match answer.await {
        Ok(page) => Json(page).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// And where the next one begins; None: that was all.
pub(super) async fn page(
    plane: &Plane,
    choice: &Choice,
    after: Option<After>,
    size: i64,
) -> Answer<(Vec<Item>, Option<After>)> {
    if choice.nothing {
        return Ok((Vec::new(), None));
    }
    let mut rows = store::page(&plane.store, choice, after, size + 1).await?;
    let more = rows.len() as i64 > size;
    rows.truncate(size as usize);
    let next = rows.last().filter(|_| more).map(Row::after);
    let environment = plane.settings.environment.as_str();
    Ok((rows.into_iter().map(|row| item(row, environment)).collect(), next))
}

fn item(row: Row, environment: &'static str) -> Item {
    Item {
        id: row.id,
        when_utc: row.at.to_jiff(),
        service: SERVICE,
        environment,
        version: env!("CARGO_PKG_VERSION"),
        tenant_id: row.tenant_id,
        subject: row.actor,
        action: row.action,
        category: row.category,
        route_template: row.route,
        correlation_id: row.request_id.unwrap_or_default(),
        trace_id: "",
        span_id: "",
        client_ip_hash: None,
        user_agent: None,
        outcome: OUTCOMES.iter().find(|(_, ours)| *ours == row.outcome).map_or("Failure", |(theirs, _)| *theirs),
        reason_code: row.reason,
        details: row.details,
        impersonated_by: None,
        source_host: None,
    }
}

static OUTCOMES: [(&str, &str); 3] = [("Success", "success"), ("Failure", "failure"), ("Forbidden", "denied")];

impl Wanted {
    pub(super) fn after(&self) -> Answer<Option<After>> {
        let token = filled(self.page_token.as_deref());
        cursor(token).map_err(|_| bad("pageToken is not valid", "pass nextPageToken as it came, or leave it out"))
    }
}

/// Whoever is no admin names a tenant, and a key that is bound to tenants one of them.
pub(super) async fn choose(plane: &Plane, caller: &Caller, wanted: Wanted) -> Answer<Choice> {
    let times = (moment("startUtc", wanted.start_utc.as_deref())?, moment("endUtc", wanted.end_utc.as_deref())?);
    let (Some(start), Some(end)) = times else {
        return Err(bad("startUtc and endUtc are required", "as 2026-01-31T12:00:00Z"));
    };
    if end <= start {
        return Err(bad("endUtc must be greater than startUtc", "both are inclusive"));
    }
    let tenant = match filled(wanted.tenant_id.as_deref()) {
        Some(external) => Some(tenant(plane, caller, external).await?),
        None if caller.has(Scope::Admin) && caller.tenants.is_none() => None,
        None => return Err(bad("tenantId is required for non-admin requests", "or send a key with the scope admin")),
    };
    let is_other = |service: &str| !service.eq_ignore_ascii_case(SERVICE);
    let outcome = filled(wanted.outcome.as_deref());
    let ours = outcome.map(|outcome| OUTCOMES.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(outcome)));
    let owned = |text: Option<String>| text.filter(|text| filled(Some(text)).is_some());
    Ok(Choice {
        start,
        end,
        nothing: filled(wanted.service.as_deref()).is_some_and(is_other)
            || is_true(wanted.impersonation_only.as_deref())?
            || ours == Some(None)
            || tenant == Some(None),
        tenant: tenant.flatten(),
        actor: owned(wanted.subject),
        category: owned(wanted.category),
        action: owned(wanted.action),
        outcome: ours.flatten().map(|(_, ours)| *ours),
        request_id: owned(wanted.correlation_id),
    })
}

/// Freehold's id of it. None: there is none, or it is somebody else's.
async fn tenant(plane: &Plane, caller: &Caller, external: &str) -> Answer<Option<String>> {
    let via = edges::External { edge: NAME, id: external };
    let id = match edges::find(&plane.store, &via).await? {
        Some(id) => Some(id),
        // Made by the API, or gone: by its own name, unless that is what another id became.
        None => match external.parse() {
            Ok(id) if !store::is_anothers(&plane.store, NAME, &id).await? => Some(id),
            Ok(_) | Err(_) => None,
        },
    };
    match &id {
        Some(id) => caller.require_tenant(id)?,
        None if caller.tenants.is_some() => {
            return Err(Refused::new(
                Code::Denied,
                format!("this key is bound to other tenants than {}", shown(external)),
            ));
        }
        None => {}
    }
    Ok(id.map(|id| id.as_str().to_owned()))
}

fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn bad(title: &str, detail: &str) -> Refused {
    let mut refused = Refused::new(Code::BadRequest, detail);
    refused.0.title = title.into();
    refused
}

/// With an offset, or without one: then it is UTC, as its name says.
fn moment(field: &str, text: Option<&str>) -> Answer<Option<Timestamp>> {
    let Some(text) = filled(text).map(str::trim) else { return Ok(None) };
    let utc =
        || text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::UTC).ok()).map(|at| at.timestamp());
    // A + that was not escaped came as a space.
    let at = text.parse().ok().or_else(|| text.replacen(' ', "+", 1).parse().ok()).or_else(utc);
    at.map(Some).ok_or_else(|| {
        bad(&format!("{field} is not valid"), &format!("{} is no time, as 2026-01-31T12:00:00Z", shown(text)))
    })
}

pub(super) fn number(field: &str, text: Option<&str>) -> Answer<Option<i64>> {
    let Some(text) = filled(text) else { return Ok(None) };
    let number = text
        .trim()
        .parse()
        .map_err(|_| bad(&format!("{field} is not valid"), &format!("{} is no number", shown(text))));
    number.map(Some)
}

fn is_true(text: Option<&str>) -> Answer<bool> {
    match filled(text).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(bad("impersonationOnly is not valid", &format!("{} is neither true nor false", shown(other))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_their_senders_write_them() {
        let expected: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.0000000Z",
            "2026-01-31T12:00:00.0000000+00:00",
            "2026-01-31T14:00:00 02:00",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T12:00:00",
            " 2026-01-31T12:00:00Z ",
        ] {
            assert_eq!(moment("startUtc", Some(text)).ok().flatten(), Some(expected), "{text}");
        }
        let midnight: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(moment("startUtc", Some("2026-01-31")).ok().flatten(), Some(midnight));
        assert!(moment("startUtc", Some("yesterday")).is_err() && moment("startUtc", Some(" ")).is_ok());
    }
}

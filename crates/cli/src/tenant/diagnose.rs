//! `tenant diagnose`: the way in, link by link, and the first that is broken.

use freehold_api::TenantId;
use freehold_api::diagnosis::{Diagnosis, LinkState};
use freehold_api::server::Severity;
use serde_json::json;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::Rows;

pub async fn diagnose(id: TenantId, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["tenants", id.as_str(), "diagnose"]).body(&json!({}))?;
    let out = cx.out.clone();
    let spinner = out.spinner(&format!("walking the way into {id}"));
    let body = cx.client()?.send(request).await?.body;
    drop(spinner);
    let diagnosis: Diagnosis = parse(&body)?;
    if cx.out.wants_json() {
        cx.out.json(&body)?;
    } else {
        tell(cx, &diagnosis);
    }
    let has = |state| diagnosis.links.iter().any(|link| link.state == state);
    match (has(LinkState::Broken), has(LinkState::Notable)) {
        (true, _) => Err(Failure::Findings(Severity::High)),
        (false, true) => Err(Failure::Findings(Severity::Low)),
        (false, false) => Ok(()),
    }
}

fn tell(cx: &Cx, diagnosis: &Diagnosis) {
    let rows = diagnosis.links.iter().map(|link| {
        let took = format!("{:.1} ms", link.milliseconds);
        vec![link.state.as_str().to_owned(), link.name.as_str().to_owned(), took, link.message.clone()]
    });
    cx.out.table(Rows {
        header: &["STATE", "LINK", "TOOK", "FOUND"],
        rows: rows.collect(),
        empty: "nothing was looked at",
    });
    let of_note = |state| diagnosis.links.iter().find(move |link| link.state == state);
    match (of_note(LinkState::Broken), of_note(LinkState::Notable)) {
        (Some(link), _) => {
            cx.out.line(&format!(
                "the first broken link is {}: {}",
                link.name.as_str(),
                crate::output::plain(&link.message)
            ));
        }
        (None, Some(_)) => cx.out.line("every link holds; see what is notable"),
        (None, None) => cx.out.line("every link holds"),
    }
    if let Some(next) = of_note(LinkState::Broken).or(of_note(LinkState::Notable)).and_then(|link| link.next.as_deref())
    {
        cx.out.note(&format!("next: {}", crate::output::plain(next)));
    }
}

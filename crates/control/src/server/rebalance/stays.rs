//! Who is not sent anywhere, and why. Pure.

use freehold_api::server::ServerKind;

use super::store::{REMEMBERED, Resident};
use crate::tenant::moving::ask::can_move;

/// Code and reason. None: it can go. `next_kind` is of the server that its next plan wants; with `protected`, those who are
/// protected from deletion may go too.
pub fn why(of: &Resident, next_kind: Option<ServerKind>, protected: bool) -> Option<(String, String)> {
    let told = |code: &str, why: String| Some((code.to_owned(), why));
    let id = &of.tenant_id;
    if !can_move(&of.state) {
        let why = format!("it is {}, and only an active or a suspended tenant can be moved", of.state);
        return told("wrong_state", why);
    }
    if let Some(to) = &of.goes_to {
        return told("busy", format!("it is on its way to server {to}, and counted there"));
    }
    if let Some((operation, kind)) = of.operation.zip(of.operation_kind.as_ref()) {
        return told("busy", format!("operation {operation} ({kind}) is working on it"));
    }
    if let Some(other) = &of.kept_on {
        let why = format!("what it has on server {other} is still kept: freehold tenant move {id} --finish");
        return told("wrong_state", why);
    }
    if let Some(kind) = next_kind.filter(|kind| *kind != ServerKind::Shared) {
        let plan = of.next_plan.as_deref().unwrap_or_default();
        return told("plan_changes", format!("it gets plan {plan}, which moves it to a {} server", kind.as_str()));
    }
    if of.protected && !protected {
        return told("protected", "it is protected from deletion; such tenants go where that is asked for".into());
    }
    if of.keeps_logins {
        let why = "logins that were there before it was adopted still come in: hand out Freehold's, and drop those";
        return told("kept_logins", why.into());
    }
    if of.bytes.is_none() {
        return told("not_measured", "its size was not measured yet (loop stats)".into());
    }
    if let Some(codes) = &of.immovable {
        let why = format!("it was judged to be immovable ({}): freehold tenant movability {id}", codes.join(", "));
        return told("not_movable", why);
    }
    let (at, code) = of.failed_at.zip(of.failed_code.as_deref())?;
    let days = REMEMBERED.as_secs() / 86_400;
    let why = format!(
        "its move came to nothing at {}, and is not tried again for {days} days, unless by itself (freehold tenant move {id}): {}",
        at.to_jiff(),
        of.failed_message.as_deref().unwrap_or_default()
    );
    told(code, why)
}

#[cfg(test)]
mod tests {
    use freehold_api::tenant::Labels;
    use jiff_sqlx::ToSqlx;
    use sqlx::types::Json;
    use uuid::Uuid;

    use super::*;

    type Change = fn(&mut Resident);

    fn resident() -> Resident {
        Resident {
            server_id: "here".into(),
            tenant_id: "acme".into(),
            state: "active".into(),
            plan: "standard".into(),
            region: None,
            template: "default".into(),
            labels: Json(Labels::new()),
            protected: false,
            bytes: Some(1),
            transactions_per_second: 0.0,
            is_unmeasured: false,
            goes_to: None,
            kept_on: None,
            operation: None,
            operation_kind: None,
            next_plan: None,
            keeps_logins: false,
            immovable: None,
            failed_at: None,
            failed_code: None,
            failed_message: None,
        }
    }

    #[test]
    fn each_reason_is_told_and_nobody_stays_for_none() {
        let of = |change: Change| {
            let mut resident = resident();
            change(&mut resident);
            resident
        };
        let code = |resident: &Resident| why(resident, None, false).map(|(code, _)| code);
        assert_eq!(code(&resident()), None);
        assert_eq!(code(&of(|of| of.state = "suspended".into())), None);
        assert_eq!(why(&resident(), Some(ServerKind::Shared), false), None);
        let reasons: [(&str, Change); 9] = [
            ("wrong_state", |of| of.state = "creating".into()),
            ("wrong_state", |of| of.state = "deleted".into()),
            ("busy", |of| of.goes_to = Some("there".into())),
            ("busy", |of| (of.operation, of.operation_kind) = (Some(Uuid::nil()), Some("tenant.rotate".into()))),
            ("wrong_state", |of| of.kept_on = Some("there".into())),
            ("protected", |of| of.protected = true),
            ("kept_logins", |of| of.keeps_logins = true),
            ("not_measured", |of| of.bytes = None),
            ("not_movable", |of| of.immovable = Some(vec!["no_equality".into()])),
        ];
        for (expected, change) in reasons {
            assert_eq!(code(&of(change)).as_deref(), Some(expected));
        }
        let next = of(|of| of.next_plan = Some("own".into()));
        let (code, why_not) = why(&next, Some(ServerKind::Dedicated), false).expect("it moves by itself");
        assert!(code == "plan_changes" && why_not.contains("own") && why_not.contains("dedicated"), "{code} {why_not}");
        assert_eq!(why(&of(|of| of.protected = true), None, true), None);
        let failed = of(|of| {
            of.failed_at = Some(jiff::Timestamp::UNIX_EPOCH.to_sqlx());
            (of.failed_code, of.failed_message) = (Some("digests_differ".into()), Some("not the same".into()));
        });
        let (code, why_not) = why(&failed, None, false).expect("it is not tried again");
        assert!(code == "digests_differ" && why_not.contains("1970") && why_not.contains("not the same"), "{why_not}");
    }
}

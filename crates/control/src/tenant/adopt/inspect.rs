//! Looks at a database that may be adopted: from outside first, and only where nothing stands against that, from inside.
//! As an operation about nothing: `--dry-run` is this look and no more.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::adopt::{AdoptDatabase, Adoption};
use freehold_api::server::{Finding, Severity};
use freehold_drivers::server::sql::adopt::{Inside, Object, Outside, OwnerFacts};
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::judge::{self, Admin, Asked, Facts, Verdict};
use super::store;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::tenant::report;

/// A database of a hundred thousand tables has large catalogs.
const LOOK: Duration = Duration::from_secs(45);

/// All that was seen of it.
pub struct Inspected {
    pub outside: Outside,
    pub inside: Inside,
    pub roles: Vec<OwnerFacts>,
    pub verdict: Verdict,
}

impl Asked {
    pub fn of(body: &AdoptDatabase) -> Self {
        Self {
            owner: body.owner.clone(),
            keep_logins: body.keep_logins.clone(),
            end_sessions: body.end_sessions,
            disable_event_triggers: body.disable_event_triggers,
        }
    }
}

impl Inspected {
    pub fn wanted(&self, asked: &Asked, owner: &str) -> Vec<&Object> {
        judge::wanted(&self.inside.objects, asked, owner)
    }

    /// The roles whose things are to change hands.
    pub fn owners(&self, asked: &Asked) -> Vec<String> {
        let mut owners: Vec<String> = self.wanted(asked, "").iter().map(|object| object.owner.clone()).collect();
        owners.push(self.outside.owner.clone());
        owners.sort();
        owners.dedup();
        owners.retain(|owner| owner != "pg_database_owner");
        owners
    }

    fn report(&self, body: &AdoptDatabase, tenant: &str) -> Result<Adoption, Failure> {
        let mut objects: BTreeMap<String, u64> = BTreeMap::new();
        for object in self.wanted(&Asked::of(body), "") {
            *objects.entry(object.owner.clone()).or_default() += 1;
        }
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(Adoption {
            tenant: tenant.parse().map_err(|_| Failure::permanent("invalid", "the tenant's id is no id"))?,
            server: body.server.clone(),
            database: body.database.clone(),
            owner: self.outside.owner.clone(),
            size_bytes: count(self.outside.size_bytes),
            objects,
            extensions: self.inside.extensions.iter().map(|(name, _)| name.clone()).collect(),
            sessions: self.outside.sessions.iter().map(|(role, there)| (role.clone(), count(*there))).collect(),
            refusals: self.verdict.refusals.clone(),
            notes: self.verdict.notes.clone(),
        })
    }
}

/// `but` is the row of the adoption itself, once there is one.
pub async fn inspect(
    core: &Core,
    cx: &Cx,
    server: &ServerRow,
    database: &str,
    asked: &Asked,
    but: Option<Uuid>,
) -> Result<Inspected, Failure> {
    let home = hands::admin(core, cx, server, None).await?;
    let admin = Admin { name: home.user(), superuser: home.is_superuser() };
    let outside = home.look_at(database).await.map_err(hands::failure)?;
    let outside = outside.ok_or_else(|| {
        Failure::permanent("not_found", format!("there is no database {database} on server {}", server.id))
    })?;
    let mut verdict = judge::from_outside(&outside, &admin);
    if home.database() == database {
        verdict.refusals.push(refusal("system_database", "it is where Freehold's admin connects to".into()));
    }
    if let Some(whose) = store::whose(&core.store, &server.id, database, but).await? {
        verdict.refusals.push(refusal("already_ours", format!("it is {whose}")));
    }
    if !verdict.refusals.is_empty() {
        return Ok(Inspected { outside, inside: Inside::default(), roles: Vec::new(), verdict });
    }
    let within = hands::enter(core, cx, server, &home, database).await?;
    let inside = within.look_into().await.map_err(hands::failure)?;
    let mut names: Vec<String> = inside.objects.iter().map(|found| found.owner.clone()).collect();
    names.extend(asked.keep_logins.iter().chain(&asked.owner).cloned());
    names.push(outside.owner.clone());
    names.sort();
    names.dedup();
    let roles = home.owner_facts(&names).await.map_err(hands::failure)?;
    let taken = store::taken(&core.store, &server.id, but).await?;
    let facts = Facts { outside: &outside, inside: &inside, roles: &roles, admin, taken: &taken, asked };
    let verdict = judge::judge(&facts);
    Ok(Inspected { outside, inside, roles, verdict })
}

fn refusal(code: &str, message: String) -> Finding {
    Finding { code: code.into(), severity: Severity::High, message }
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Look { tenant: String, body: Box<AdoptDatabase> },
    }
}

pub struct Inspect {
    pub core: Core,
}

#[async_trait]
impl Operation for Inspect {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "tenant.adopt_check"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Look { tenant, body } = step;
        let core = &self.core;
        let look = async {
            let server = hands::server(core, body.server.as_str()).await?;
            let inspected = inspect(core, cx, &server, &body.database, &Asked::of(&body), None).await?;
            inspected.report(&body, &tenant)
        };
        let too_long = |_| Failure::permanent("timeout", format!("not looked at within {} s", LOOK.as_secs()));
        let adoption = tokio::time::timeout(LOOK, look).await.map_err(too_long)?.map_err(report::at_once)?;
        let operation = cx.operation;
        Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(report::save(tx, operation, &tenant, &adoption).await?) })))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}

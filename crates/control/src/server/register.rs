//! `server.register`: looks at a new server, closes it to strangers, and opens it to tenants.
//!
//! probe → secure → active. A server that cannot be used ends `failed` with the reason, and may be added again. One that is
//! registered already and comes by another way takes one step (prove), and stays what it was where that fails.

use async_trait::async_trait;
use freehold_durable::{Class, Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::again::{self, Candidate};
use super::store::{Facts, ServerRow};
use super::{hands, store};
use crate::audit::record::{Actor, Event};
use crate::health::visitor;
use crate::operation::answer::failure_of;
use crate::plane::Core;

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Version, privileges, settings, extensions.
        Probe,
        /// CONNECT and TEMPORARY taken from PUBLIC, and read back.
        Secure,
        /// Another way to a server that is registered: kept once it has led to the same cluster, for admin and tenants.
        Prove { candidate: Box<Candidate> },
    }
}

pub struct Register {
    pub core: Core,
}

#[async_trait]
impl Operation for Register {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.register"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let id = subject(cx)?;
        match step {
            Step::Probe => {
                let server = hands::server(&self.core, &id).await?;
                let facts = probe(&self.core, cx, &server).await.map_err(for_the_caller)?;
                Ok(Outcome::step(Step::Secure)
                    .recording(move |tx| Box::pin(async move { record(tx, &id, &facts).await })))
            }
            Step::Secure => {
                let facts = look_again(&self.core, cx, &id).await.map_err(for_the_caller)?;
                cx.fault("secured")?;
                open_to_tenants(&self.core, cx, &id).await.map_err(for_the_caller)?;
                let fleet = self.core.fleet.clone();
                let operation = cx.operation;
                let engine = cx.engine();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        record(tx, &id, &facts).await?;
                        store::set_state(tx, &id, &["provisioning"], "active", None).await?;
                        store::answers(tx, &id).await?;
                        Event::done(&Actor::operation(operation, None), "server.register", format!("server:{id}"))
                            .save(&mut *tx)
                            .await?;
                        fleet.forget().await;
                        Ok(engine.wake_in(tx, "stock").await?)
                    })
                }))
            }
            Step::Prove { candidate } => again::prove(&self.core, cx, id, *candidate).await.map_err(for_the_caller),
        }
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        // Revoking from PUBLIC is not taken back: nobody was promised that a stranger may connect.
        None
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _: &Step,
        operation: Uuid,
        as_: Resolution,
    ) -> Result<(), sqlx::Error> {
        let sql = "SELECT substr(subject, 8) FROM operation WHERE id = $1";
        let id: String = sqlx::query_scalar(sql).bind(operation).fetch_one(&mut *tx).await?;
        let (to, why) = match as_ {
            Resolution::Succeeded => ("active", None),
            Resolution::Failed | Resolution::Cancelled => ("failed", Some("resolved by hand as undone")),
        };
        store::set_state(tx, &id, &["provisioning"], to, why).await.map(drop)
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let id = operation.subject.as_deref().and_then(|subject| subject.strip_prefix("server:")).unwrap_or_default();
        let (code, reason) = failure_of(operation);
        store::set_state(tx, id, &["provisioning"], "failed", Some(&reason)).await?;
        Event::failed(&Actor::operation(operation.id, None), "server.register", format!("server:{id}"), &code)
            .save(tx)
            .await
    }
}

pub fn subject(cx: &Cx) -> Result<String, Failure> {
    let id = cx.subject.as_deref().and_then(|subject| subject.strip_prefix("server:"));
    id.map(str::to_owned).ok_or_else(|| Failure::permanent("bad_subject", "the operation is not about a server"))
}

/// Whoever adds a server, or waits for one, is there to read the reason: nothing waits for a person besides.
pub(super) fn for_the_caller(mut failure: Failure) -> Failure {
    if failure.class == Class::Stuck {
        failure.class = Class::Permanent;
    }
    failure
}

pub(super) async fn record(tx: &mut PgConnection, id: &str, facts: &Facts) -> Result<(), Failure> {
    match store::record_facts(tx, id, facts).await {
        Err(error) if crate::http::problem::constraint(&error) == Some("server_cluster") => Err(Failure::permanent(
            "cluster_registered",
            "this PostgreSQL cluster is already registered under another name (same system identifier)",
        )),
        other => Ok(other?),
    }
}

pub(super) async fn probe(core: &Core, holder: &impl hands::Holder, server: &ServerRow) -> Result<Facts, Failure> {
    let admin = hands::admin(core, holder, server, None).await?;
    let facts = admin.facts().await.map_err(hands::failure)?;
    if let Some(refusal) = facts.refusal() {
        return Err(Failure::permanent("prerequisite", refusal));
    }
    let settings = facts.findings.iter().cloned().map(hands::finding).collect();
    Ok(Facts {
        version_num: facts.version_num,
        version: facts.version.clone(),
        system_identifier: facts.system_identifier.clone(),
        superuser: facts.superuser,
        extensions: serde_json::json!(facts.available_extensions),
        findings: settings,
    })
}

/// Tenants get in where they are told to connect: tried with a login that is health's from then on.
pub async fn open_to_tenants(core: &Core, cx: &Cx, id: &str) -> Result<(), Failure> {
    let server = hands::server(core, id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    let visitor = visitor::ensure(core, &admin, id).await?;
    visitor::comes_in(core, &server, &visitor).await.map(drop)
}

/// Facts, with what is not closed to strangers; closing is an ensure and may be repeated.
pub async fn look_again(core: &Core, cx: &Cx, id: &str) -> Result<Facts, Failure> {
    let server = hands::server(core, id).await?;
    let mut facts = probe(core, cx, &server).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    let unrevoked = admin.secure_server().await.map_err(hands::failure)?;
    facts.findings.extend(unrevoked.into_iter().map(hands::finding));
    Ok(facts)
}

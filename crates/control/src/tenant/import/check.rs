//! `tenant.import_check`: looks at what is to be imported, as an operation about nothing: `--dry-run` is this look and no more.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::look::{self, Wanted};
use super::{source, store};
use crate::plane::Core;
use crate::server_pool::wait::Asking;
use crate::tenant::report;

pub const KIND: &str = "tenant.import_check";
/// A database of a hundred thousand tables has large catalogs.
const LOOK: Duration = Duration::from_secs(45);

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Look { tenant: String, wanted: Wanted },
    }
}

pub struct CheckImport {
    pub core: Core,
}

#[async_trait]
impl Operation for CheckImport {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Look { tenant, wanted } = step;
        let core = &self.core;
        let look = async {
            let dsn = source::open(core, cx).await?;
            look::look(core, cx, &dsn, &wanted, Asking::Anew).await?.report(&tenant, &dsn)
        };
        let too_long = |_| Failure::permanent("timeout", format!("not looked at within {} s", LOOK.as_secs()));
        let found = tokio::time::timeout(LOOK, look).await.map_err(too_long)?.map_err(report::at_once)?;
        let operation = cx.operation;
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                store::forget_source(tx, operation).await?;
                Ok(report::save(tx, operation, &tenant, &found).await?)
            })
        }))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        store::forget_source(tx, operation.id).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &Step,
        operation: Uuid,
        _as: Resolution,
    ) -> Result<(), sqlx::Error> {
        store::forget_source(tx, operation).await
    }
}

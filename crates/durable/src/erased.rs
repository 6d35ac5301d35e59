//! An operation without its type: steps are JSON here, as they are in the store.

use serde_json::Value;
use sqlx::PgConnection;

use crate::cx::Cx;
use crate::operation::{Failure, Next, Operation, Outcome, Resolution};
use crate::row::OperationRow;
use crate::steps::StepNames;

/// A step ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct RawStep {
    pub json: Value,
    pub name: &'static str,
}

impl RawStep {
    pub(crate) fn of<S: StepNames + serde::Serialize>(step: &S) -> Result<Self, serde_json::Error> {
        Ok(Self { json: serde_json::to_value(step)?, name: step.name() })
    }
}

#[async_trait::async_trait]
pub(crate) trait Kind: Send + Sync {
    fn kind(&self) -> &'static str;
    fn definition(&self) -> i32;
    fn names(&self) -> &'static [&'static str];
    /// The step's name, if this definition knows the step.
    fn read(&self, step: &Value) -> Result<&'static str, Failure>;
    async fn run(&self, cx: &Cx, step: &Value) -> Result<Outcome<RawStep>, Failure>;
    fn undo(&self, step: &Value) -> Result<Option<RawStep>, Failure>;
    async fn resolved(&self, tx: &mut PgConnection, row: &OperationRow, as_: Resolution) -> Result<(), Failure>;
    async fn parked(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error>;
    async fn failed(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error>;
}

pub(crate) struct Erased<O>(pub O);

fn parse<O: Operation>(step: &Value) -> Result<O::Step, Failure> {
    serde::Deserialize::deserialize(step)
        .map_err(|error: serde_json::Error| Failure::stuck("unknown_step", error.to_string()))
}

fn write<S: StepNames + serde::Serialize>(step: &S) -> Result<RawStep, Failure> {
    RawStep::of(step).map_err(|error| Failure::stuck("unwritable_step", error.to_string()))
}

#[async_trait::async_trait]
impl<O: Operation> Kind for Erased<O> {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn definition(&self) -> i32 {
        self.0.definition()
    }

    fn names(&self) -> &'static [&'static str] {
        O::Step::NAMES
    }

    fn read(&self, step: &Value) -> Result<&'static str, Failure> {
        Ok(parse::<O>(step)?.name())
    }

    async fn run(&self, cx: &Cx, step: &Value) -> Result<Outcome<RawStep>, Failure> {
        let Outcome { next, record, waits_for } = self.0.run(cx, parse::<O>(step)?).await?;
        let next = match next {
            Next::Step(step) => Next::Step(write(&step)?),
            Next::Again { after, step } => Next::Again { after, step: write(&step)? },
            Next::Done => Next::Done,
        };
        Ok(Outcome { next, record, waits_for })
    }

    fn undo(&self, step: &Value) -> Result<Option<RawStep>, Failure> {
        self.0.undo(&parse::<O>(step)?).as_ref().map(write).transpose()
    }

    async fn resolved(&self, tx: &mut PgConnection, row: &OperationRow, as_: Resolution) -> Result<(), Failure> {
        Ok(self.0.resolved(tx, &parse::<O>(&row.step)?, row.id, as_).await?)
    }

    async fn parked(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error> {
        self.0.parked(tx, row).await
    }

    async fn failed(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error> {
        self.0.failed(tx, row).await
    }
}

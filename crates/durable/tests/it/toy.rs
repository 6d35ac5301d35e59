//! Toy operations, and an engine around them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freehold_durable::{
    Builder, Cx, Engine, Failure, New, Operation, OperationRow, Outcome, Resolution, StartError, Started, State, steps,
};
use freehold_testkit::{ADMIN, Cluster};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(90);

/// Three effects, each with its undo. An effect is a row.
pub struct Toy {
    pub kind: &'static str,
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        First,
        Second { tag: String },
        Third,
        UndoThird,
        UndoSecond,
        UndoFirst,
    }
}

pub fn all() -> BTreeSet<String> {
    ["first", "second", "third"].map(str::to_owned).into()
}

#[async_trait::async_trait]
impl Operation for Toy {
    type Step = Step;

    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        Ok(match step {
            Step::First => {
                ensure(cx, "first").await?;
                Outcome::step(Step::Second { tag: "second".into() })
            }
            Step::Second { tag } => {
                ensure(cx, &tag).await?;
                Outcome::step(Step::Third)
            }
            Step::Third => {
                let operation = cx.operation;
                Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        sqlx::query("insert into effect values ($1, 'third')").bind(operation).execute(tx).await?;
                        Ok(())
                    })
                })
            }
            Step::UndoThird => {
                remove(cx, "third").await?;
                Outcome::step(Step::UndoSecond)
            }
            Step::UndoSecond => {
                remove(cx, "second").await?;
                Outcome::step(Step::UndoFirst)
            }
            Step::UndoFirst => {
                remove(cx, "first").await?;
                Outcome::done()
            }
        })
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        Some(match failed {
            Step::First => Step::UndoFirst,
            Step::Second { .. } => Step::UndoSecond,
            Step::Third => Step::UndoThird,
            Step::UndoThird | Step::UndoSecond | Step::UndoFirst => return None,
        })
    }
}

async fn ensure(cx: &Cx, name: &str) -> Result<(), Failure> {
    sqlx::query("insert into effect values ($1, $2) on conflict do nothing")
        .bind(cx.operation)
        .bind(name)
        .execute(cx.store())
        .await?;
    Ok(())
}

async fn remove(cx: &Cx, name: &str) -> Result<(), Failure> {
    sqlx::query("delete from effect where operation = $1 and name = $2")
        .bind(cx.operation)
        .bind(name)
        .execute(cx.store())
        .await?;
    Ok(())
}

/// One step that does as it is told. Its owner notes what it is told in `effect`.
pub struct Play;

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Act {
        Play { what: String },
        Next,
    }
}

pub fn play(what: &str) -> New<Act> {
    New::of("play", Act::Play { what: what.into() })
}

/// How many take a nap in this process, and the most that ever did at once.
static NAPPING: AtomicUsize = AtomicUsize::new(0);
pub static NAPPED: AtomicUsize = AtomicUsize::new(0);

#[async_trait::async_trait]
impl Operation for Play {
    type Step = Act;

    fn kind(&self) -> &'static str {
        "play"
    }

    fn concurrency(&self) -> usize {
        2
    }

    async fn run(&self, cx: &Cx, step: Act) -> Result<Outcome<Act>, Failure> {
        let Act::Play { what } = &step else {
            return Ok(Outcome::done());
        };
        match what.as_str() {
            "panic" => panic!("as told"),
            "permanent" => return Err(Failure::permanent("told", "as told")),
            "stuck" if cx.attempt == 1 => return Err(Failure::stuck("told", "as told")),
            "hang" => tokio::time::sleep(Duration::from_secs(3600)).await,
            "nap" => {
                let now = NAPPING.fetch_add(1, Ordering::SeqCst) + 1;
                NAPPED.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(500)).await;
                NAPPING.fetch_sub(1, Ordering::SeqCst);
            }
            "twice" if cx.attempt < 3 => return Err(Failure::transient("told", "as told")),
            "again" => return Ok(Outcome::again(Duration::from_millis(300), Act::Next)),
            "asleep" => return Ok(Outcome::again(Duration::from_secs(3600), step)),
            "waits" if !is_there(cx).await? => {
                return Ok(Outcome::again(Duration::from_secs(3600), step).waiting_for("told", "until it is there"));
            }
            "two steps" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                return Ok(Outcome::step(Act::Next));
            }
            "robbed" if cx.attempt == 1 => rob(cx).await?,
            "robbed while asleep" if cx.attempt == 1 => {
                rob(cx).await?;
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            "progress" => {
                cx.progress(1, 2, "bytes").await?;
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            "refuse to record" if cx.attempt == 1 => {
                let operation = cx.operation;
                return Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        note(tx, operation, "half").await?;
                        Err(Failure::transient("told", "as told"))
                    })
                }));
            }
            _ => {}
        }
        ensure(cx, what).await?;
        Ok(Outcome::done())
    }

    fn undo(&self, _: &Act) -> Option<Act> {
        None
    }

    async fn resolved(&self, tx: &mut PgConnection, _: &Act, id: Uuid, as_: Resolution) -> Result<(), sqlx::Error> {
        note(tx, id, &format!("resolved {as_:?}")).await
    }

    async fn parked(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error> {
        note(tx, row.id, "parked").await
    }

    async fn failed(&self, tx: &mut PgConnection, row: &OperationRow) -> Result<(), sqlx::Error> {
        note(tx, row.id, "told of the failure").await
    }
}

/// What "waits" waits for.
async fn is_there(cx: &Cx) -> Result<bool, Failure> {
    let sql = "select exists (select from effect where operation = $1 and name = 'it is there')";
    Ok(sqlx::query_scalar(sql).bind(cx.operation).fetch_one(cx.store()).await?)
}

/// As if another worker had claimed it.
async fn rob(cx: &Cx) -> Result<(), Failure> {
    sqlx::query("update operation set epoch = epoch + 1 where id = $1").bind(cx.operation).execute(cx.store()).await?;
    assert_eq!(cx.still_mine().await, Err(Failure::fenced()));
    let mut tx = cx.store().begin().await?;
    assert_eq!(cx.still_mine_in(&mut tx).await, Err(Failure::fenced()));
    Ok(())
}

async fn note(tx: &mut PgConnection, id: Uuid, what: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into effect values ($1, $2) on conflict do nothing")
        .bind(id)
        .bind(what)
        .execute(tx)
        .await
        .map(drop)
}

pub struct World {
    pub pool: PgPool,
    pub dsn: String,
    pub cluster: Cluster,
}

impl World {
    pub async fn new() -> Self {
        let cluster = Cluster::start(15);
        let dsn = cluster.dsn(ADMIN);
        let pool = connect(&dsn).await;
        for migration in [
            include_str!("../../../../migrations/0001_durable.sql"),
            include_str!("../../../../migrations/0006_operation_finished.sql"),
            include_str!("../../../../migrations/0008_operation_urgent.sql"),
        ] {
            sqlx::raw_sql(migration).execute(&pool).await.expect("migrate");
        }
        sqlx::raw_sql("create table effect (operation uuid, name text, primary key (operation, name))")
            .execute(&pool)
            .await
            .expect("create");
        Self { pool, dsn, cluster }
    }

    pub fn builder(&self) -> Builder {
        builder(self.pool.clone())
    }

    pub fn engine(&self) -> Engine {
        self.builder().register(Toy { kind: "toy" }).register(Play).build()
    }

    /// An engine that runs until the guard is dropped.
    pub fn running(&self) -> (Engine, tokio_util::sync::DropGuard) {
        let engine = self.engine();
        let guard = run(&engine);
        (engine, guard)
    }

    pub async fn effects(&self, id: Uuid) -> BTreeSet<String> {
        let names: Vec<String> = sqlx::query_scalar("select name from effect where operation = $1")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .expect("effects");
        names.into_iter().collect()
    }

    pub async fn start<O: Operation>(&self, engine: &Engine, new: New<O::Step>) -> Result<Started, StartError> {
        let mut tx = self.pool.begin().await.expect("begin");
        let started = engine.start::<O>(&mut tx, new).await;
        tx.commit().await.expect("a refusal leaves the transaction usable");
        started
    }

    pub async fn go<O: Operation>(&self, engine: &Engine, new: New<O::Step>) -> Uuid {
        let started = self.start::<O>(engine, new).await.expect("start");
        let id = started.id;
        engine.go(started);
        id
    }

    pub async fn queue<O: Operation>(&self, engine: &Engine, new: New<O::Step>) -> Uuid {
        let mut tx = self.pool.begin().await.expect("begin");
        let id = engine.start_queued::<O>(&mut tx, new).await.expect("start");
        tx.commit().await.expect("commit");
        id
    }

    pub async fn until(&self, engine: &Engine, id: Uuid, wanted: impl Fn(&OperationRow) -> bool) -> OperationRow {
        for _ in 0..1000 {
            let row = engine.get(id).await.expect("get").expect("there");
            if wanted(&row) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never came: {:?}", engine.get(id).await);
    }
}

pub async fn connect(dsn: &str) -> PgPool {
    PgPoolOptions::new().max_connections(20).connect(dsn).await.expect("connect")
}

pub fn builder(pool: PgPool) -> Builder {
    Engine::builder(pool).lease(Duration::from_millis(900)).poll(Duration::from_millis(100))
}

pub fn run(engine: &Engine) -> tokio_util::sync::DropGuard {
    let shutdown = CancellationToken::new();
    let (engine, token) = (engine.clone(), shutdown.clone());
    tokio::spawn(async move { engine.run(token).await });
    shutdown.drop_guard()
}

pub async fn over(engine: &Engine, id: Uuid) -> OperationRow {
    match engine.wait(id, LONG).await.expect("wait") {
        Some(row) => row,
        None => panic!("not over: {:?}", engine.get(id).await),
    }
}

pub fn code(row: &OperationRow) -> &str {
    row.error.as_ref().map_or("", |error| error.code.as_str())
}

pub async fn ends(engine: &Engine, id: Uuid, state: State) -> OperationRow {
    let row = over(engine, id).await;
    assert_eq!(row.state, state, "{row:?}");
    row
}

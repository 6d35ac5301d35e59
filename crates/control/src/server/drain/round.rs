//! The step that takes as long as all the moves: looks how they stand, begins the next ones, sleeps. What it begins is
//! recorded with the beginning.

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::drain::DrainState;
use freehold_api::id::TenantId;
use freehold_api::movability::MoveMethod;
use freehold_api::moving::STALL_SECONDS;
use freehold_api::problem::Code;
use freehold_durable::{Class, Cx, Failure, Outcome, State};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::replication::{self, Targets};
use super::store::{self, Row};
use super::{NAMED, Step, Wanted, server_of};
use crate::audit::record::Actor;
use crate::http::problem::Refused;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::server_pool;
use crate::tenant::movability::target::{self, Chosen, Goal};
use crate::tenant::moving::{How, ask};
use crate::tenant::store as tenants;

const LOOK: Duration = Duration::from_millis(250);
/// Where somebody could go and has to wait: nobody's room comes as fast as that.
const HINDERED: Duration = Duration::from_secs(2);
/// For a pool to see that it is to have one server more, which the cordon has made it want.
const GROWTH: f64 = 30.0;
/// How long without a pause in which somebody else may take over, or end it.
const LOOKING: Duration = Duration::from_secs(20);
/// When nothing moves and nothing can be begun.
const IDLE: Duration = Duration::from_secs(5);
/// So many who have to wait are asked for in one look: what keeps them is mostly the same.
const LATER: usize = 20;

pub async fn run(core: &Core, cx: &Cx, wanted: Wanted) -> Result<Outcome<Step>, Failure> {
    Ok(match paced(cx, || Box::pin(look(core, cx, &wanted))).await? {
        Paced::Over => Outcome::step(Step::Settle { wanted }),
        Paced::Again(pause, told) => Outcome::again(pause, Step::Move { wanted }).waiting_for("draining", told),
    })
}

pub enum Paced {
    Over,
    /// It sleeps, and says how it stands.
    Again(Duration, String),
}

/// Looks for a while as often as that is of use, then sleeps and holds nothing: whoever asked for its end is heard in between.
pub async fn paced<'a>(
    cx: &Cx,
    look: impl Fn() -> BoxFuture<'a, Result<Round, Failure>> + Send,
) -> Result<Paced, Failure> {
    let end = Instant::now() + LOOKING;
    loop {
        let round = look().await?;
        if round.is_over() {
            return Ok(Paced::Over);
        }
        let is_idle = round.moving.is_empty();
        if is_idle || Instant::now() > end || cx.cancel_requested().await? {
            return Ok(Paced::Again(if is_idle { IDLE } else { LOOK }, round.told()));
        }
        sleep(if round.hindered.is_some() { HINDERED } else { LOOK }).await;
    }
}

/// The server that is drained, as long as that makes sense.
pub async fn server(core: &Core, cx: &Cx) -> Result<ServerRow, Failure> {
    let id = cx.subject.as_deref().and_then(server_of);
    let id = id.ok_or_else(|| Failure::permanent("bad_subject", "the operation is not about a server's drain"))?;
    let server = hands::server(core, id).await?;
    match server.state.as_str() {
        "cordoned" => Ok(server),
        "maintenance" | "failed" => {
            let message = format!("server {id} is {}: its drain goes on once it is cordoned again", server.state);
            Err(Failure::transient("wrong_state", message))
        }
        state => {
            let message = format!(
                "server {id} is {state}, and a drain goes on only while it is cordoned: nobody else is moved, and moves that \
                 are under way go on to their end"
            );
            Err(Failure::permanent("wrong_state", message))
        }
    }
}

pub struct Round {
    pub moving: Vec<String>,
    pub waiting: usize,
    pub moved: usize,
    pub left: usize,
    /// Why whoever waits does.
    pub hindered: Option<String>,
}

impl Round {
    fn is_over(&self) -> bool {
        self.moving.is_empty() && self.waiting == 0
    }

    fn told(&self) -> String {
        let Self { moving, waiting, moved, left, .. } = self;
        let all = moving.len() + waiting + moved + left;
        let named: Vec<&str> = moving.iter().take(NAMED).map(String::as_str).collect();
        let mut told = format!("{moved} of {all} tenants are elsewhere");
        if !named.is_empty() {
            told.push_str(&format!(", {} on their way ({})", moving.len(), named.join(", ")));
        }
        if *waiting > 0 {
            told.push_str(&format!(", {waiting} to come"));
        }
        if *left > 0 {
            told.push_str(&format!(", {left} cannot be moved"));
        }
        match &self.hindered {
            Some(why) if *waiting > 0 => format!("{told}: {why}"),
            _ => told,
        }
    }
}

async fn look(core: &Core, cx: &Cx, wanted: &Wanted) -> Result<Round, Failure> {
    let server = server(core, cx).await?;
    if store::drop_stock(&core.store, &server.id).await?.1 > 0 {
        cx.engine().wake("stock");
    }
    let rows = listed(core, cx, &server.id, wanted).await?;
    let id = server.id.as_str();
    let of = |state| rows.iter().filter(move |row| row.stands(id) == state);
    let mut round = Round {
        moving: of(DrainState::Moving).map(|row| row.tenant_id.clone()).collect(),
        waiting: of(DrainState::Waiting).count(),
        moved: of(DrainState::Moved).count(),
        left: of(DrainState::Left).count(),
        hindered: None,
    };
    let (done, total) =
        rows.iter().map(|row| row.bytes_done(id)).fold((0, 0), |(done, total), (part, all)| (done + part, total + all));
    match total {
        0 => cx.progress((round.moved + round.left) as u64, rows.len() as u64, "tenants").await?,
        total => cx.progress(done, total, "bytes").await?,
    }
    // Those whose move met what passes have their pause; a move of anybody else may find it gone.
    let (resting, ready): (Vec<&Row>, Vec<&Row>) =
        of(DrainState::Waiting).partition(|row| row.comes_again(id).is_some());
    round.hindered = resting.first().map(|row| {
        let (code, why) = row.why();
        format!("tenant {} is moved again later: {why} ({code})", row.tenant_id)
    });
    let at_once = usize::try_from(wanted.at_once).unwrap_or(1);
    if ready.is_empty() || round.moving.len() >= at_once {
        return Ok(round);
    }
    let host = replication::host(core, cx, &server).await?;
    let room = replication::room_at_source(&host).saturating_sub(round.moving.len());
    if room == 0 {
        round.hindered = Some(replication::short_at_source(core, &server.id, &host).await?);
    }
    let mut targets = Targets::default();
    let most = (at_once - round.moving.len()).min(room);
    let (mut begun, mut later) = (0, 0);
    for row in ready {
        if begun == most {
            break;
        }
        let book = DrainBook { server: id, others_move: !round.moving.is_empty() };
        let sending = Sending {
            server: &server,
            goal: &wanted.goal,
            keep_seconds: wanted.keep_seconds,
            details: json!({"to": wanted.goal, "from": id, "drain": cx.operation}),
            book: &book,
        };
        match begin(core, cx, &sending, &row.tenant_id, &mut targets).await? {
            Begun::Moves => {
                begun += 1;
                round.waiting -= 1;
                round.moving.push(row.tenant_id.clone());
            }
            Begun::Left => {
                round.waiting -= 1;
                round.left += 1;
            }
            Begun::Later(why) => {
                round.hindered = Some(why);
                later += 1;
                if later == LATER {
                    break;
                }
            }
        }
    }
    Ok(round)
}

/// With those that came since, and with those whom somebody was faster than.
pub async fn listed(core: &Core, cx: &Cx, server: &str, wanted: &Wanted) -> Result<Vec<Row>, Failure> {
    let mut tx = core.store.begin().await?;
    store::list(&mut tx, server).await?;
    for row in store::rows(&mut *tx, server, wanted.order).await? {
        if let Some(by) = row.is_due(server) {
            store::again(&mut tx, server, &row.tenant_id, by).await?;
        }
    }
    let rows = store::rows(&mut *tx, server, wanted.order).await?;
    cx.still_mine_in(&mut tx).await?;
    tx.commit().await?;
    Ok(rows)
}

pub enum Begun {
    Moves,
    /// It cannot be moved.
    Left,
    /// It is looked at again.
    Later(String),
}

/// Where it is written down who is sent elsewhere.
#[async_trait]
pub trait Book: Sync {
    /// With the move itself. False: it has one.
    async fn moves(&self, tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<bool>;
    async fn leave(&self, tx: &mut PgConnection, tenant: &str, code: &str, why: &str) -> sqlx::Result<()>;
    /// Whether somebody who has no room now may have it soon, as things stand.
    async fn may_have_room_soon(&self, core: &Core, cx: &Cx, could_grow: bool) -> Result<bool, Failure>;
}

/// How one is sent away.
pub struct Sending<'a> {
    pub server: &'a ServerRow,
    pub goal: &'a Goal,
    pub keep_seconds: u64,
    pub details: Value,
    pub book: &'a dyn Book,
}

struct DrainBook<'a> {
    server: &'a str,
    others_move: bool,
}

#[async_trait]
impl Book for DrainBook<'_> {
    async fn moves(&self, tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<bool> {
        store::moves(tx, self.server, tenant, by).await
    }

    async fn leave(&self, tx: &mut PgConnection, tenant: &str, code: &str, why: &str) -> sqlx::Result<()> {
        store::leave(tx, self.server, tenant, code, why).await
    }

    /// A slot comes free where a move comes to nothing, or with a server that is being made, or soon will be.
    async fn may_have_room_soon(&self, core: &Core, cx: &Cx, could_grow: bool) -> Result<bool, Failure> {
        let soon = could_grow && store::is_young(&core.store, self.server, GROWTH).await?;
        if soon {
            cx.engine().wake(server_pool::LOOP);
        }
        Ok(soon || self.others_move || is_growing(core).await?)
    }
}

pub async fn begin(
    core: &Core,
    cx: &Cx,
    sending: &Sending<'_>,
    tenant: &str,
    targets: &mut Targets,
) -> Result<Begun, Failure> {
    let Sending { server, goal, keep_seconds, details, book } = sending;
    let id: TenantId =
        tenant.parse().map_err(|_| Failure::stuck("store_incomplete", "a tenant's id in the store is no id"))?;
    let Some(tenant) = tenants::find(&core.store, id.as_str()).await? else {
        return Ok(Begun::Later(format!("tenant {id} is gone")));
    };
    let chosen = match ask::can_move(&tenant.state) {
        true => choose(core, &tenant, server, goal).await?,
        false => None,
    };
    if let Some(chosen) = &chosen
        && let Some(why) = chosen.no_room()
    {
        if book.may_have_room_soon(core, cx, chosen.pool.is_some()).await? {
            return Ok(Begun::Later(format!("no room for tenant {id}: {why}")));
        }
        return leave(core, cx, sending, id.as_str(), "no_room", &why).await;
    }
    let to = chosen.and_then(|chosen| chosen.server);
    if let Some(to) = &to
        && let Some(why) = targets.short(core, cx, to).await?
    {
        return Ok(Begun::Later(why));
    }
    let how = How { stall_ms: STALL_SECONDS * 1000, keep_seconds: *keep_seconds, method: MoveMethod::Logical };
    let actor = Actor::operation(cx.operation, None);
    let asked = ask::Asked { goal: (*goal).clone(), how, details: details.clone() };
    let mut tx = core.store.begin().await?;
    match ask::begin_in(&mut tx, &cx.engine(), &id, asked, &actor).await {
        Ok(started) => {
            if !book.moves(&mut tx, id.as_str(), started.id).await? {
                return Ok(Begun::Later(format!("tenant {id} is being moved")));
            }
            cx.still_mine_in(&mut tx).await?;
            tx.commit().await?;
            cx.fault("begun")?;
            cx.engine().go(started);
            if let Some(to) = &to {
                targets.took(&to.id);
            }
            Ok(Begun::Moves)
        }
        Err(Refused(problem)) => {
            drop(tx);
            match problem.code {
                Code::Busy if is_stuck(&tenant, cx).await? => {
                    leave(core, cx, sending, id.as_str(), "busy", &problem.detail).await
                }
                Code::Busy | Code::NotFound => Ok(Begun::Later(problem.detail)),
                Code::StoreUnavailable | Code::Internal | Code::Timeout => {
                    Err(Failure::transient(problem.code.as_str(), problem.detail))
                }
                code => leave(core, cx, sending, id.as_str(), code.as_str(), &problem.detail).await,
            }
        }
    }
}

/// Where it would go. What is wrong with the tenant besides is its move's to say.
async fn choose(
    core: &Core,
    tenant: &tenants::TenantRow,
    server: &ServerRow,
    goal: &Goal,
) -> Result<Option<Chosen>, Failure> {
    match target::choose(core, tenant, &server.id, goal).await {
        Ok(chosen) => Ok(Some(chosen)),
        Err(failure) if failure.class == Class::Permanent => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Only a person ends what is at work on it.
async fn is_stuck(tenant: &tenants::TenantRow, cx: &Cx) -> Result<bool, Failure> {
    let Some(operation) = tenant.operation else { return Ok(false) };
    let found = cx.engine().get(operation).await?;
    Ok(found.is_some_and(|row| row.state == State::Stuck))
}

async fn is_growing(core: &Core) -> Result<bool, Failure> {
    let fleet = core.fleet.rows(&core.store).await?;
    Ok(fleet.iter().any(|server| server.row.state == "provisioning"))
}

/// It cannot be moved, or is not to be any more.
pub async fn leave(
    core: &Core,
    cx: &Cx,
    sending: &Sending<'_>,
    tenant: &str,
    code: &str,
    why: &str,
) -> Result<Begun, Failure> {
    let mut tx = core.store.begin().await?;
    sending.book.leave(&mut tx, tenant, code, why).await?;
    cx.still_mine_in(&mut tx).await?;
    tx.commit().await?;
    tracing::info!(server = sending.server.id, tenant, code, why, "it stays where it is");
    Ok(Begun::Left)
}

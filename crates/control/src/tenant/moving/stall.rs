//! The moment in which nobody can work: from one side to the other, or not at all. The same for the way there and the way
//! back.
//!
//! Nothing is decided by what this process remembers: who serves is the store's to say, before and after.

use std::time::Duration;

use freehold_drivers::secrets::Password;
use freehold_drivers::server::sql::SqlError;
use freehold_drivers::server::sql::moving::{Fingerprint, Link, Sequence, Side, Snapshot, Trigger, changed, differing};
use freehold_durable::{Class, Cx, Failure};
use tokio::time::{Instant, timeout, timeout_at};

use super::laps::Laps;
use super::sides::Moving;
use super::store::{self, Plan};
use super::turn::{self, Turn, Uncommitted};
use super::{CARRIED, ROWS};
use crate::plane::Core;
use crate::pooler::pause::{self, Pause, Paused, store as pauses};
use crate::server::hands;
use crate::server::store::ServerRow;

/// Open transactions may take so long to end: everybody waits behind them.
const DRAIN: Duration = Duration::from_millis(500);
/// The agent lets clients go on by itself that much later than we give up.
const LATER: Duration = Duration::from_secs(5);
/// Who is further behind has too much to catch up with under the fence.
const BEHIND: i64 = 64 << 10;
/// For the sessions at hand to let the logins in again; else others are opened.
const ADMIT: Duration = Duration::from_secs(2);

pub struct Stall<'a> {
    pub core: &'a Core,
    pub cx: &'a Cx,
    pub moving: &'a Moving,
    pub from: &'a Side,
    pub to: &'a Side,
    pub from_server: &'a ServerRow,
    pub to_server: &'a ServerRow,
    pub link: &'a Link,
    /// None: this is the way back.
    pub way_back: Option<&'a Link>,
    pub within: Duration,
}

pub enum Ended {
    /// `to` serves. What is not the same on both sides; None: it could not be read.
    Turned { stall: Duration, spent: String, differing: Option<Vec<String>> },
    /// Everybody goes on at `from`.
    Not { code: &'static str, why: String },
    /// And so they do here: these were changed since the schema was carried.
    SchemaChanged(Vec<String>),
}

/// All that was read before.
struct Before {
    logins: Vec<String>,
    sequences: Vec<Sequence>,
    waking: Vec<Trigger>,
    state: String,
    print: Fingerprint,
    snapshot: Snapshot,
    /// Clients of the pooler keep their server connection: they lose it.
    sessions: bool,
}

impl Before {
    fn logins(&self) -> Vec<&str> {
        self.logins.iter().map(String::as_str).collect()
    }
}

/// Why what is done under the fence was given up.
enum Stopped {
    Changed(Vec<String>),
    Failed(Failure),
}

impl From<SqlError> for Stopped {
    fn from(error: SqlError) -> Self {
        Self::Failed(hands::failure(error))
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Stall<'_> {
    pub async fn run(&self) -> Result<Ended, Failure> {
        let before = match self.before().await? {
            Ok(before) => before,
            Err(not) => return Ok(not),
        };
        self.cx.fault("opened")?;
        let laps = Laps::begin();
        let end = laps.began() + self.within;
        let (database, hold) = (self.moving.row.database_id, self.within + LATER);
        let paused = match before.sessions {
            true => pause::shut(self.core, database, hold).await?,
            false => pause::pause(self.core, database, Pause { drain: DRAIN.min(self.within), hold }).await?,
        };
        let pause = match paused {
            Paused::Unpooled => None,
            Paused::Holds(id) => Some(id),
            Paused::Not { why } => return Ok(Ended::Not { code: "not_paused", why }),
        };
        laps.done("pause");
        // From here on whatever goes wrong lets everybody go on where they are, unless the store may say otherwise.
        let fenced = match timeout_at(end, self.under_fence(&before, end, &laps)).await {
            Ok(fenced) => fenced,
            Err(_) => {
                let why = format!("not done within {} ms", self.within.as_millis());
                Err(Stopped::Failed(Failure::transient("stall_too_long", why)))
            }
        };
        let place = match fenced {
            Ok(place) => place,
            Err(stopped) => return self.stopped(stopped).await,
        };
        let turn = match self.way_back {
            Some(_) => Turn::There { place: place.as_deref() },
            None => Turn::Back,
        };
        if let Err(failure) = turn::commit(self.core, self.cx, self.moving, turn).await {
            return match failure {
                Uncommitted::Surely(failure) => self.stopped(Stopped::Failed(failure)).await,
                // The source stays fenced until the store has said which side serves: the next run asks.
                Uncommitted::Perhaps(failure) => Err(failure),
            };
        }
        laps.done("commit");
        self.cx.fault("turned")?;
        let (admitted, ()) = tokio::join!(self.admit(&before), async {
            if pause.is_some() {
                pause::raise(self.core, database).await;
            }
        });
        admitted?;
        laps.done("admit");
        self.cx.fault("admitted")?;
        if let Some(pause) = pause {
            pause::resume(self.core, pause).await?;
        }
        laps.done("resume");
        let (stall, spent) = (laps.began().elapsed(), laps.told());
        let differing = match self.differing(&before.snapshot).await {
            Ok(differing) => Some(differing),
            Err(error) => {
                tracing::warn!(tenant = self.moving.row.tenant_id, %error, "the digests of both sides were not read");
                None
            }
        };
        before.snapshot.release().await;
        Ok(Ended::Turned { stall, spent, differing })
    }

    async fn admit(&self, before: &Before) -> Result<(), Failure> {
        match self.moving.admitted {
            true => self.to.admin.admit_logins(&before.logins()).await.map_err(hands::failure),
            false => Ok(()),
        }
    }

    /// What takes long, or may fail, while everybody works.
    async fn before(&self) -> Result<Result<Before, Ended>, Failure> {
        let Self { from, to, link, .. } = self;
        let sql = hands::failure;
        // A run before this one may have got as far as the triggers.
        to.quiet_triggers(&self.moving.row.plan.waking).await.map_err(sql)?;
        to.enable(link).await.map_err(sql)?;
        let progress = to.progress(link).await.map_err(sql)?;
        if !progress.is_ready() {
            let why = progress.hindered.unwrap_or_else(|| "its tables are not all followed yet".into());
            return Ok(Err(Ended::Not { code: "not_following", why: format!("server {}: {why}", self.to_server.id) }));
        }
        let sequences = from.sequences().await.map_err(sql)?;
        to.set_sequences(&sequences).await.map_err(sql)?;
        // It was judged before the copy began, and may have grown.
        let (unlogged, large) =
            (from.unlogged_bytes().await.map_err(sql)?, from.large_object_bytes().await.map_err(sql)?);
        for (code, what, bytes, next) in [
            ("unlogged_tables", "unlogged tables", unlogged, "empty them, or set them LOGGED"),
            (
                "large_objects",
                "large objects",
                large,
                "remove those that nothing points to, and VACUUM FULL pg_largeobject",
            ),
        ] {
            if bytes > CARRIED {
                let message = format!(
                    "{what} hold {bytes} bytes, of which {CARRIED} may be copied while everybody waits: {next}"
                );
                return Err(Failure::permanent(code, message));
            }
        }
        let waking = from.waking_triggers().await.map_err(sql)?;
        if waking != self.moving.row.plan.waking {
            let plan = Plan { waking: waking.clone(), ..self.moving.row.plan.0.clone() };
            store::set_plan(&self.core.store, self.moving.row.id, &plan).await?;
        }
        let snapshot = to.prepare_snapshot().await.map_err(sql)?;
        // In this order: what is changed in between shows.
        let state = from.schema_state().await.map_err(sql)?;
        let print = from.fingerprint().await.map_err(sql)?;
        let planned = &self.moving.row.plan.0;
        // On the same side every difference is one; on the other, of another version perhaps, only what reads alike.
        let changed = match self.way_back {
            Some(_) => print.changed_since(&planned.fingerprint),
            None => print.unlike(&planned.of_target()),
        };
        if !changed.is_empty() {
            return Ok(Err(Ended::SchemaChanged(changed)));
        }
        if let Some(back) = self.way_back {
            to.bring_slot_up(back).await.map_err(sql)?;
        }
        let lag = from.slot_seen(link).await.map_err(sql)?.lag_bytes;
        if lag > BEHIND {
            let why = format!("server {} is {lag} bytes behind, and {BEHIND} are few enough", self.to_server.id);
            return Ok(Err(Ended::Not { code: "behind", why }));
        }
        let logins = self.moving.tenant.logins.iter().map(|login| login.name.clone()).collect();
        let Moving { row, making, .. } = self.moving;
        let plan = self.core.plan(&making.row.plan);
        let sessions = pause::has_sessions(self.core, row.database_id, plan).await?;
        Ok(Ok(Before { logins, sequences, waking, state, print, snapshot, sessions }))
    }

    /// Answers from which place on of `to`'s log `from` is to follow it.
    async fn under_fence(&self, before: &Before, end: Instant, laps: &Laps) -> Result<Option<String>, Stopped> {
        let Self { from, to, link, cx, .. } = self;
        let logins = before.logins();
        let left = || end.saturating_duration_since(Instant::now());
        // No session of this epoch fences what a successor has let in.
        cx.still_mine().await?;
        from.fence(&logins, left()).await?;
        laps.done("fence");
        cx.fault("fenced")?;
        let token = Password::random(20);
        from.mark(link, token.expose()).await?;
        // A change of the schema is not replicated: the last look is under the fence, while the mark travels.
        let (arrived, now) = tokio::join!(to.await_mark(link, token.expose(), left()), from.schema_state());
        arrived?;
        if now? != before.state {
            let mut changed = from.fingerprint().await?.changed_since(&before.print);
            if from.waking_triggers().await? != before.waking {
                changed.push("triggers".into());
            }
            if !changed.is_empty() {
                return Err(Stopped::Changed(changed));
            }
        }
        laps.done("mark");
        from.still_fenced(&logins).await?;
        cx.fault("marked")?;
        let (disabled, sequences) = tokio::join!(to.disable(link), from.sequences());
        disabled?;
        to.set_sequences(&changed(&before.sequences, &sequences?)).await?;
        laps.done("sequences");
        to.carry_unlogged(from, CARRIED).await?;
        to.carry_large_objects(from, CARRIED).await?;
        to.wake_triggers(&before.waking).await?;
        let place = match self.way_back {
            Some(back) => Some(to.advance_slot(back).await?),
            None => None,
        };
        laps.done("contents and place");
        before.snapshot.hold().await?;
        laps.done("snapshot");
        cx.fault("carried")?;
        Ok(place)
    }

    /// Lets everybody go on at `from`. What is wrong for good is a failure; what may pass is tried again later.
    async fn stopped(&self, stopped: Stopped) -> Result<Ended, Failure> {
        if let Stopped::Failed(failure) = &stopped
            && failure.class == Class::Fenced
        {
            return Err(failure.clone());
        }
        let_go(self.core, self.cx, self.moving, self.from_server, Some(self.from)).await?;
        match stopped {
            Stopped::Changed(names) => Ok(Ended::SchemaChanged(names)),
            Stopped::Failed(failure) if failure.class == Class::Transient => {
                let why = format!("{} ({})", failure.message, failure.code);
                Ok(Ended::Not { code: "not_turned", why })
            }
            Stopped::Failed(failure) => Err(failure),
        }
    }

    /// Off the stall: the fenced side as it is, the other one as it was before anybody was let in.
    async fn differing(&self, snapshot: &Snapshot) -> Result<Vec<String>, SqlError> {
        let ranges = self.from.ranges(ROWS).await?;
        let (left, right) = tokio::try_join!(self.from.digest(&ranges), snapshot.digest(&ranges))?;
        let mut tables: Vec<String> = differing(&left, &right).into_iter().map(|range| range.table).collect();
        tables.dedup();
        Ok(tables)
    }
}

/// The logins of whoever serves by the store come in at `server`, and no pause is in force. Says nothing about who that is:
/// the caller has asked. May be said at any time, twice, and of what was never fenced.
pub async fn let_go(
    core: &Core,
    cx: &Cx,
    moving: &Moving,
    server: &ServerRow,
    at_hand: Option<&Side>,
) -> Result<(), Failure> {
    if moving.admitted {
        let logins = moving.tenant.login_names();
        let quickly = match at_hand {
            Some(side) => timeout(ADMIT, side.admin.admit_logins(&logins)).await.is_ok_and(|admitted| admitted.is_ok()),
            None => false,
        };
        if !quickly {
            let admin = hands::admin(core, cx, server, None).await?;
            // Sessions of before this may have a fence under way, that would come into force after it.
            admin.fence_lower_epochs(&format!("fh:{}:", cx.operation), cx.epoch + 1).await.map_err(hands::failure)?;
            admin.admit_logins(&logins).await.map_err(hands::failure)?;
        }
    }
    cx.fault("let_in")?;
    let mut tx = core.store.begin().await?;
    cx.still_mine_in(&mut tx).await?;
    pauses::release_all(&mut tx, moving.row.database_id).await?;
    tx.commit().await?;
    core.poolers.poke();
    Ok(())
}

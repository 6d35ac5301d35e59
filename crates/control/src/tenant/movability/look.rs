//! Goes and looks: into the tenant's database, at its server and, where there is one, at the target. Both at once; each
//! has its limit.

use std::time::Duration;

use freehold_api::movability::{Movability, MoveTraffic};
use freehold_api::plan::PoolMode;
use freehold_api::tenant::TenantState;
use freehold_drivers::server::sql::SqlError;
use freehold_drivers::server::sql::movable::{Contents, Host, LocaleThere};
use freehold_durable::Failure;
use tokio::time::{Instant, sleep_until, timeout};

use super::judge::{self, Facts, Seen, Sessions, Target};
use super::store;
use super::target::{self, Chosen, Goal};
use crate::plane::Core;
use crate::server::hands::{self, Holder};
use crate::server::store::ServerRow;
use crate::stock::declare::MAINTENANCE;
use crate::stock::store::{self as databases, DatabaseRow};
use crate::tenant::store as tenants;

/// What one statement may take, and all of a server's.
const STATEMENT: Duration = Duration::from_secs(15);
const SERVER: Duration = Duration::from_secs(35);
/// To a target that does not answer.
const CONNECT: Duration = Duration::from_secs(10);
/// How long what is written is watched.
const WATCHED: Duration = Duration::from_secs(1);

/// Whether it is worth a second to see what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    Writes,
    Nothing,
}

pub async fn look(
    core: &Core,
    holder: &impl Holder,
    tenant: &str,
    goal: Option<&Goal>,
    watch: Watch,
) -> Result<Movability, Failure> {
    let row = tenants::find(&core.store, tenant).await?;
    let row = row.ok_or_else(|| Failure::permanent("not_found", format!("there is no tenant {tenant}")))?;
    let database = databases::find_of_tenant(&core.store, tenant).await?.filter(|found| found.state == "claimed");
    let none = || Failure::permanent("wrong_state", format!("tenant {tenant} is {} and has no database", row.state));
    let database = database.ok_or_else(none)?;
    let server = hands::server(core, &database.server_id).await?;
    let chosen = match goal {
        Some(goal) => Some(target::choose(core, &row, &server.id, goal).await?),
        None => None,
    };
    let source = timeout(SERVER, Source::look(core, holder, &server, &database, watch)).await;
    let too_long = |_| {
        let message = format!("server {} did not tell within {} s", server.id, SERVER.as_secs());
        Failure::permanent("server_unreachable", message)
    };
    let source = source.map_err(too_long)??;
    let there = match &chosen {
        Some(chosen) => There::look(core, holder, chosen, &source.contents).await?,
        None => There::Nowhere,
    };
    let logins = databases::logins(&core.store, database.id).await?.into_iter().map(|login| login.role);
    let logins: Vec<String> = logins.collect();
    let facts = Facts {
        tenant,
        server: &server.id,
        logins: &logins,
        contents: &source.contents,
        source: &source.host,
        sessions: source.sessions,
        admitted: row.state() == TenantState::Active,
        traffic: source.traffic,
        target: chosen.as_ref().map(|chosen| Target {
            name: &chosen.name,
            against: &chosen.against,
            seen: there.seen(chosen),
            free_bytes: chosen.free_bytes(),
        }),
    };
    let verdict = judge::judge(&facts);
    let bad = |_| Failure::permanent("not_found", "an id in the store is no id");
    Ok(Movability {
        tenant: tenant.parse().map_err(bad)?,
        server: server.id.parse().map_err(bad)?,
        at: databases::now(&core.store).await?.to_jiff(),
        to: chosen.map(|chosen| chosen.destination()),
        methods: verdict.methods,
        score: verdict.score,
        estimates: verdict.estimates,
        traffic: source.traffic,
        findings: verdict.findings,
    })
}

/// What was seen where the tenant is.
struct Source {
    contents: Contents,
    host: Host,
    sessions: Sessions,
    traffic: Option<MoveTraffic>,
}

impl Source {
    async fn look(
        core: &Core,
        holder: &impl Holder,
        server: &ServerRow,
        row: &DatabaseRow,
        watch: Watch,
    ) -> Result<Self, Failure> {
        let inside = hands::admin(core, holder, server, Some(&row.database)).await?;
        inside.only_look(STATEMENT).await.map_err(hands::failure)?;
        let began = Instant::now();
        let before = inside.movable_traffic(&row.database).await.map_err(hands::failure)?;
        let ours = [row.owner.clone(), inside.user().to_owned()];
        let contents = inside.movable_contents(&ours).await.map_err(hands::failure)?;
        let host = inside.movable_host(&[]).await.map_err(hands::failure)?;
        let logins = databases::logins(&core.store, row.id).await?;
        let freeholds = |user: &str| logins.iter().any(|login| login.purpose == MAINTENANCE && login.role == user);
        let sessions = inside.sessions_in(&row.database, &row.owner, false).await.map_err(hands::failure)?;
        let open = sessions.iter().filter(|session| session.of_tenant && !freeholds(&session.user)).count();
        let pooled =
            core.plan(&row.plan).pool_mode != Some(PoolMode::Session) && store::is_pooled(&core.store, row.id).await?;
        let traffic = match watch {
            Watch::Nothing => None,
            Watch::Writes => {
                sleep_until(began + WATCHED).await;
                let after = inside.movable_traffic(&row.database).await.map_err(hands::failure)?;
                after.since(&before).map(|(wal_bytes, rows)| MoveTraffic {
                    wal_bytes_per_second: wal_bytes.round(),
                    rows_per_second: rows.round(),
                })
            }
        };
        Ok(Self { contents, host, sessions: Sessions { open: open as u64, pooled }, traffic })
    }
}

/// What was seen where it is to go.
enum There {
    Host(Box<Host>, LocaleThere),
    Away(String),
    Nowhere,
}

impl There {
    /// A target that does not answer is a finding, not a failure.
    async fn look(core: &Core, holder: &impl Holder, chosen: &Chosen, contents: &Contents) -> Result<Self, Failure> {
        let Some(server) = &chosen.server else { return Ok(Self::Nowhere) };
        let admin = match timeout(CONNECT, hands::admin(core, holder, server, None)).await {
            Ok(Ok(admin)) => admin,
            Ok(Err(failure)) => return Ok(Self::Away(failure.message)),
            Err(_) => return Ok(Self::Away(format!("no answer within {} s", CONNECT.as_secs()))),
        };
        let names: Vec<String> = contents.extensions.iter().map(|(name, _)| name.clone()).collect();
        let seen = timeout(CONNECT, async {
            admin.only_look(STATEMENT).await?;
            Ok::<_, SqlError>((admin.movable_host(&names).await?, admin.has_locale(&contents.locale).await?))
        });
        Ok(match seen.await {
            Ok(Ok((host, locale))) => Self::Host(Box::new(host), locale),
            Ok(Err(error)) => Self::Away(hands::chain(&error)),
            Err(_) => Self::Away(format!("no answer within {} s", CONNECT.as_secs())),
        })
    }

    fn seen<'a>(&'a self, chosen: &Chosen) -> Seen<'a> {
        match (self, &chosen.pool) {
            (Self::Host(host, locale), _) => Seen::There { host, locale },
            (Self::Away(why), _) => Seen::Away(why),
            (Self::Nowhere, Some((_, postgres))) => Seen::ToBeMade(*postgres),
            (Self::Nowhere, None) => Seen::Nowhere,
        }
    }
}

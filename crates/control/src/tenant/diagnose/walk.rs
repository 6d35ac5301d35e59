//! Goes the way in and measures each link. The tenants' path and Freehold's own are tried at the same time: a server
//! that is a black hole costs its limit once.
//!
//! Logs in as the tenant with its stored credential, over the address that the tenant has; whatever the tenant defined
//! runs with the tenant's rights. Freehold's own session reads catalogs alone.

use std::time::Duration;

use freehold_api::diagnosis::{Diagnosis, Link, LinkName, LinkState};
use freehold_drivers::server::sql::{self, Activity, Admin, BadDsn, Disk, Dsn, HostPort, Observed, SslMode, Standing};
use freehold_durable::{Cx, Failure, State};
use tokio::time::Instant;

use super::judge::{self, About, Judged};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::declare::{self, TENANT};
use crate::stock::store::{self as databases, DatabaseRow, LoginRow};
use crate::tenant::store::{self as tenants, TenantRow};

/// How long each link may take.
const LIMIT: Duration = Duration::from_secs(5);

pub async fn walk(core: &Core, cx: &Cx, tenant: &str) -> Result<Diagnosis, Failure> {
    let mut walked = Walked::default();
    let row = tenants::find(&core.store, tenant).await?;
    let row = row.ok_or_else(|| Failure::permanent("not_found", format!("there is no tenant {tenant}")))?;
    let judged = of_tenant(core, &row).await?;
    walked.add(LinkName::Tenant, Instant::now(), judged);
    if let Some(place) = Place::find(core, row).await? {
        place.walk(core, cx, &mut walked).await?;
    }
    let at = databases::now(&core.store).await?.to_jiff();
    let broken = walked.links.iter().find(|link| link.state == LinkState::Broken).map(|link| link.name);
    let server = tenants::find(&core.store, tenant).await?.and_then(|row| row.server_id?.parse().ok());
    let tenant = tenant.parse().map_err(|_| Failure::permanent("not_found", "the tenant's id is no id"))?;
    Ok(Diagnosis { tenant, server, at, broken, links: walked.links })
}

#[derive(Default)]
struct Walked {
    links: Vec<Link>,
}

impl Walked {
    fn add(&mut self, name: LinkName, began: Instant, judged: Judged) {
        let milliseconds = (began.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        let Judged { state, message, next } = judged;
        self.links.push(Link { name, state, message, next, milliseconds });
    }

    fn has_broken(&self, names: &[LinkName]) -> bool {
        self.links.iter().any(|link| names.contains(&link.name) && link.state == LinkState::Broken)
    }
}

async fn of_tenant(core: &Core, row: &TenantRow) -> Result<Judged, Failure> {
    let id = &row.id;
    let why = row.state_reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let since = row.state_since.to_jiff();
    Ok(match row.state.as_str() {
        "active" => match in_flight(core, id).await? {
            Some((kind, state)) if state == State::Stuck.as_str() => Judged::notable(
                format!("it is active, and operation {kind} is stuck on it"),
                format!("freehold operation list --subject tenant:{id}"),
            ),
            Some((kind, _)) => Judged::ok(format!("it is active; operation {kind} is working on it")),
            None => Judged::ok("it is active"),
        },
        "suspended" => {
            Judged::broken(format!("it is suspended since {since:.0}{why}"), format!("freehold tenant resume {id}"))
        }
        "deleted" => Judged::broken(format!("it was deleted at {since:.0}"), format!("freehold tenant undelete {id}")),
        "creating" => {
            Judged::broken("it is still being made", format!("freehold operation list --subject tenant:{id}"))
        }
        _ => Judged::broken(format!("it could not be made{why}"), format!("freehold tenant create {id}, once more")),
    })
}

async fn in_flight(core: &Core, id: &str) -> Result<Option<(String, String)>, Failure> {
    let sql =
        "SELECT kind, state FROM operation WHERE subject = $1 AND state NOT IN ('succeeded', 'failed', 'cancelled')";
    Ok(sqlx::query_as(sql).bind(format!("tenant:{id}")).fetch_optional(&core.store).await?)
}

/// Where the tenant's database is, and who gets in.
struct Place {
    tenant: TenantRow,
    row: DatabaseRow,
    server: ServerRow,
    login: LoginRow,
}

/// What Freehold's own session has seen.
struct Seen {
    observed: Observed,
    standing: Option<Standing>,
    sessions: Vec<Activity>,
}

impl Place {
    /// None: it has no database (yet).
    async fn find(core: &Core, tenant: TenantRow) -> Result<Option<Self>, Failure> {
        let Some(row) = databases::find_of_tenant(&core.store, &tenant.id).await? else { return Ok(None) };
        if row.state != "claimed" {
            return Ok(None);
        }
        let server = hands::server(core, &row.server_id).await?;
        let logins = databases::logins(&core.store, row.id).await?;
        let login = logins.into_iter().find(|login| login.purpose == TENANT);
        Ok(login.map(|login| Self { tenant, row, server, login }))
    }

    fn about(&self) -> About<'_> {
        About {
            tenant: &self.tenant.id,
            server: &self.server.id,
            database: &self.row.database,
            owner: &self.row.owner,
            login: &self.login.role,
            admitted: !matches!(self.tenant.state.as_str(), "suspended" | "deleted"),
        }
    }

    async fn walk(&self, core: &Core, cx: &Cx, walked: &mut Walked) -> Result<(), Failure> {
        walked.add(LinkName::Server, Instant::now(), self.of_server());
        let dsn = self.dsn(core)?;
        let (path, own) = tokio::join!(path(&dsn, &self.server), self.look(core, cx));
        walked.links.extend(path.links);
        let seen = own.record(walked, &self.about());
        self.facts(core, &seen, walked);
        self.enter(&dsn, seen.as_ref(), walked).await;
        self.use_of_it(core, seen.as_ref(), walked);
        Ok(())
    }

    /// The stored credential, at the tenants' address.
    fn dsn(&self, core: &Core) -> Result<Dsn, Failure> {
        let password = declare::open(&core.sealer, &self.login)
            .map_err(|error| Failure::permanent("sealed_secret_unreadable", error))?;
        let dsn = hands::dsn_for(&core.sealer, &self.server, &self.row.database, &self.login.role, password)?;
        let port = u16::try_from(self.server.tenant_port).unwrap_or(5432);
        let told = self.server.tenant_sslmode.parse();
        let told = told.map_err(|error: BadDsn| Failure::permanent("bad_dsn", error.to_string()))?;
        Ok(dsn.with_host(&self.server.tenant_host, port).with_sslmode(told))
    }

    fn of_server(&self) -> Judged {
        let server = &self.server;
        let why = server.health_message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let show = format!("freehold server show {}", server.id);
        match (server.state.as_str(), server.health.as_str()) {
            ("removed" | "provisioning" | "maintenance", _) => {
                Judged::broken(format!("server {} is in state {}", server.id, server.state), show)
            }
            // What keeps it from answering is among the links that follow.
            ("failed", _) | (_, "unhealthy" | "degraded") => {
                Judged::notable(format!("server {} is {}, {}{why}", server.id, server.state, server.health), show)
            }
            (state, health) => Judged::ok(format!("server {} is {state}, {health}", server.id)),
        }
    }

    /// Freehold's own way in, and all that is seen through it.
    async fn look(&self, core: &Core, cx: &Cx) -> Own {
        let began = Instant::now();
        let admin = match tokio::time::timeout(2 * LIMIT, hands::admin(core, cx, &self.server, None)).await {
            Ok(Ok(admin)) => admin,
            Ok(Err(failure)) => return Own { began, took: began.elapsed(), seen: Err(failure.message) },
            Err(_) => {
                let seen = Err(format!("no answer within {} s", 2 * LIMIT.as_secs()));
                return Own { began, took: began.elapsed(), seen };
            }
        };
        let seen = match tokio::time::timeout(2 * LIMIT, self.see(&admin)).await {
            Ok(seen) => seen.map_err(|error| hands::chain(&error)),
            Err(_) => Err(format!("no answer within {} s", 2 * LIMIT.as_secs())),
        };
        Own { began, took: began.elapsed(), seen }
    }

    async fn see(&self, admin: &Admin) -> Result<Seen, sql::SqlError> {
        let observed = admin.observe(&[&self.login.role, &self.row.owner], &[&self.row.database]).await?;
        let standing = admin.standing(&self.login.role, &self.row.database).await?;
        let sessions = admin.sessions_in(&self.row.database, &self.row.owner, false).await?;
        Ok(Seen { observed, standing, sessions })
    }

    fn facts(&self, core: &Core, seen: &Option<Seen>, walked: &mut Walked) {
        let (about, now) = (self.about(), Instant::now());
        let Some(seen) = seen else {
            for name in [LinkName::Role, LinkName::Connections] {
                walked.add(name, now, Judged::skipped("Freehold's own session did not get in"));
            }
            return;
        };
        walked.add(LinkName::Role, now, judge::role(&about, &seen.observed, core.plan(&self.row.plan)));
        let connections = match &seen.standing {
            Some(standing) => judge::connections(&about, standing),
            None => Judged::skipped("there is no such database"),
        };
        walked.add(LinkName::Connections, now, connections);
    }

    /// As the tenant does it.
    async fn enter(&self, dsn: &Dsn, seen: Option<&Seen>, walked: &mut Walked) {
        let (about, began) = (self.about(), Instant::now());
        let skipped = if !about.admitted {
            Some("it is suspended or deleted: nobody is to be admitted")
        } else if walked.has_broken(&[LinkName::Name, LinkName::Port, LinkName::Tls]) {
            Some("nobody gets that far")
        } else {
            None
        };
        let entered = match skipped {
            Some(why) => Err(Judged::skipped(why)),
            None => sql::enter(dsn, about.database).await.map_err(|error| {
                let verifier = seen.and_then(|seen| {
                    seen.observed.roles.iter().find(|role| role.name == about.login)?.verifier.as_deref()
                });
                judge::refused(&about, &error, verifier.is_some_and(|found| found != self.login.verifier))
            }),
        };
        match entered {
            Ok(entered) => {
                walked.add(LinkName::Login, began, Judged::ok(format!("role {} is admitted", about.login)));
                walked.add(LinkName::Identity, Instant::now(), judge::identity(&about, &entered));
                walked.add(LinkName::Writes, Instant::now(), judge::writes(&about, &entered));
            }
            Err(judged) => {
                walked.add(LinkName::Login, began, judged);
                for name in [LinkName::Identity, LinkName::Writes] {
                    walked.add(name, Instant::now(), Judged::skipped("nobody gets that far"));
                }
            }
        }
    }

    /// What those who are in do to each other.
    fn use_of_it(&self, core: &Core, seen: Option<&Seen>, walked: &mut Walked) {
        let (about, now) = (self.about(), Instant::now());
        let Some((seen, standing)) = seen.and_then(|seen| Some((seen, seen.standing.as_ref()?))) else {
            for name in [LinkName::Locks, LinkName::Transactions, LinkName::Disk] {
                walked.add(name, now, Judged::skipped("Freehold's own session did not get in"));
            }
            return;
        };
        walked.add(LinkName::Locks, now, judge::locks(&about, &seen.sessions, standing.now));
        walked.add(LinkName::Transactions, now, judge::transactions(&about, &seen.sessions, standing));
        let unsigned = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let disk = unsigned(self.server.data_free_bytes).zip(unsigned(self.server.data_total_bytes));
        let disk = disk.map(|(free_bytes, total_bytes)| Disk { free_bytes, total_bytes });
        let quota = core.plan(&self.row.plan).storage_quota;
        let size = u64::try_from(standing.size_bytes).unwrap_or(0);
        walked.add(LinkName::Disk, now, judge::disk(&about, size, quota, disk));
    }
}

struct Own {
    began: Instant,
    took: Duration,
    seen: Result<Seen, String>,
}

impl Own {
    fn record(self, walked: &mut Walked, about: &About<'_>) -> Option<Seen> {
        let (judged, seen) = match self.seen {
            Ok(seen) => (Judged::ok("Freehold's own session gets in"), Some(seen)),
            Err(why) => {
                let next = format!("freehold server check {}", about.server);
                (Judged::notable(format!("Freehold's own session does not get in, tenants may: {why}"), next), None)
            }
        };
        walked.add(LinkName::Admin, self.began, judged);
        if let Some(link) = walked.links.last_mut() {
            link.milliseconds = (self.took.as_secs_f64() * 1e5).round() / 100.0;
        }
        seen
    }
}

/// Name, port and TLS of every host that tenants are told; one that works is enough, where they are told several.
async fn path(dsn: &Dsn, server: &ServerRow) -> Walked {
    let mut walked = Walked::default();
    let (began, mut found, mut lost) = (Instant::now(), Vec::new(), Vec::new());
    for at in dsn.hosts() {
        match sql::resolve(at, LIMIT).await {
            Ok(addresses) => found.push((at, addresses)),
            Err(error) => lost.push(format!("{}: {}", at.host, error.message())),
        }
    }
    let address =
        format!("freehold server show {}: is its tenants' address right? then ask whoever runs the DNS", server.id);
    let fine = found.iter().map(|(at, addresses)| format!("{} is {}", at.host, addresses[0].ip())).collect();
    walked.add(LinkName::Name, began, several(fine, lost, &address));

    let (began, mut open, mut shut) = (Instant::now(), Vec::new(), Vec::new());
    for (at, addresses) in found {
        match sql::dial(&addresses, LIMIT).await {
            Ok(stream) => open.push((at, stream)),
            Err(error) => shut.push(format!("{}:{}: {}", at.host, at.port, error.message())),
        }
    }
    let start =
        format!("start PostgreSQL of server {}, or let clients through to it (firewall, listen_addresses)", server.id);
    let fine = open.iter().map(|(at, _)| format!("{}:{} takes connections", at.host, at.port)).collect();
    let judged = match walked.has_broken(&[LinkName::Name]) {
        true => Judged::skipped("nobody gets that far"),
        false => several(fine, shut, &start),
    };
    walked.add(LinkName::Port, began, judged);

    let began = Instant::now();
    if open.is_empty() {
        walked.add(LinkName::Tls, began, Judged::skipped("nobody gets that far"));
        return walked;
    }
    let verified = server.ca_certificate.is_some() || matches!(dsn.sslmode(), SslMode::VerifyCa | SslMode::VerifyFull);
    if dsn.sslmode() == SslMode::Disable {
        walked.add(LinkName::Tls, began, Judged::ok("not used: tenants are told sslmode=disable"));
        return walked;
    }
    // Verified wherever there is something to verify it with, also where tenants are not told to.
    let strict = if verified { dsn.with_sslmode(SslMode::VerifyFull) } else { dsn.clone() };
    let (mut fine, mut unproven, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (at, stream) in open {
        let error = match sql::secure(stream, &strict, &at.host, LIMIT).await {
            Ok(true) if verified => {
                fine.push(format!("the certificate of {} is good", at.host));
                continue;
            }
            Ok(true) => {
                fine.push(format!("{} speaks TLS; nothing vouches for its certificate", at.host));
                continue;
            }
            Ok(false) => {
                fine.push(format!("{} does not speak TLS, and sslmode=prefer does without", at.host));
                continue;
            }
            Err(error) => format!("{}: {}", at.host, error.message()),
        };
        match as_told(dsn, at).await {
            true => unproven.push(error),
            false => bad.push(error),
        }
    }
    let next = format!(
        "a certificate for this name, or freehold server add {} … --ca-file with the authority that signed it",
        server.id
    );
    let mut judged = several(fine, bad, &next);
    if !unproven.is_empty() {
        let why = format!("{}; sslmode={} does not look at it", unproven.join(", "), dsn.sslmode().as_str());
        judged = Judged::notable(why, next);
    }
    walked.add(LinkName::Tls, began, judged);
    walked
}

/// Whether a client that is told this sslmode gets further all the same.
async fn as_told(dsn: &Dsn, at: &HostPort) -> bool {
    let Ok(addresses) = sql::resolve(at, LIMIT).await else { return false };
    let Ok(stream) = sql::dial(&addresses, LIMIT).await else { return false };
    sql::secure(stream, dsn, &at.host, LIMIT).await.is_ok()
}

/// One that works is enough.
fn several(fine: Vec<String>, bad: Vec<String>, next: &str) -> Judged {
    match (fine.is_empty(), bad.is_empty()) {
        (false, true) => Judged::ok(fine.join(", ")),
        (false, false) => Judged::notable(format!("{}; {}", fine.join(", "), bad.join(", ")), next),
        (true, _) => Judged::broken(bad.join(", "), next),
    }
}

//! What is done while something breaks: between them, these bring every kind of operation through every step.

use std::time::{Duration, Instant};

use freehold_testkit::{ADMIN, Cluster};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::legacy;
use crate::moves;
use crate::picture::Picture;
use crate::points;
use crate::poolers::PLATFORM;
use crate::rig::{Rig, Wanted};
use crate::rotation;
use crate::servers::POOL;
use crate::serving::{PATIENCE, Serve, until};

/// `made` has no stock, `kept` has one database ready; both have everything that a template can have. `fixed` keeps the names
/// of its logins.
pub const SETTINGS: &str = r#"
[stock]
per_template = 0
[stock.templates]
kept = 1
[[plan]]
name = "standard"
default = true
[[plan]]
name = "big"
rank = 1
connection_limit = 50
statement_timeout_ms = 30000
extensions = ["citext"]
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A tenant without stock.
    Made,
    /// A tenant from stock, renamed, with another plan; the stock is filled again.
    FromStock,
    Suspend,
    /// One that was adopted, with a login of before.
    SuspendKept,
    Resume,
    Delete,
    Undelete,
    Purge,
    /// Another credential beside the first.
    Rotate,
    /// At once, and while an earlier one is in its grace: both go.
    RotateAtOnce,
    /// Another password under the same name.
    RotateInPlace,
    /// The one before goes.
    Retire,
    /// A new version of a template with stock: built, stocked, the old stock dropped, the old build retired.
    Version,
    Register,
    /// Registered again, with another address for its tenants.
    AddAgain,
    Check,
    /// Who is in a tenant's database.
    Sessions,
    Terminate,
    Diagnose,
    /// What a move of it would take.
    Movability,
    /// What taking a database over would do.
    AdoptCheck,
    Adopt,
    /// What bringing one in from elsewhere would do.
    ImportCheck,
    Import,
    /// A server of a pool, made.
    Grow,
    /// A tenant that waits for one.
    WaitForRoom,
    /// Restarted with other limits.
    UpdateServer,
    /// Its service goes, its data stays.
    RemoveServer,
    RemoveWithData,
    PurgeServer,
    /// One that was registered.
    Forget,
    /// To another server.
    Move,
    /// Given up when it was there already.
    MoveUnfollowed,
    /// By dump and restore.
    MoveByDump,
    /// Its schema changes during the copy.
    MoveRedone,
    MoveBack,
    MoveFinished,
    /// What it left is given up.
    MoveAbandoned,
    /// All tenants of a server go elsewhere.
    Drain,
    /// What that would do.
    DrainCheck,
    /// One of two tenants goes to a server that has none.
    Rebalance,
    /// Another plan on the same server.
    Plan,
    /// Another plan, of another kind of server.
    PlanMoved,
    PlanMovedBack,
    /// A pooler on the platform.
    StartPooler,
    RemovePooler,
}

impl Scenario {
    pub const ALL: [Self; 46] = [
        Self::Made,
        Self::FromStock,
        Self::Suspend,
        Self::SuspendKept,
        Self::Resume,
        Self::Delete,
        Self::Undelete,
        Self::Purge,
        Self::Rotate,
        Self::RotateAtOnce,
        Self::RotateInPlace,
        Self::Retire,
        Self::Version,
        Self::Sessions,
        Self::Terminate,
        Self::Diagnose,
        Self::Movability,
        Self::Plan,
        Self::AdoptCheck,
        Self::Adopt,
        Self::ImportCheck,
        Self::Import,
        Self::Register,
        Self::AddAgain,
        Self::Check,
        Self::Forget,
        Self::Grow,
        Self::WaitForRoom,
        Self::UpdateServer,
        Self::RemoveServer,
        Self::RemoveWithData,
        Self::PurgeServer,
        Self::Move,
        Self::MoveUnfollowed,
        Self::MoveByDump,
        Self::MoveRedone,
        Self::MoveBack,
        Self::MoveFinished,
        Self::MoveAbandoned,
        Self::Drain,
        Self::DrainCheck,
        Self::Rebalance,
        Self::PlanMoved,
        Self::PlanMovedBack,
        Self::StartPooler,
        Self::RemovePooler,
    ];

    /// Kinds that are broken in it; the first is what it is about.
    pub fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Made => &["tenant.create"],
            Self::FromStock => &["tenant.create", "stock.build"],
            Self::Suspend | Self::SuspendKept => &["tenant.suspend"],
            Self::Resume => &["tenant.resume"],
            Self::Delete => &["tenant.delete"],
            Self::Undelete => &["tenant.undelete"],
            Self::Purge => &["tenant.purge"],
            Self::Rotate | Self::RotateAtOnce | Self::RotateInPlace => &["tenant.rotate"],
            Self::Retire => &["tenant.retire_login"],
            Self::Version => &["template.build", "stock.drop", "template.retire"],
            Self::Register | Self::AddAgain => &["server.register"],
            Self::Check => &["server.check"],
            Self::Grow => &["server.provision"],
            Self::WaitForRoom => &["tenant.create", "server.provision"],
            Self::UpdateServer => &["server.update"],
            Self::RemoveServer | Self::RemoveWithData | Self::Forget => &["server.remove"],
            Self::PurgeServer => &["server.purge"],
            Self::Sessions => &["tenant.sessions"],
            Self::Terminate => &["tenant.terminate_sessions"],
            Self::Diagnose => &["tenant.diagnose"],
            Self::Movability => &["tenant.movability"],
            Self::AdoptCheck => &["tenant.adopt_check"],
            Self::Adopt => &["tenant.adopt"],
            Self::ImportCheck => &["tenant.import_check"],
            Self::Import => &["tenant.import"],
            Self::Move | Self::MoveUnfollowed | Self::MoveByDump | Self::MoveRedone | Self::PlanMoved => {
                &["tenant.move"]
            }
            Self::MoveBack | Self::PlanMovedBack => &["tenant.roll_back_move"],
            Self::MoveFinished | Self::MoveAbandoned => &["tenant.finish_move"],
            Self::Plan => &["tenant.plan"],
            Self::Drain => &["server.drain"],
            Self::DrainCheck => &["server.drain_check"],
            Self::Rebalance => &["server.rebalance"],
            Self::StartPooler => &["pooler.start"],
            Self::RemovePooler => &["pooler.remove"],
        }
    }

    /// After which of its steps it is made to fail, to see the way back: the last one, unless that is past the point where
    /// there is one.
    pub fn breaks_at(self, steps: &[String]) -> Option<&String> {
        let before = match self {
            Self::Move | Self::MoveRedone | Self::PlanMoved => "Ready",
            Self::MoveByDump => "Check",
            Self::MoveBack | Self::PlanMovedBack => "Sync",
            _ => return steps.last(),
        };
        steps.iter().find(|step| *step == before)
    }

    /// A rig with servers, templates and stock, as far as this one needs them.
    pub async fn rig(self) -> (Rig, Serve) {
        let apart = matches!(self, Self::Register | Self::AddAgain | Self::Forget).then(|| Cluster::start(15));
        let settings = match (self.has_pool(), self.is_about_poolers()) {
            (true, _) => POOL,
            (_, true) => PLATFORM,
            _ if self.is_move() => moves::TWO,
            _ => SETTINGS,
        };
        let rig = Rig::new(Wanted { apart, settings, ..Wanted::default() }).await;
        let mut serve = rig.serve("").await;
        match self {
            Self::Register => rig.stop_filling().await,
            // Health comes in with a login of its own, at its own time.
            _ if self.has_pool() || self.is_about_poolers() || matches!(self, Self::AddAgain | Self::Forget) => {
                rig.stop_filling().await;
                rig.freeze("health").await;
            }
            Self::Check => {
                rig.stop_filling().await;
                rig.add_server(&serve, 50, None).await;
            }
            _ => {
                add_templates(&serve).await;
                rig.add_server(&serve, 50, None).await;
                if self.is_move() {
                    rig.add_other(&serve).await;
                }
                self.settled(&rig, &mut serve).await;
            }
        }
        (rig, serve)
    }

    pub async fn prepare(self, rig: &Rig, serve: &Serve, id: &str) {
        match self {
            _ if self.has_pool() => self.prepare_server(serve).await,
            _ if self.is_about_poolers() => self.prepare_pooler(serve).await,
            _ if self.is_move() => self.prepare_move(rig, serve, id).await,
            Self::AddAgain | Self::Forget => {
                let (status, body) = serve.post("/v1/servers", another(rig)).await;
                assert_eq!(status, 201, "{body}\n{}", serve.output());
            }
            Self::Made | Self::FromStock | Self::Version | Self::Register | Self::Check => {}
            Self::AdoptCheck | Self::Adopt | Self::ImportCheck | Self::Import => legacy::make(rig, id).await,
            Self::SuspendKept => {
                legacy::make(rig, id).await;
                let (status, body) = serve.post(&format!("/v1/tenants/{id}/adopt"), legacy::adopt(id, false)).await;
                assert_eq!(status, 201, "{body}\n{}", serve.output());
            }
            Self::Suspend
            | Self::Resume
            | Self::Delete
            | Self::Undelete
            | Self::Purge
            | Self::Rotate
            | Self::RotateAtOnce
            | Self::RotateInPlace
            | Self::Retire
            | Self::Sessions
            | Self::Terminate
            | Self::Diagnose
            | Self::Movability
            | Self::Plan => {
                let template = if self == Self::RotateInPlace { "fixed" } else { "made" };
                let (status, body) = serve.post("/v1/tenants", json!({"id": id, "template": template})).await;
                assert_eq!(status, 201, "{body}\n{}", serve.output());
                if matches!(self, Self::RotateAtOnce | Self::Retire) {
                    rotation::under_way(serve, id).await;
                }
                if self == Self::Plan {
                    // What a plan says is said of both logins.
                    let (status, body) = serve.post(&format!("/v1/tenants/{id}/credentials/rotate"), json!({})).await;
                    assert_eq!(status, 200, "{body}\n{}", serve.output());
                }
                let then = match self {
                    Self::Resume => Some((Method::POST, format!("/v1/tenants/{id}/suspend"))),
                    Self::Undelete => Some((Method::DELETE, format!("/v1/tenants/{id}?confirm={id}"))),
                    _ => None,
                };
                if let Some((method, path)) = then {
                    let (status, body) = serve.request(method, &path, Some(json!({}))).await;
                    assert_eq!(status, 200, "{path}: {body}");
                }
            }
            other => unreachable!("{other:?} is about servers of pools"),
        }
    }

    /// Begins it. The answer does not matter: the process may die before it.
    pub async fn act(self, rig: &Rig, serve: &Serve, id: &str, number: usize) {
        if self.is_move() {
            return self.act_on_move(rig, serve, id).await;
        }
        let tenant = |verb: &str| format!("/v1/tenants/{id}/{verb}");
        let (method, path, body): (Method, String, Option<Json>) = match self {
            Self::Made => (Method::POST, "/v1/tenants".into(), Some(json!({"id": id, "template": "made"}))),
            Self::FromStock => {
                (Method::POST, "/v1/tenants".into(), Some(json!({"id": id, "template": "kept", "plan": "big"})))
            }
            Self::Suspend | Self::SuspendKept => (Method::POST, tenant("suspend"), Some(json!({"reason": "unpaid"}))),
            Self::Resume => (Method::POST, tenant("resume"), None),
            Self::Delete => (Method::DELETE, format!("/v1/tenants/{id}?confirm={id}"), None),
            Self::Undelete => (Method::POST, tenant("undelete"), None),
            Self::Purge => (Method::DELETE, format!("/v1/tenants/{id}?confirm={id}&purge=true"), None),
            Self::Rotate | Self::RotateInPlace => (Method::POST, tenant("credentials/rotate"), Some(json!({}))),
            Self::RotateAtOnce => (Method::POST, tenant("credentials/rotate"), Some(json!({"immediate": true}))),
            Self::Retire => (Method::POST, tenant("credentials/retire"), None),
            Self::Version => (Method::POST, "/v1/templates".into(), Some(template("kept", number))),
            Self::Register => (Method::POST, "/v1/servers".into(), Some(another(rig))),
            Self::AddAgain => {
                let mut again = another(rig);
                again["capacity"] = json!(6);
                again["tenant_address"] = json!(format!("localhost:{}", rig.server().port()));
                (Method::POST, "/v1/servers".into(), Some(again))
            }
            _ if self.has_pool() || self == Self::Forget => self.act_on_server(id),
            _ if self.is_about_poolers() => self.act_on_pooler(),
            Self::Check => (Method::POST, "/v1/servers/one/check".into(), None),
            Self::Sessions => (Method::GET, tenant("sessions"), None),
            Self::Terminate => (Method::POST, tenant("sessions/terminate"), Some(json!({"idle_for_seconds": 60}))),
            Self::Diagnose => (Method::POST, tenant("diagnose"), Some(json!({}))),
            Self::Movability => (Method::POST, tenant("movability"), Some(json!({}))),
            Self::Plan => (Method::POST, tenant("plan"), Some(json!({"plan": "big"}))),
            Self::AdoptCheck => (Method::POST, tenant("adopt"), Some(legacy::adopt(id, true))),
            Self::Adopt => (Method::POST, tenant("adopt"), Some(legacy::adopt(id, false))),
            Self::ImportCheck => (Method::POST, tenant("import"), Some(legacy::import(rig, id, true))),
            Self::Import => (Method::POST, tenant("import"), Some(legacy::import(rig, id, false))),
            other => unreachable!("{other:?} is about servers of pools"),
        };
        serve.begin(method, &path, body).await;
    }

    /// Everything that was begun is over, or stuck.
    pub async fn settled(self, rig: &Rig, serve: &mut Serve) {
        let stock: &[(&str, i64)] = match self {
            Self::Register | Self::AddAgain | Self::Check | Self::Forget => &[],
            _ if self.has_pool() || self.is_about_poolers() || self.is_move() => &[],
            _ => &[("kept", 1)],
        };
        rig.settled(serve, stock).await;
        if self.is_about_poolers() {
            rig.poolers_are_back().await;
        }
    }

    /// Takes back what the run left, so that the next one begins where this one began.
    pub async fn clean(self, rig: &Rig, serve: &mut Serve, id: &str) {
        match self {
            Self::Check => {}
            _ if self.has_pool() => self.clean_servers(rig, serve, id).await,
            _ if self.is_about_poolers() => self.clean_poolers(rig, serve).await,
            _ if self.is_move() => self.clean_move(rig, serve, id).await,
            Self::Version => {
                // One that could not be built left no stock: another version does.
                let sql = "SELECT count(*) FROM template_build JOIN template USING (name, version) WHERE current AND state = 'failed'";
                if rig.count(sql).await > 0 {
                    let number: usize = id.trim_start_matches("t-").parse().expect("ids of runs are numbers");
                    let (status, body) = serve.post("/v1/templates", template("kept", 10_000 + number)).await;
                    assert_eq!(status, 201, "{body}");
                }
            }
            Self::Register | Self::AddAgain | Self::Forget => {
                let visitors = "SELECT role FROM visitor WHERE server_id = 'another'";
                for row in rig.sql.query(visitors, &[]).await.expect("read health's login") {
                    let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", row.get::<_, String>(0));
                    let admin = rig.server().connect("postgres").await;
                    // Declared, and not made where the run broke.
                    let _ = admin.batch_execute(&sql).await;
                }
                let sql = "DELETE FROM server WHERE id = 'another'";
                rig.sql.batch_execute(sql).await.expect("forget the server");
            }
            Self::Made
            | Self::FromStock
            | Self::Suspend
            | Self::SuspendKept
            | Self::Resume
            | Self::Delete
            | Self::Undelete
            | Self::Purge
            | Self::Rotate
            | Self::RotateAtOnce
            | Self::RotateInPlace
            | Self::Retire
            | Self::Sessions
            | Self::Terminate
            | Self::Diagnose
            | Self::Movability
            | Self::Plan
            | Self::AdoptCheck
            | Self::Adopt
            | Self::ImportCheck
            | Self::Import => {
                if serve.get(&format!("/v1/tenants/{id}")).await.0 == 200 {
                    serve.purge(id).await;
                }
                legacy::remove(rig, id).await;
            }
            other => unreachable!("{other:?} is about servers of pools"),
        }
        self.settled(rig, serve).await;
    }

    /// One run under these faults to its end; a process that dies of them is followed by one without.
    pub async fn run(self, rig: &Rig, faults: &str, dies: bool, id: &str, number: usize) -> Run {
        let since = rig.since().await;
        let mut serve = rig.serve(faults).await;
        self.act(rig, &serve, id, number).await;
        let mut output = String::new();
        if dies {
            let died = serve.dies_by_itself(Duration::from_secs(30)).await;
            assert!(died, "{self:?} under {faults}: the process did not come to its fault point:\n{}", serve.output());
            output = serve.output();
            rig.let_leases_run_out().await;
            serve = rig.serve("").await;
        }
        self.settled(rig, &mut serve).await;
        let picture = rig.picture(&since, id).await;
        // An operation is over once its last record is committed; that it passed `recorded` is logged right after. One
        // that failed with nothing to undo has no such line, so this does not insist.
        let last = |text: &str| text.lines().rfind(|line| line.contains("fault point fires")).map(str::to_owned);
        let began = Instant::now();
        while faults.contains(points::TRACE)
            && last(&serve.output()).is_none_or(|line| !line.contains("recorded"))
            && began.elapsed() < Duration::from_secs(2)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        output.push_str(&serve.output());
        Run { picture, serve, output }
    }
}

fn another(rig: &Rig) -> Json {
    json!({"id": "another", "dsn": rig.server().dsn(ADMIN), "capacity": 5})
}

pub struct Run {
    pub picture: Picture,
    pub serve: Serve,
    pub output: String,
}

impl Rig {
    pub async fn freeze(&self, target: &str) {
        let sql = "INSERT INTO \"freeze\" (target, by) VALUES ($1, 'test')";
        self.sql.execute(sql, &[&target]).await.expect("freeze the loop");
    }

    pub async fn stop_filling(&self) {
        self.freeze("stock").await;
    }
}

pub async fn add_templates(serve: &Serve) {
    for name in ["made", "kept", "fixed"] {
        let (status, body) = serve.post("/v1/templates", template(name, 0)).await;
        assert_eq!(status, 201, "{body}");
    }
}

/// Another number is another version.
pub fn template(name: &str, number: usize) -> Json {
    let rotate = if name == "fixed" { "rotate = \"replace\"\n" } else { "" };
    let manifest = format!(
        "description = \"for tests\"\n[naming]\n{rotate}kind = \"pattern\"\ndatabase = \"{name}_{{tenant}}\"\nlogin = \"{name}_{{tenant}}_app\"\n\
         normalise = \"underscore\"\n[[extension]]\nname = \"pgcrypto\"\n[settings]\ntimezone = \"UTC\"\n[[role]]\nname = \"reader\"\ngrants = \"read\"\n"
    );
    json!({"name": name, "files": {
        "template.toml": manifest,
        "migrations/0001_init.sql": format!("-- {number}\nCREATE TABLE info (tenant text PRIMARY KEY, name text);\nCREATE TABLE orders (id bigserial PRIMARY KEY);"),
        "migrations/0002_more.sql": "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        "claim.sql": "INSERT INTO info VALUES (current_setting('freehold.tenant_id'), current_setting('freehold.tenant_name')) ON CONFLICT DO NOTHING;",
    }})
}

/// The operation is stuck, and says so where people look.
pub async fn until_stuck(rig: &Rig, serve: &Serve, kind: &str) -> Json {
    rig.until_operation(kind, "stuck").await;
    let (status, body) = serve.get("/v1/status").await;
    assert_eq!(status, 200, "{body}");
    let concerns = body["concerns"].as_array().cloned().unwrap_or_default();
    let concern = concerns.into_iter().find(|concern| {
        concern["code"] == "operation_stuck" && concern["message"].as_str().is_some_and(|text| text.contains(kind))
    });
    concern.unwrap_or_else(|| panic!("/v1/status says nothing of the stuck {kind}: {body}"))
}

pub async fn until_tenant(serve: &Serve, id: &str, state: &str) -> Json {
    let mut last = Json::Null;
    let began = Instant::now();
    until(&format!("tenant {id} is {state}"), async || {
        last = serve.get(&format!("/v1/tenants/{id}")).await.1;
        assert!(began.elapsed() < PATIENCE, "tenant {id} is not {state}: {last}\n{}", serve.output());
        last["state"] == state
    })
    .await;
    last
}

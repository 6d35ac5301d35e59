//! What the suite needs of a platform beyond its verbs, and one server that it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_drivers::platform::{
    Image, Limits, Network, Observed, Phase, Platform, Postgres, Program, Restart, Service, Storage,
};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::managed::{Authority, Log, Transport, Wanted, hba, render};
use freehold_drivers::server::sql::{Admin, Dsn, SqlError, SslMode};
use jiff::{SignedDuration, Timestamp};

/// A place where a platform works, for one test.
#[async_trait]
pub trait World: Send + Sync {
    fn major(&self) -> u16;
    fn transport(&self) -> Transport {
        Transport::Tls
    }
    fn log(&self) -> Log;
    fn image(&self) -> Option<Image>;
    fn storage(&self) -> Storage;
    /// Another one for every call, where it has a port.
    fn network(&self) -> Network;
    /// As a Freehold that starts now has it. One that was handed out before is dropped by the story.
    async fn platform(&self) -> Arc<dyn Platform>;
    /// SIGKILL to the server itself, from outside the platform.
    async fn kill(&self, service: &str);
    /// It is there and does not run: SIGSTOP, pause.
    async fn hold(&self, service: &str);
    async fn release(&self, service: &str);
    /// All that a stranger on the machine could look at, by its name: command lines, environments, files, definitions,
    /// logs.
    async fn visible(&self, service: &str) -> Vec<(String, String)>;
}

/// One server as it is asked for, and what opens it.
pub struct Case {
    pub service: Service,
    pub password: Password,
    pub authority: Authority,
}

pub const ADMIN: &str = "freehold";
/// Long enough for crash recovery on a machine that compiles.
pub const PATIENCE: Duration = Duration::from_secs(90);

impl Case {
    pub fn new(world: &dyn World, name: &str) -> Self {
        let password = Password::random(32);
        let authority = Authority::create(now(), SignedDuration::from_hours(24 * 30)).unwrap();
        let issued = authority.issue(&["localhost", "127.0.0.1"], now(), SignedDuration::from_hours(24 * 10)).unwrap();
        let settings = settings(world, &[]);
        let program = Program::Postgres(Postgres {
            major: world.major(),
            settings,
            hba: hba(world.transport()).into(),
            admin_role: ADMIN.into(),
            admin_verifier: scram_verifier(&password),
            certificate_pem: issued.certificate_pem,
            certificate_key: issued.key_pem,
            initialise: true,
        });
        let service = Service {
            name: name.into(),
            generation: 1,
            program,
            image: world.image(),
            limits: Limits::default(),
            storage: world.storage(),
            network: world.network(),
            constraints: Vec::new(),
            labels: BTreeMap::from([("purpose".into(), "test".into())]),
            restart: Restart { attempts: 2, window: Duration::from_secs(120), delay: Duration::from_millis(500) },
            stop_grace: Duration::from_secs(30),
        };
        Self { service, password, authority }
    }

    pub fn name(&self) -> &str {
        &self.service.name
    }

    pub fn postgres(&mut self) -> &mut Postgres {
        let Program::Postgres(postgres) = &mut self.service.program;
        postgres
    }

    /// The next generation, with these settings of its own.
    pub fn with_settings(&mut self, world: &dyn World, own: &[(&str, &str)]) {
        self.service.generation += 1;
        self.postgres().settings = settings(world, own);
    }

    /// As the admin, the way tenants come.
    pub fn dsn(&self, at: &Observed, transport: Transport) -> Dsn {
        let mode = match transport {
            Transport::Tls => "verify-full",
            Transport::Loopback => "disable",
        };
        let text = format!("postgres://{ADMIN}@{}:{}/postgres?sslmode={mode}&connect_timeout=5", at.host, at.port);
        let dsn = Dsn::parse(&text).unwrap().with_user(ADMIN, self.password.clone());
        dsn.with_ca_pem(self.authority.certificate_pem().as_bytes())
    }

    pub async fn log_in(&self, world: &dyn World, at: &Observed) -> Result<Admin, SqlError> {
        Admin::connect(&self.dsn(at, world.transport()), None, "conformance").await
    }

    /// Waits until it says that it runs and lets the admin in.
    pub async fn until_open(&self, world: &dyn World, platform: &dyn Platform) -> Admin {
        let mut seen = String::new();
        for _ in 0..PATIENCE.as_millis() / 100 {
            let observed = platform.observe(self.name()).await.unwrap();
            assert!(observed.phase != Phase::Failing || seen.is_empty(), "{observed:?}");
            if observed.phase == Phase::Running {
                match self.log_in(world, &observed).await {
                    Ok(admin) => return admin,
                    Err(error) => seen = error.to_string(),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let words = platform.last_words(self.name()).await.unwrap();
        panic!("{} does not open: {seen}; {:?}; {words}", self.name(), platform.observe(self.name()).await);
    }

    pub async fn until(&self, platform: &dyn Platform, phase: Phase) -> Observed {
        for _ in 0..PATIENCE.as_millis() / 100 {
            let observed = platform.observe(self.name()).await.unwrap();
            if observed.phase == phase {
                return observed;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} does not become {phase:?}: {:?}", self.name(), platform.observe(self.name()).await);
    }

    pub fn without_tls(&self, at: &Observed) -> Dsn {
        self.dsn(at, Transport::Tls).with_sslmode(SslMode::Disable)
    }
}

pub fn settings(world: &dyn World, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut extra: BTreeMap<String, String> =
        own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    // Nothing here outlives the machine's crash.
    extra.entry("fsync".into()).or_insert("off".into());
    let wanted = Wanted {
        major: world.major(),
        memory_bytes: Some(512 << 20),
        cpus: Some(1.0),
        disk_bytes: Some(4 << 30),
        databases: 10,
        transport: world.transport(),
        log: world.log(),
        extra,
    };
    render(&wanted).unwrap().settings
}

/// Certificates are dated; a test's day is the machine's.
#[expect(clippy::disallowed_methods, reason = "no store is here to ask, and the server compares with its own clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The first column of the first row.
pub async fn ask(admin: &Admin, sql: &str) -> String {
    let row = admin.client().query_one(sql, &[]).await.unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

//! What one more generation costs a pooler, and those who are at work in it meanwhile: databases, users and rules as they
//! are really rendered, on a real PgBouncer. Only the ones at work exist on the server; PgBouncer asks for the others as
//! little as it does for tenants that rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold_drivers::pooler::pgbouncer::{PgBouncer, PgBouncerOptions, find_program};
use freehold_drivers::pooler::{
    ClientTls, Configuration, Console, ConsoleLogin, Entry, Limits, Listen, Login, Mode, Pooler, Server, ServerTls,
    Standing, Verifier,
};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_testkit::{Cluster, Pgbouncer};
use futures::future::{try_join, try_join_all};
use tokio_postgres::{Client, Config};

use crate::bench::connect;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::{Res, Scale, say};

const VERSIONS: [&str; 2] = ["1.18", "1.24"];
const ADMIN: &str = "freehold_admin";
const AT_WORK: usize = 8;
const TURNS: usize = 2;
/// Between two queries of one client: the pooler is in use, and not at its limit.
const THINKS: Duration = Duration::from_millis(5);
/// What a stock that is refilled gains from one reload to the next, a second later.
const GAIN: usize = 15;
/// Where latency counts: more than any pooler has.
const MOST: usize = 10_000;

pub async fn run(scale: &Scale, report: &mut Report) -> Res<()> {
    for version in VERSIONS {
        say(&format!("reload: PgBouncer {version} is starting"));
        let mut world = World::start(version).await?;
        for &count in scale.pooled {
            say(&format!("reload: {count} databases"));
            let found = world.measure(count, scale).await?;
            report.add(
                Row::of(format!("one more generation for PgBouncer {version}, {count} databases"), &found.applies)
                    .note("written, reloaded and verified, its turn awaited: one a second"),
            );
            let added = found.reloaded.p50() - found.rest.p50();
            let note = format!(
                "{AT_WORK} tenants at work; at rest p50 {:.2}, p99 {:.2}; longest {:.0}",
                found.rest.p50(),
                found.rest.p99(),
                found.reloaded.quantile(1.0)
            );
            let goal = (count == MOST).then_some(Goal::AtMost(5.0));
            report.add(
                Row::of(
                    format!("a query while {version} is reloaded every second, {count} databases"),
                    &found.reloaded,
                )
                .note(note)
                .ratio(("added to p50", added), ("1 ms", 1.0), goal),
            );
        }
    }
    Ok(())
}

struct World {
    driver: PgBouncer,
    configuration: Configuration,
    at_work: Vec<Client>,
    /// The shape of all others.
    neighbour: Entry,
    _pooler: Pgbouncer,
    _cluster: Cluster,
}

struct Found {
    applies: Samples,
    rest: Samples,
    reloaded: Samples,
}

impl World {
    async fn start(version: &str) -> Res<Self> {
        let (cluster, mut pooler) = (Cluster::start(15), Pgbouncer::new(version));
        let password = Password::random(32);
        let verifier = Verifier::parse(scram_verifier(&password))?;
        let entry = |name: &str| Entry {
            name: name.into(),
            server: Server { host: "127.0.0.1".into(), port: cluster.port() },
            database: name.into(),
            mode: Some(Mode::Transaction),
            pool_size: 3,
            reserve: 1,
            database_connections: Some(6),
            client_connections: None,
            logins: vec![Login { role: name.into(), verifier: verifier.clone(), standing: Standing::Usable }],
        };
        let login = |name: &str| ConsoleLogin { name: name.into(), verifier: verifier.clone() };
        let mut configuration = Configuration {
            generation: 1,
            listen: Listen { addresses: vec!["127.0.0.1".into()], port: pooler.port() },
            console: Console {
                admin: login(ADMIN),
                check: login("freehold_check"),
                networks: vec!["127.0.0.1/32".into()],
            },
            client_tls: ClientTls::Off,
            server_tls: ServerTls::Off,
            limits: Limits::default(),
            extra: BTreeMap::new(),
            entries: Vec::new(),
        };
        let admin = cluster.connect("postgres").await;
        for number in 0..AT_WORK {
            let name = format!("at_work_{number}");
            admin.batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", verifier.as_str())).await?;
            admin.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}")).await?;
            configuration.entries.push(entry(&name));
        }
        let mut options = PgBouncerOptions::local(pooler.directory(), pooler.port(), ADMIN, password.clone());
        options.check_password = Some(password.clone());
        let driver = PgBouncer::new(options);
        driver.write(&configuration, find_program(Some(pooler.program()))?.release).await?;
        pooler.start();
        let logins = (0..AT_WORK).map(|number| {
            let (name, mut config) = (format!("at_work_{number}"), Config::new());
            config.host("127.0.0.1").port(pooler.port()).user(&name).dbname(&name).password(password.expose());
            async move { connect(&config).await }
        });
        let at_work = try_join_all(logins).await?;
        let neighbour = entry("neighbour");
        Ok(Self { driver, configuration, at_work, neighbour, _pooler: pooler, _cluster: cluster })
    }

    async fn measure(&mut self, count: usize, scale: &Scale) -> Res<Found> {
        self.grow_to(count);
        self.driver.apply(&self.configuration).await?;
        let (mut applies, mut rest, mut reloaded): (Samples, Samples, Samples) = Default::default();
        // They take turns, so that what else the machine does meets both.
        for _ in 0..TURNS {
            let at_work = std::mem::take(&mut self.at_work);
            rest.extend(meanwhile(&at_work, scale.turn, async { Ok(()) }).await?);
            let began = Instant::now();
            let reloads = async {
                while began.elapsed() < scale.turn {
                    self.grow_to(self.configuration.entries.len() + GAIN);
                    timed(&mut applies, async { Ok(self.driver.apply(&self.configuration).await?) }).await?;
                }
                Res::Ok(())
            };
            reloaded.extend(meanwhile(&at_work, scale.turn, reloads).await?);
            self.at_work = at_work;
        }
        Ok(Found { applies, rest, reloaded })
    }

    fn grow_to(&mut self, count: usize) {
        self.configuration.generation += 1;
        for number in self.configuration.entries.len()..count {
            let name = format!("tenant_of_the_stock_{number:06}");
            let mut entry = self.neighbour.clone();
            entry.logins[0].role = format!("{name}_login");
            (entry.database, entry.name) = (name.clone(), name);
            self.configuration.entries.push(entry);
        }
    }
}

/// What queries take while something else happens.
async fn meanwhile(clients: &[Client], time: Duration, work: impl Future<Output = Res<()>>) -> Res<Samples> {
    let began = Instant::now();
    let asking = try_join_all(clients.iter().map(async |client| {
        let mut samples = Samples::default();
        while began.elapsed() < time {
            timed(&mut samples, async { Ok(client.simple_query("SELECT 1").await?) }).await?;
            tokio::time::sleep(THINKS).await;
        }
        Res::Ok(samples)
    }));
    let (all, ()) = try_join(asking, work).await?;
    let mut samples = Samples::default();
    all.into_iter().for_each(|of_one| samples.extend(of_one));
    Ok(samples)
}

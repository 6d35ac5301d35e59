//! Names that need quotes, through the real program.

use std::collections::BTreeMap;

use freehold_drivers::pooler::pgbouncer::EntryName;
use freehold_drivers::pooler::{Pooler, PoolerErrorKind};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::bench::{Bench, Tenant, ask};

pub async fn databases_and_roles_may_be_called_anything(version: &str) {
    let bench = Bench::start(version).await;
    let mut tenants = Vec::new();
    for (number, name) in [
        "it's \"quoted\" = here",
        "all",
        "sameuser, @/etc/passwd #",
        "héllo wörld ☃",
        "a' pool_size='1' host='evil",
        "trailing \\ ",
        "\ttab ; [pgbouncer] %include x",
        "*",
        "\"",
        "'",
    ]
    .into_iter()
    .enumerate()
    {
        let mut tenant = Tenant::new(name);
        tenant.entry = format!("entry.{number}-X_y");
        tenant.database = name.to_owned();
        tenant.role = format!("{name}\"login");
        bench.make(&tenant).await;
        tenants.push(tenant);
    }
    bench.apply(2, &tenants).await;
    for one in &tenants {
        let session =
            bench.login(one).await.unwrap_or_else(|error| panic!("{}: {error}\n{}", one.role, bench.pooler.log()));
        let place = ask(&session, "select session_user || ' in ' || current_database()").await;
        assert_eq!(place, format!("{} in {}", one.role, one.database));
        for other in tenants.iter().filter(|other| other.entry != one.entry) {
            assert!(bench.login_to(one, &other.entry).await.is_err(), "{} into {}", one.role, other.entry);
        }
    }
    bench.driver.pause(&tenants[3].entry, std::time::Duration::from_secs(20)).await.unwrap();
    bench.driver.resume(&tenants[3].entry).await.unwrap();
}

/// Whatever is accepted comes back from PgBouncer exactly; whatever is not is refused before anything is written.
pub async fn a_name_is_never_mangled(version: &str) {
    let bench = Bench::start(version).await;
    let shape = Tenant::new("shape");
    let mut runner = TestRunner::deterministic();
    let names = "[\\x01-\\x7f\u{e9}\u{2603}]{1,20}";
    let entries = "[A-Za-z0-9_.-]{1,63}";
    let mut draw = |of: &'static str| of.new_tree(&mut runner).unwrap().current();
    let mut wanted = bench.configuration(2, &[]);
    let mut databases = BTreeMap::new();
    while databases.len() < 300 {
        let (name, database, role) = (draw(entries), draw(names), draw(names));
        let mut entry = bench.entry(&shape);
        (entry.name, entry.database) = (name.clone(), database.clone());
        entry.logins[0].role = role.clone();
        let mut alone = bench.configuration(2, &[]);
        alone.entries = vec![entry.clone()];
        if database.contains(['\n', '\r']) || role.contains(['\n', '\r']) {
            let error = bench.driver.apply(&alone).await.unwrap_err();
            assert_eq!(error.kind, PoolerErrorKind::Refused, "{error}");
        } else if EntryName::parse(&name).is_ok() && databases.insert(name, database).is_none() {
            wanted.entries.push(entry);
        }
    }
    bench.driver.apply(&wanted).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.pooler.log()));
    let stats = bench.driver.stats().await.unwrap();
    let found: BTreeMap<_, _> = stats.into_iter().map(|one| (one.name, one.database)).collect();
    assert_eq!(found, databases);
    for name in ["a b", "\"a\"", "é", "*", "pgbouncer", ""] {
        let mut entry = bench.entry(&shape);
        entry.name = name.into();
        let mut alone = bench.configuration(3, &[]);
        alone.entries = vec![entry];
        assert_eq!(bench.driver.apply(&alone).await.unwrap_err().kind, PoolerErrorKind::Refused, "{name}");
    }
    assert_eq!(bench.driver.observe().await.unwrap().loaded, Some(2));
}

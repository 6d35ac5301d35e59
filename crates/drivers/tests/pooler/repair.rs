//! A pooler serves what is wanted, whatever somebody did to its files, and whatever it answers.

use freehold_drivers::pooler::pgbouncer::PgBouncer;
use freehold_drivers::pooler::{Pooler, PoolerErrorKind};
use freehold_drivers::secrets::Password;

use crate::bench::{Bench, ask};

pub async fn an_older_generation_is_refused(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(1).await;
    bench.apply(7, &tenants).await;
    let older = bench.configuration(6, &[]);
    // Also by one that was started since, and knows the files alone; and by one that finds no files.
    let fresh = PgBouncer::new(bench.keys.options(bench.pooler.directory(), bench.pooler.port()));
    for driver in [&bench.driver, &fresh] {
        let error = driver.apply(&older).await.unwrap_err();
        assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::Outdated, false), "{error}");
    }
    for file in [fresh.files().ini(), fresh.files().users(), fresh.files().rules()] {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(fresh.apply(&older).await.unwrap_err().kind, PoolerErrorKind::Outdated);
    assert_eq!(ask(&bench.login(&tenants[0]).await.unwrap(), "select 1").await, "1");
    let applied = bench.apply(7, &tenants).await;
    assert_eq!((applied.generation, applied.reloads), (7, 1));
}

pub async fn a_file_edited_by_hand_is_found_and_repaired(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let files = bench.driver.files();
    let mut generation = 2;
    for (path, name) in [(files.ini(), "pgbouncer.ini"), (files.users(), "users.txt"), (files.rules(), "access.conf")] {
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, written.replace("tenant1", "tenant9")).unwrap();
        let observed = bench.driver.observe().await.unwrap();
        assert_eq!((observed.edited.into_iter().collect::<Vec<_>>(), observed.written), (vec![name.to_owned()], None));
        let applied = bench.apply(generation, &tenants).await;
        assert_eq!((applied.repaired.into_iter().collect::<Vec<_>>(), applied.reloads), (vec![name.to_owned()], 1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
        let applied = bench.apply(generation, &tenants).await;
        assert!(applied.repaired.is_empty() && applied.reloads == 0);
        // The same with a newer generation.
        generation += 1;
        std::fs::remove_file(&path).unwrap();
        let applied = bench.apply(generation, &tenants).await;
        assert_eq!(applied.repaired.into_iter().collect::<Vec<_>>(), [name]);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    // What is in force and not in the files is found as well.
    bench.console().await.simple_query("SET max_client_conn = 3").await.unwrap();
    let error = bench.driver.check(&bench.configuration(generation, &tenants)).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::NotVerified);
    assert!(error.message.contains("max_client_conn is \"3\""), "{error}");
    assert_eq!(bench.apply(generation, &tenants).await.reloads, 1);
    bench.driver.check(&bench.configuration(generation, &tenants)).await.unwrap();
}

/// PgBouncer answers success to a list that it read to the middle.
pub async fn a_broken_list_of_users_is_noticed(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(3).await;
    bench.apply(2, &tenants).await;
    let wanted = bench.configuration(2, &tenants);
    let path = bench.driver.files().users();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("\"tenant1 login\"", "tenant1 login\"")).unwrap();
    let console = bench.console().await;
    console.simple_query("RELOAD").await.expect("it says that all is well");
    assert!(bench.login(&tenants[0]).await.is_ok() && bench.login(&tenants[2]).await.is_err());
    let error = bench.driver.check(&wanted).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::NotVerified);
    assert!(error.message.contains("list of users"), "{error}");
    assert_eq!(bench.apply(2, &tenants).await.reloads, 1);
    for tenant in &tenants {
        assert_eq!(ask(&bench.login(tenant).await.unwrap(), "select 1").await, "1");
    }

    // A list of before that is still in force passes for nothing newer.
    let newer = bench.configuration(3, &tenants);
    let mut unread = newer.clone();
    unread.generation = 2;
    bench.driver.check(&unread).await.unwrap();
    assert_eq!(bench.driver.check(&newer).await.unwrap_err().kind, PoolerErrorKind::NotVerified);

    // An ini file that is broken is answered with success too; what was there stays in force.
    let path = bench.driver.files().ini();
    let ini = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, ini.replace("tenant1 =", "\"tenant1\" =").replace("freehold-2", "freehold-3")).unwrap();
    console.simple_query("RELOAD").await.expect("it says that all is well");
    let observed = bench.driver.observe().await.unwrap();
    assert_eq!((observed.loaded, observed.databases), (Some(2), 3));
    bench.apply(3, &tenants).await;
}

pub async fn what_cannot_be_verified_is_taken_back(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let mut options = bench.keys.options(bench.pooler.directory(), bench.pooler.port());
    options.check_password = Some(Password::random(20));
    let mistaken = PgBouncer::new(options);
    let error = mistaken.apply(&bench.configuration(3, &tenants[..1])).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::NotVerified);
    assert!(error.message.contains("the files of before are back"), "{error}");
    let observed = bench.driver.observe().await.unwrap();
    assert_eq!((observed.loaded, observed.written, observed.databases), (Some(2), Some(2), 2));
    for tenant in &tenants {
        assert_eq!(ask(&bench.login(tenant).await.unwrap(), "select 1").await, "1");
    }
    assert_eq!(bench.apply(2, &tenants).await.reloads, 0);
}

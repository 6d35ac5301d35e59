//! Who is in a database, and ending those of its tenant and nobody else.

use std::time::Duration;

use freehold_drivers::server::sql::{Ended, Which};

use crate::bench::{Bench, Engine, Power, ask};

pub async fn sessions_are_seen_and_the_tenants_alone_are_ended(bench: &Bench) {
    let tenant = bench.tenant("seen").await;
    let admin = bench.admin().await;
    let owner = tenant.roles.owner.clone();
    let (idle, working) = (bench.login(&tenant).await.unwrap(), bench.login(&tenant).await.unwrap());
    let (waiting, maintenance) = (bench.login(&tenant).await.unwrap(), bench.maintenance(&tenant).await);
    let superuser = bench.superuser_in(&tenant.database).await;
    let inside = bench.admin_in(&tenant.database).await;
    working.execute_script("create table t (n int)").await.unwrap();
    working.execute_script("begin; lock table t").await.unwrap();
    let pid = async |session| ask(session, "select pg_backend_pid()").await.parse::<i32>().unwrap();
    let (idle_pid, working_pid, waiting_pid) = (pid(&idle).await, pid(&working).await, pid(&waiting).await);
    let superuser_pid = pid(&superuser).await;
    let blocked = tokio::spawn(async move { waiting.execute_script("select 'secret' from t").await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let seen = admin.sessions_in(&tenant.database, &owner, false).await.unwrap();
    assert_eq!(seen.len(), 6, "{seen:?}");
    let one = |pid| seen.iter().find(|session| session.pid == pid).unwrap();
    assert_eq!((one(idle_pid).user.as_str(), one(idle_pid).state.as_deref()), ("seen", Some("idle")));
    assert_eq!((one(idle_pid).application.as_str(), one(idle_pid).client.as_deref()), ("app", Some("127.0.0.1")));
    assert_eq!(one(working_pid).state.as_deref(), Some("idle in transaction"));
    assert!(one(working_pid).transaction_since.is_some() && one(idle_pid).transaction_since.is_none());
    assert_eq!(one(waiting_pid).waits_for.as_deref(), Some("Lock: relation"));
    assert_eq!(one(waiting_pid).blocked_by, [working_pid]);
    assert!(seen.iter().all(|session| session.query.is_none()), "queries are a tenant's own");
    assert!(one(idle_pid).of_tenant && !one(superuser_pid).of_tenant);
    assert!(seen.iter().any(|session| session.application == "fh:test" && !session.of_tenant), "the admin itself");
    assert_eq!(one(superuser_pid).state.is_some(), bench.power == Power::Superuser || bench.engine == Engine::Pg15);
    let queries = admin.sessions_in(&tenant.database, &owner, true).await.unwrap();
    let query = |pid| queries.iter().find(|session| session.pid == pid).unwrap().query.clone();
    assert_eq!(query(waiting_pid).as_deref(), Some("select 'secret' from t"));

    // One by its pid, who is asked for by nothing else; one that is no session of this database is left alone.
    let spared = [tenant.roles.maintenance.as_str()];
    let which = Which { database: &tenant.database, owner: &owner, spared: &spared, pid: None, idle_for: None };
    let ended = admin.end_sessions(&Which { pid: Some(working_pid), ..which.clone() }).await.unwrap();
    assert_eq!(ended, Ended { ended: vec![working_pid], left: vec![] });
    blocked.await.unwrap().unwrap();
    let elsewhere = bench.admin().await;
    let elsewhere_pid: i32 = elsewhere.client().query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let none = admin.end_sessions(&Which { pid: Some(elsewhere_pid), ..which.clone() }).await.unwrap();
    assert_eq!(none, Ended::default());
    let ended = admin.end_sessions(&Which { pid: Some(superuser_pid), ..which.clone() }).await.unwrap();
    match bench.power {
        // The admin's own role here.
        Power::Superuser => assert_eq!(ended, Ended::default()),
        Power::Weak => assert_eq!(ended.left, [superuser_pid], "not its to end, and said so"),
    }

    // Idle for long is nobody; all is the tenant's logins and neither maintenance nor admin.
    let patient = Which { idle_for: Some(Duration::from_secs(3600)), ..which.clone() };
    assert_eq!(admin.end_sessions(&patient).await.unwrap(), Ended::default());
    tokio::time::sleep(Duration::from_millis(60)).await;
    let idlers = Which { idle_for: Some(Duration::from_millis(50)), ..which.clone() };
    let ended = admin.end_sessions(&idlers).await.unwrap();
    assert!(ended.ended.contains(&idle_pid) && ended.left.is_empty(), "{ended:?}");
    let another = bench.login(&tenant).await.unwrap();
    let ended = admin.end_sessions(&which).await.unwrap();
    assert_eq!((ended.ended.len(), ended.left.len()), (1, 0));
    assert!(another.execute_script("select 1").await.is_err());
    maintenance.execute_script("select 1").await.unwrap();
    inside.ping().await.unwrap();
}

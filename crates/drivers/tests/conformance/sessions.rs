//! Sessions that stay, that must go, and that must not come back.

use freehold_drivers::server::sql::{Session, SqlErrorKind};

use crate::bench::{Bench, ask};

pub async fn resetting_falls_back_to_the_owner(bench: &Bench) {
    let tenant = bench.tenant("pooled").await;
    let session = bench.login(&tenant).await.unwrap();
    for reset in ["discard all", "reset role", "reset all", "set role none; reset role"] {
        session.execute_script(reset).await.unwrap();
        assert_eq!(ask(&session, "select current_user").await, "pooled owner", "{reset}");
    }
    let maintenance = bench.maintenance(&tenant).await;
    assert_eq!(ask(&maintenance, "select current_user").await, "pooled owner");
    assert_eq!(ask(&maintenance, "show lock_timeout").await, "2s");
    let error = maintenance.execute_script("create table t (); select 1; selec").await.unwrap_err();
    assert_eq!((error.position, error.sqlstate.as_deref()), (Some(30), Some("42601")));
    assert!(error.to_string().contains("syntax error") && !error.is_transient());
    assert_eq!(
        ask(&maintenance, "select count(*) from pg_tables where tablename = 't'").await,
        "0",
        "a script is one transaction"
    );
}

pub async fn a_refused_login_leaves_no_session_and_cannot_return(bench: &Bench) {
    let tenant = bench.tenant("fenced").await;
    let admin = bench.admin().await;
    let (open, running) = (bench.login(&tenant).await.unwrap(), bench.login(&tenant).await.unwrap());
    open.execute_script("begin").await.unwrap();
    let busy = tokio::spawn(async move { running.execute_script("select pg_sleep(60)").await.unwrap_err().kind });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    // Maintenance goes on: a move works while the tenant is fenced.
    let maintenance = bench.maintenance(&tenant).await;
    admin.refuse_logins(&["fenced", "no such role"]).await.unwrap();
    assert_eq!(busy.await.unwrap(), SqlErrorKind::Terminated);
    assert!(open_is_dead(&open).await);
    assert_eq!(bench.login(&tenant).await.err().unwrap().kind, SqlErrorKind::AuthFailed);
    assert_eq!(ask(&maintenance, "select count(*) from pg_stat_activity where usename = 'fenced'").await, "0");
    admin.admit_logins(&["fenced"]).await.unwrap();
    bench.login(&tenant).await.unwrap();
}

async fn open_is_dead(session: &Session) -> bool {
    session.execute_script("select 1").await.is_err_and(|error| error.is_transient())
}

pub async fn lower_epochs_are_fenced_and_others_left_alone(bench: &Bench) {
    let tenant = bench.tenant("epoch").await;
    let dsn = bench.dsn_of(&tenant).with_user(&tenant.roles.maintenance, tenant.maintenance_password.clone());
    let prefix = "fh:01890a5d-ac96-774b-bcce-b302099a8057:";
    let connect = async |name: String| Session::connect(&dsn, None, &name, &[]).await.unwrap();
    let (old, same, odd) = (
        connect(format!("{prefix}9")).await,
        connect(format!("{prefix}10")).await,
        connect(format!("{prefix}x")).await,
    );
    let other = connect("fh:01890a5d-ac96-774b-bcce-b30209900000:1".into()).await;
    let admin = bench.admin().await;
    assert_eq!(admin.fence_lower_epochs(prefix, 10).await.unwrap(), 1);
    assert_eq!(admin.fence_lower_epochs(prefix, 10).await.unwrap(), 0);
    assert!(open_is_dead(&old).await);
    for session in [&same, &odd, &other] {
        session.execute_script("select 1").await.unwrap();
    }
}

//! Every sslmode against a server with a certificate for `localhost`.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use freehold_drivers::platform::process::Cluster;
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{Dsn, Session, SqlErrorKind, SslMode};

use crate::bench::{Engine, ask, directory, options, tcp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_modes_encrypt_and_verify_as_their_names_say() {
    for engine in [Engine::Pg15, Engine::Pg18] {
        modes_of(engine).await;
    }
}

async fn modes_of(engine: Engine) {
    let dir = directory();
    let at = |name: &str| dir.path().join(name);
    authority(dir.path(), "ca");
    authority(dir.path(), "other");
    openssl(
        dir.path(),
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server.key -out server.csr",
    );
    openssl(
        dir.path(),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 10 -copy_extensions copy -out server.pem",
    );

    let mut options = options(engine, dir.path());
    for (name, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
        options.settings.insert(name.into(), at(file).display().to_string());
    }
    options.settings.insert("ssl".into(), "on".into());
    std::fs::set_permissions(at("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    if let (true, Some(user)) =
        (nix::unistd::Uid::effective().is_root(), nix::unistd::User::from_name("postgres").unwrap())
    {
        chown(at("server.key"), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let cluster = Cluster::new(options).unwrap();
    cluster.start().await.unwrap();
    let password = Password::random(20);
    let superuser = Session::connect(&cluster.admin_dsn(), None, "t", &[]).await.unwrap();
    superuser.execute_script(&format!("create role u login password '{}'", scram_verifier(&password))).await.unwrap();

    let address = tcp(&cluster).with_user("u", password);
    let by_name = address.with_host("localhost", address.port());
    let trusted = std::fs::read(at("ca.pem")).unwrap();
    let other = std::fs::read(at("other.pem")).unwrap();

    let encrypted = async |dsn: &Dsn, mode| match Session::connect(&dsn.with_sslmode(mode), None, "t", &[]).await {
        Ok(session) => Ok(ask(&session, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").await),
        Err(error) => Err(error.kind),
    };
    assert_eq!(encrypted(&address, SslMode::Disable).await, Ok("f".into()));
    for mode in [SslMode::Prefer, SslMode::Require] {
        assert_eq!(encrypted(&address, mode).await, Ok("t".into()));
    }
    for (dsn, mode, expected) in [
        (address.with_ca_pem(&trusted), SslMode::VerifyCa, Ok("t".into())),
        (by_name.with_ca_pem(&trusted), SslMode::VerifyFull, Ok("t".into())),
        (address.with_ca_pem(&trusted), SslMode::VerifyFull, Err(SqlErrorKind::Tls)),
        (by_name.with_ca_pem(&other), SslMode::VerifyFull, Err(SqlErrorKind::Tls)),
        (by_name.with_ca_pem(&other), SslMode::VerifyCa, Err(SqlErrorKind::Tls)),
        (by_name.with_ca_pem(b"nothing"), SslMode::VerifyFull, Err(SqlErrorKind::Tls)),
        (by_name, SslMode::VerifyFull, Err(SqlErrorKind::Tls)),
    ] {
        assert_eq!(encrypted(&dsn, mode).await, expected, "{dsn}");
    }
    cluster.stop().await;
}

fn authority(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!("req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -days 10 -keyout {name}.key -out {name}.pem"),
    );
}

fn openssl(dir: &Path, arguments: &str) {
    let output =
        Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

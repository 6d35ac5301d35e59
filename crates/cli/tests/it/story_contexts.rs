//! Which control plane: flags, environment, then files. A key goes to its own address only.

use std::os::unix::fs::PermissionsExt;

use freehold_cli::write_context;
use serde_json::json;

use crate::fake::{Answer, Dir, Fake, Run};

async fn listening() -> Fake {
    Fake::start(|_, _| Answer::Json(200, json!({ "items": [], "next_cursor": null }))).await
}

fn key_of(fake: &Fake) -> Option<String> {
    fake.seen().last().map(|asked| asked.headers["authorization"].replace("Bearer ", ""))
}

#[tokio::test]
async fn the_nearest_context_wins() {
    let dir = Dir::new();
    let fake = listening().await;
    let place = |name: &str, key: &str| write_context(dir.path(name).as_ref(), &fake.url, key).unwrap();
    let run = || {
        let system = dir.0.join("system");
        Run::new(&[]).env("HOME", &dir.path("home")).with(|around| around.system_data_dir = system)
    };
    let list = &["tenant", "list"];

    let ran = run().run(list).await;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("no client context") && ran.stderr.contains("freehold dev"), "{}", ran.stderr);

    place("system/client.toml", "of-the-system");
    assert_eq!((run().run(list).await.code, key_of(&fake).as_deref()), (0, Some("of-the-system")));
    place("home/.local/share/freehold/client.toml", "of-dev");
    assert_eq!((run().run(list).await.code, key_of(&fake).as_deref()), (0, Some("of-dev")));
    let as_root = run().with(|around| around.is_root = true).run(list).await;
    assert_eq!((as_root.code, key_of(&fake).as_deref()), (0, Some("of-the-system")));
    place("home/.config/freehold/client.toml", "of-home");
    assert_eq!((run().run(list).await.code, key_of(&fake).as_deref()), (0, Some("of-home")));
    place("xdg/freehold/client.toml", "of-xdg");
    let xdg = || run().env("XDG_CONFIG_HOME", &dir.path("xdg"));
    assert_eq!((xdg().run(list).await.code, key_of(&fake).as_deref()), (0, Some("of-xdg")));
    place("named.toml", "of-variable");
    let named = || xdg().env("FREEHOLD_CONTEXT", &dir.path("named.toml"));
    assert_eq!((named().run(list).await.code, key_of(&fake).as_deref()), (0, Some("of-variable")));
    place("flag.toml", "of-flag");
    let flag = dir.path("flag.toml");
    assert_eq!(
        (named().run(&["tenant", "list", "--context", &flag]).await.code, key_of(&fake).as_deref()),
        (0, Some("of-flag"))
    );
    let keyed = named().env("FREEHOLD_API_KEY", "of-env").run(list).await;
    assert_eq!((keyed.code, key_of(&fake).as_deref()), (0, Some("of-env")));
    std::fs::write(dir.path("key"), "of-file\n").unwrap();
    let filed = named().env("FREEHOLD_API_KEY", "x").run(&["--api-key-file", &dir.path("key"), "tenant", "list"]).await;
    assert_eq!((filed.code, key_of(&fake).as_deref()), (0, Some("of-file")));
}

#[tokio::test]
async fn a_key_is_not_sent_to_another_address() {
    let dir = Dir::new();
    let (own, other) = (listening().await, listening().await);
    write_context(dir.path("c.toml").as_ref(), &own.url, "secret-key").unwrap();
    let ran =
        Run::new(&[]).env("FREEHOLD_CONTEXT", &dir.path("c.toml")).run(&["tenant", "list", "--url", &other.url]).await;
    assert_eq!((ran.code, other.seen().len()), (3, 0));
    assert!(ran.stderr.contains("belongs to another address") && !ran.stderr.contains("secret-key"), "{}", ran.stderr);
}

#[tokio::test]
async fn bad_contexts_are_3_and_show_no_key() {
    let dir = Dir::new();
    for text in [
        "api_key = \"secret-key",
        "url = \"ftp://x\"\napi_key = \"secret-key\"",
        "api_key = \"secret-key\"",
        "key = \"secret-key\"",
    ] {
        std::fs::write(dir.path("c.toml"), text).unwrap();
        let ran = Run::new(&[]).env("FREEHOLD_CONTEXT", &dir.path("c.toml")).run(&["status"]).await;
        assert_eq!(ran.code, 3, "{text}: {}", ran.stderr);
        assert!(!ran.stderr.contains("secret-key"), "{}", ran.stderr);
    }
}

#[test]
fn a_written_context_is_private_and_replaces_the_old_one() {
    let dir = Dir::new();
    let path = dir.0.join("new/client.toml");
    write_context(&path, "http://old", "old").unwrap();
    write_context(&path, "http://127.0.0.1:8400", "fh_\"x").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "url = \"http://127.0.0.1:8400\"\napi_key = 'fh_\"x'\n");
    assert_eq!(std::fs::read_dir(dir.0.join("new")).unwrap().count(), 1);
}

//! [`Plane`] with a stand-in for the binary, which this crate cannot know. The real one is tested where it is built.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use freehold_testkit::{Directory, Plane, processes_under};
use serde_json::json;

/// Becomes ready at its second look, leaves a child in its data directory, and echoes what it is asked.
const STAND_IN: &str = r#"#!/usr/bin/env python3
import http.server, json, os, signal, subprocess, sys
args = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if sys.argv[1] != 'dev':
    print(os.environ['FREEHOLD_URL'], os.environ['FREEHOLD_API_KEY'], *sys.argv[1:]); sys.exit(5)
data, listen = args['--data-dir'], args['--listen']
if os.environ.get('BROKEN'):
    print('no disk', flush=True); sys.exit(3)
os.makedirs(data, exist_ok=True)
with open(data + '/client.toml', 'w') as f:
    f.write('url = "http://%s"\napi_key = "fh_key"\n' % listen)
subprocess.Popen(['sleep', '600'], cwd=data, start_new_session=True)
print('started with', os.environ.get('EXTRA'), args.get('--stock'), flush=True)
looks = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        global looks
        looks += 1
        size = int(self.headers.get('content-length') or 0)
        body = {'path': self.path, 'method': self.command, 'key': self.headers.get('authorization'), 'body': self.rfile.read(size).decode()}
        self.send_response(503 if looks < 2 else 200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() if self.path != '/metrics' else b'plain 1')
    do_GET = do_POST = do_PATCH = do_DELETE = answer
    def log_message(self, *args): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
host, port = listen.split(':')
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"#;

fn stand_in(directory: &Directory) -> PathBuf {
    let path = directory.path().join("freehold");
    fs::write(&path, STAND_IN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_plane_is_spoken_to_killed_and_restarted() {
    let directory = Directory::new();
    let mut plane = Plane::dev(stand_in(&directory)).stock(3).start().await;
    let (status, _, body) = plane.post("/v1/tenants", json!({"id": "a"})).await;
    assert_eq!((status, &body["key"], &body["body"]), (200, &json!("Bearer fh_key"), &json!("{\"id\":\"a\"}")));
    let none = plane.request(reqwest::Method::GET, "/x", &[("authorization", "")], None).await;
    assert_eq!(none.2["key"], json!(null));
    assert_eq!(plane.get("/metrics").await.2, json!("plain 1"));
    let cli = plane.cli(&["tenant", "list"]);
    assert_eq!(cli.status.code(), Some(5));
    assert_eq!(String::from_utf8(cli.stdout).unwrap(), format!("{} fh_key tenant list\n", plane.url()));

    plane.stop_signal();
    plane.cont_signal();
    assert!(plane.sigterm_and_wait().await.success());
    plane.restart(&[("EXTRA", "one")]).await;
    plane.kill_group().await;
    assert!(!processes_under(plane.directory()).is_empty(), "what left the group lives on");
    plane.start_again().await;
    plane.restart(&[("EXTRA", "")]).await;
    plane.kill_everything().await;
    plane.start_again().await;
    let output = plane.output();
    let starts: Vec<&str> = output.lines().filter(|line| line.starts_with("started")).collect();
    let (none, one) = ("started with None 3", "started with one 3");
    assert_eq!(starts, [none, one, one, none, none]);
    plane.stop_signal();
    let path = plane.directory().to_owned();
    let pid = plane.pid();
    plane.cont_signal();
    drop(plane);
    assert!(!path.exists() && processes_under(&path).is_empty());
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

#[tokio::test]
#[should_panic(expected = "no disk")]
async fn a_plane_that_does_not_start_shows_its_output() {
    let directory = Directory::new();
    Plane::dev(stand_in(&directory)).env("BROKEN", "1").start().await;
}

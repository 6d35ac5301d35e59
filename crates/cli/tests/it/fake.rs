//! A control plane that says what a test wants, and a terminal that remembers what was printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Parser;
use freehold_cli::{Command, Global, Surroundings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const OPERATION: &str = "01970000-0000-7000-8000-000000000001";

#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET /v1/tenants?limit=1`
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub enum Answer {
    Json(u16, Value),
    With(u16, &'static str, Value),
    Events(String),
    /// Closes the connection without a word.
    HangUp,
}

type Handler = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// `handler` gets each request and how many came before it.
    pub async fn start(handler: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let record = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), record.clone()));
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub async fn run(&self, args: &[&str]) -> Ran {
        Run::new(&[]).env("FREEHOLD_URL", &self.url).env("FREEHOLD_API_KEY", "fh_test").run(args).await
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Asked>>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    let (status, extra, kind, body) = match handler(&asked, before) {
        Answer::Json(204, _) => (204, "", "application/json", String::new()),
        Answer::Json(status, body) => (status, "", "application/json", body.to_string()),
        Answer::With(status, header, body) => (status, header, "application/json", body.to_string()),
        Answer::Events(text) => (200, "", "text/event-stream", text),
        Answer::HangUp => return,
    };
    let extra = if extra.is_empty() { String::new() } else { format!("{extra}\r\n") };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { line, headers, body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned() })
}

#[derive(Parser)]
#[command(name = "freehold")]
pub struct Program {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug)]
pub struct Ran {
    pub code: u8,
    pub stdout: String,
    pub stderr: String,
}

/// What one command runs in.
pub struct Run {
    around: Surroundings,
    stdout: Page,
    stderr: Page,
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Run {
    pub fn new(stdin: &'static [u8]) -> Self {
        let (stdout, stderr) = (Page::default(), Page::default());
        let around = Surroundings {
            env: BTreeMap::new(),
            is_root: false,
            system_data_dir: PathBuf::from("/nonexistent/system"),
            stdin: Box::new(stdin),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            now: "2026-01-10T12:00:00Z".parse().unwrap(),
        };
        Self { around, stdout, stderr }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.around.env.insert(name.into(), value.into());
        self
    }

    /// A terminal without colours.
    pub fn on_a_terminal(mut self) -> Self {
        self.around.stdout_is_terminal = true;
        self.env("NO_COLOR", "1")
    }

    pub fn with(mut self, change: impl FnOnce(&mut Surroundings)) -> Self {
        change(&mut self.around);
        self
    }

    pub async fn run(self, args: &[&str]) -> Ran {
        let program = match Program::try_parse_from(std::iter::once(&"freehold").chain(args)) {
            Ok(program) => program,
            Err(error) => return Ran { code: 2, stdout: String::new(), stderr: error.to_string() },
        };
        let code = freehold_cli::run_in(program.command, program.global, self.around).await;
        Ran { code, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

/// A directory of one test, removed at its end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("freehold-cli-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn problem(status: u16, code: &str) -> Answer {
    Answer::Json(
        status,
        json!({ "type": "about:blank", "title": "T", "status": status, "code": code, "detail": format!("because {code}") }),
    )
}

pub fn tenant(id: &str) -> Value {
    json!({
        "id": id, "name": id, "plan": "standard", "region": null, "template": "default",
        "template_version": "0123456789ab", "labels": {}, "state": "active", "state_since": "2026-01-10T11:57:00Z",
        "state_reason": null, "server": "local-1", "deletion_protection": false, "deleted_at": null, "purge_at": null,
        "missing_extensions": [], "operation": null,
        "created_at": "2026-01-10T11:57:00Z", "updated_at": "2026-01-10T11:57:00Z"
    })
}

pub fn connection() -> Value {
    let endpoint = |port: u16| {
        json!({
            "url": format!("postgres://u:p%27w@db.example:{port}/d?sslmode=require"), "host": "db.example", "port": port,
            "database": "d", "user": "u", "password": "p'w", "sslmode": "require"
        })
    };
    let mut pooled = endpoint(6432);
    pooled["ready"] = json!(true);
    json!({ "direct": endpoint(5432), "pooled": pooled })
}

pub fn operation(state: &str) -> Value {
    let error =
        (state == "stuck" || state == "failed").then(|| json!({ "code": "admin_denied", "message": "no CREATEDB" }));
    json!({
        "id": OPERATION, "kind": "tenant.create", "subject": "tenant:acme", "state": state, "step": "Database",
        "progress": null, "attempt": 1, "error": error, "cancel_requested": false, "next_run_at": null, "deadline": null,
        "created_at": "2026-01-10T11:59:00Z", "updated_at": "2026-01-10T11:59:30Z", "finished_at": null
    })
}

pub fn event(seq: i64, state: &str, step: &str) -> String {
    let data =
        json!({ "seq": seq, "at": "2026-01-10T11:59:00Z", "state": state, "step": step, "attempt": 1, "error": null });
    format!("id: {seq}\ndata: {data}\n\n")
}

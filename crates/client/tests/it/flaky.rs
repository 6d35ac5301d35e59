//! A server that carries requests out as Freehold does, once per `Idempotency-Key`, and then fails to say so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_client::{Client, Patience};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const OPERATION: &str = "01970000-0000-7000-8000-000000000001";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Hangs up before it has read anything.
    HangUp,
    /// Reads, and hangs up without doing anything.
    Forget,
    /// Does it, and hangs up.
    LoseAnswer,
    /// Does it, and hangs up in the middle of the answer, whose length it has announced.
    HalfAnswer,
    /// The same, without having announced a length.
    HalfJson,
    /// Does it, and says nothing for longer than anybody waits.
    Silence,
    /// A status from a proxy, or from a server that is too busy; not carried out.
    Status(u16),
    /// 504 from a proxy that stopped waiting for what was carried out.
    TooLate,
    /// 409 `idempotency_in_flight`.
    InFlight,
}

impl Fault {
    /// Whether the request may have been carried out, as far as whoever sent it can tell.
    pub fn is_ambiguous(self) -> bool {
        match self {
            Self::Status(status) => !matches!(status, 429 | 503),
            Self::InFlight => false,
            // A connection that was taken and closed: nobody knows what was read before.
            Self::HangUp
            | Self::Forget
            | Self::LoseAnswer
            | Self::HalfAnswer
            | Self::HalfJson
            | Self::Silence
            | Self::TooLate => true,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub at: tokio::time::Instant,
}

#[derive(Default)]
struct Seen {
    faults: VecDeque<Fault>,
    asked: Vec<Asked>,
    /// What was carried out, by idempotency key, or by the number of the request.
    effects: Vec<String>,
}

#[derive(Clone)]
pub struct Flaky {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    retry_after: &'static str,
}

impl Flaky {
    pub async fn start(faults: Vec<Fault>) -> Self {
        Self::start_with(faults, "0").await
    }

    pub async fn start_with(faults: Vec<Fault>, retry_after: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen { faults: faults.into(), ..Seen::default() }));
        let flaky = Self { url, seen, retry_after };
        let server = flaky.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        flaky
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().asked.clone()
    }

    pub fn effects(&self) -> Vec<String> {
        self.seen.lock().unwrap().effects.clone()
    }

    pub fn client(&self) -> Client {
        Client::builder(&self.url, "fh_test").patience(patience()).build().unwrap()
    }

    async fn serve(self, mut stream: TcpStream) {
        let fault = self.seen.lock().unwrap().faults.pop_front();
        if fault == Some(Fault::HangUp) {
            return;
        }
        let Some(asked) = read(&mut stream).await else { return };
        let is_change = !asked.line.starts_with("GET");
        let effect = {
            let mut seen = self.seen.lock().unwrap();
            seen.asked.push(asked.clone());
            asked.headers.get("idempotency-key").cloned().unwrap_or_else(|| seen.asked.len().to_string())
        };
        let refused = |status: u16, code: &str| {
            let problem = json!({"type": "about:blank", "title": "T", "status": status, "code": code, "detail": "no"});
            answer(status, &problem.to_string(), &format!("retry-after: {}\r\n", self.retry_after))
        };
        let early = match fault {
            Some(Fault::Forget) => Some(String::new()),
            Some(Fault::Status(status)) => Some(refused(status, "")),
            Some(Fault::InFlight) => Some(refused(409, "idempotency_in_flight")),
            _ => None,
        };
        if let Some(early) = early {
            let _ = stream.write_all(early.as_bytes()).await;
            return;
        }
        if is_change {
            let mut seen = self.seen.lock().unwrap();
            if !seen.effects.contains(&effect) {
                seen.effects.push(effect);
            }
        }
        let body = tenant("acme").to_string();
        let whole = answer(if asked.line.starts_with("POST") { 201 } else { 200 }, &body, "");
        let said = match fault {
            Some(Fault::LoseAnswer) => "",
            Some(Fault::HalfAnswer) => &whole[..whole.len() - body.len() / 2],
            Some(Fault::HalfJson) => &format!(
                "HTTP/1.1 200 x\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{}",
                &body[..body.len() / 2]
            ),
            Some(Fault::Silence) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                ""
            }
            Some(Fault::TooLate) => &answer(504, "<html>gateway timeout", ""),
            _ => &whole,
        };
        let _ = stream.write_all(said.as_bytes()).await;
    }
}

/// So short that a test of hundreds of tries takes seconds.
pub fn patience() -> Patience {
    Patience {
        retry_for: Duration::from_secs(20),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        answer_within: Duration::from_millis(200),
        settle_within: Duration::from_millis(999),
    }
}

pub fn answer(status: u16, body: &str, headers: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub async fn read(stream: &mut TcpStream) -> Option<Asked> {
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
    Some(Asked { line, headers, at: tokio::time::Instant::now() })
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

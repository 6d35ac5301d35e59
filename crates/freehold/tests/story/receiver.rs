//! Somebody whom Freehold posts to, who may refuse, and remembers what was taken.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

const TOKEN: &str = "token-that-nobody-may-see";

#[derive(Debug, Clone)]
pub struct Taken {
    headers: HeaderMap,
    body: Bytes,
}

impl Taken {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

pub struct Receiver {
    pub url: String,
    status: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let (status, taken) = (Arc::new(AtomicU16::new(204)), Arc::<Mutex<Vec<Taken>>>::default());
        let (answer, take) = (status.clone(), taken.clone());
        let hook = move |headers: HeaderMap, body: Bytes| async move {
            let status = StatusCode::from_u16(answer.load(Ordering::Relaxed)).unwrap();
            if status.is_success() {
                take.lock().unwrap().push(Taken { headers, body });
            }
            status
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token={TOKEN}", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, Router::new().route("/hook", post(hook))).await });
        Self { url, status, taken }
    }

    /// From now on, with this status; what is not 2xx is not taken.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

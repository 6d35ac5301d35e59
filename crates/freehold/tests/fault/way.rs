//! The way to a server, as a test wants it: to one cluster, to another, to nobody who answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// A port on loopback that leads where it is told. Connections keep leading where they led when they began.
///
/// It runs on a thread of its own: a test that waits for PostgreSQL to stop blocks its own thread, and a
/// connection that stands still before its first byte holds PostgreSQL up for `authentication_timeout`.
pub struct Way {
    pub port: u16,
    to: Arc<Mutex<Option<u16>>>,
    runs: Option<Runtime>,
}

impl Way {
    pub async fn to(port: u16) -> Self {
        let runs = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread of its own");
        let listener = runs.spawn(TcpListener::bind("127.0.0.1:0")).await.expect("its thread").expect("listen");
        let (here, to) = (listener.local_addr().expect("its address").port(), Arc::new(Mutex::new(Some(port))));
        let target = to.clone();
        runs.spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let to = *target.lock().expect("nobody panics with it");
                match to {
                    Some(port) => drop(tokio::spawn(async move {
                        if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    })),
                    // Let in, and never answered.
                    None => silent.push(client),
                }
            }
        });
        Self { port: here, to, runs: Some(runs) }
    }

    pub async fn silent() -> Self {
        let way = Self::to(1).await;
        way.lead(None);
        way
    }

    pub fn lead(&self, to: Option<u16>) {
        *self.to.lock().expect("nobody panics with it") = to;
    }

    /// A connection string of the testkit, by this way.
    pub fn dsn(&self, direct: &str) -> String {
        let (head, tail) = direct.rsplit_once("@127.0.0.1:").expect("a connection string over TCP");
        let (_, tail) = tail.split_once('/').expect("with a database");
        format!("{head}@127.0.0.1:{}/{tail}", self.port)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.runs.take().expect("it is dropped once").shutdown_background();
    }
}

/// A port on loopback that takes no part in a handshake: its queue is full, and what knocks is dropped.
pub struct Dropping {
    pub port: u16,
    _queue: (TcpListener, Vec<TcpStream>),
}

impl Dropping {
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let listener = socket.listen(1).expect("listen");
        let port = listener.local_addr().expect("its address").port();
        let mut queue = Vec::new();
        let knock = std::time::Duration::from_millis(300);
        while let Ok(Ok(stream)) = tokio::time::timeout(knock, TcpStream::connect(("127.0.0.1", port))).await {
            queue.push(stream);
        }
        Self { port, _queue: (listener, queue) }
    }
}

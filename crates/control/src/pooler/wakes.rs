//! Wakes the agents that wait in this process for another assignment. A hint: what another process changed they see
//! when they look by themselves.

use tokio::sync::watch;

#[derive(Clone)]
pub struct Wakes(watch::Sender<State>);

#[derive(Default)]
struct State {
    pokes: u64,
    closed: bool,
}

impl Default for Wakes {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

/// One who waits.
pub struct Awake(watch::Receiver<State>);

impl Wakes {
    pub fn poke(&self) {
        self.0.send_modify(|state| state.pokes += 1);
    }

    /// The process ends: nobody is kept waiting.
    pub fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    pub fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    /// Hears of everything from now on.
    pub fn listen(&self) -> Awake {
        Awake(self.0.subscribe())
    }
}

impl Awake {
    pub async fn poked(&mut self) {
        // The sender lives as long as the plane, which answers this.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! A TCP port on 127.0.0.1 that nobody else takes: not another test, because each port has a locked file, and no
//! outgoing connection, because it is below the range that the system gives to those.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;

use rand::RngExt;

use crate::directory;

/// Ours until it is dropped.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    pub fn reserve() -> Self {
        let locks = directory::shared("ports");
        let mut random = rand::rng();
        for _ in 0..1000 {
            let number = random.random_range(15_000..32_000);
            let path = locks.join(number.to_string());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let lock = lock.unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("of 1000 ports tried between 15000 and 32000, none is free");
    }
}

/// A block of ports, for whoever gives them out himself: below those that [`Port`] takes from.
#[derive(Debug)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
    _lock: File,
}

impl Ports {
    pub fn reserve() -> Self {
        const SIZE: u16 = 40;
        let locks = directory::shared("ports");
        let mut random = rand::rng();
        for _ in 0..1000 {
            let first = 9_000 + random.random_range(0..140) * SIZE;
            let path = locks.join(format!("{first}-{SIZE}"));
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let lock = lock.unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
            if lock.try_lock().is_ok() {
                return Self { first, last: first + SIZE - 1, _lock: lock };
            }
        }
        panic!("all blocks of ports between 9000 and 14600 are taken");
    }
}

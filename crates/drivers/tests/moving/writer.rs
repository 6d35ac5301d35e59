//! Clients that write all the time, to whoever serves, and remember what they were told is committed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_drivers::server::sql::{Dsn, Session};
use freehold_testkit::Told;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::world::ask;

#[derive(Default)]
struct Wrote {
    told: Told,
    failed: Vec<String>,
    over: bool,
}

pub struct Writers {
    serves: Arc<Mutex<Dsn>>,
    wrote: Arc<Mutex<Wrote>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(dsn: Dsn, count: i64) -> Self {
        let (serves, wrote) = (Arc::new(Mutex::new(dsn)), Arc::new(Mutex::new(Wrote::default())));
        let tasks = (0..count).map(|who| tokio::spawn(write(who, serves.clone(), wrote.clone()))).collect();
        Self { serves, wrote, tasks }
    }

    pub fn go_to(&self, dsn: Dsn) {
        *self.serves.lock().unwrap() = dsn;
    }

    /// Waits until so many more are committed.
    pub async fn more(&self, count: usize) {
        let before = self.committed();
        for _ in 0..3000 {
            if self.committed() >= before + count {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the writers do not get on: {:?}", self.wrote.lock().unwrap().failed);
    }

    pub fn committed(&self) -> usize {
        self.wrote.lock().unwrap().told.committed.len()
    }

    pub async fn stop(&mut self) {
        self.wrote.lock().unwrap().over = true;
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }

    /// Every commit once, in the table with a key and in the one without; nothing else; what a trigger counted, once.
    pub async fn check(&self, serving: &Session) {
        let told = {
            let wrote = self.wrote.lock().unwrap();
            assert_eq!(wrote.failed, Vec::<String>::new());
            wrote.told.clone()
        };
        assert!(told.committed.len() > 50, "{}", told.committed.len());
        for table in ["ledger", "\"keyless\"", "audited"] {
            let ids =
                ask(serving, &format!("select coalesce(string_agg(id::text, ',' order by id), '') from {table}")).await;
            let ids: Vec<i64> = ids.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect();
            told.compare(table, &ids).unwrap();
        }
        let counted = ask(serving, "select sum(n) = (select count(*) from ledger) from counters").await;
        assert_eq!(counted, "t");
    }
}

async fn write(who: i64, serves: Arc<Mutex<Dsn>>, wrote: Arc<Mutex<Wrote>>) {
    let mut session: Option<Session> = None;
    let mut id = who * 1_000_000;
    while !wrote.lock().unwrap().over {
        let Some(open) = session.as_ref().filter(|session| !session.is_closed()) else {
            let dsn = serves.lock().unwrap().clone();
            session = Session::connect(&dsn, None, "app", &[]).await.ok();
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        id += 1;
        // Without a key, whoever applies it reads the whole table.
        let seldom = match id % 20 {
            0 => format!("update \"keyless\" set what = 'y' where id = {id};"),
            _ => String::new(),
        };
        // The ticket comes from a sequence: one that fell back would be there already.
        let sql = format!(
            "begin; insert into ledger (id, ticket, note) values ({id}, nextval('tickets'), 'né''{id}'); \
             insert into \"keyless\" values ({id}, 'x'); {seldom} \
             update counters set n = n + 1 where who = {who}; commit"
        );
        match open.execute_script(&sql).await {
            Ok(()) => drop(wrote.lock().unwrap().told.committed.insert(id)),
            Err(error) if error.sqlstate.as_deref() == Some("57P01") || error.sqlstate.is_none() => {
                wrote.lock().unwrap().told.unknown.insert(id);
                session = None;
            }
            Err(error) => {
                wrote.lock().unwrap().failed.push(error.to_string());
                return;
            }
        }
        sleep(Duration::from_millis(4)).await;
    }
}

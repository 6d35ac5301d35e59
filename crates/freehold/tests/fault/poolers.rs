//! Poolers that Freehold starts and ends: what the scenarios about them need, and what is left on the platform.

use freehold_testkit::Ports;
use reqwest::Method;
use serde_json::json;

use crate::rig::Rig;
use crate::scenario::Scenario;
use crate::serving::{Serve, until};

/// Poolers come when somebody asks for one, and not before.
pub const PLATFORM: &str = r#"
[stock]
per_template = 0
[pooler]
capacity = 10
[pooler.platform]
kind = "process"
headroom = 0
"#;

const MANAGED: &str = "front";

impl Scenario {
    pub fn is_about_poolers(self) -> bool {
        matches!(self, Self::StartPooler | Self::RemovePooler)
    }

    pub(crate) async fn prepare_pooler(self, serve: &Serve) {
        if self == Self::RemovePooler {
            let (status, body) = serve.post("/v1/poolers", json!({"id": MANAGED})).await;
            assert_eq!(status, 201, "{body}\n{}", serve.output());
        }
    }

    pub(crate) fn act_on_pooler(self) -> (Method, String, Option<serde_json::Value>) {
        match self {
            Self::StartPooler => {
                (Method::POST, "/v1/poolers".into(), Some(json!({"id": MANAGED, "platform": "process"})))
            }
            Self::RemovePooler => (Method::DELETE, format!("/v1/poolers/{MANAGED}"), None),
            other => unreachable!("{other:?} is not about poolers"),
        }
    }

    /// As before the first run.
    pub(crate) async fn clean_poolers(self, rig: &Rig, serve: &Serve) {
        if serve.get(&format!("/v1/poolers/{MANAGED}")).await.0 == 200 {
            let (status, body) = serve.request(Method::DELETE, &format!("/v1/poolers/{MANAGED}"), None).await;
            assert!(status == 204 || status == 202, "{status} {body}\n{}", serve.output());
            until("it is removed", async || serve.get(&format!("/v1/poolers/{MANAGED}")).await.0 == 404).await;
        }
        assert_eq!(rig.poolers(), Vec::<String>::new(), "something is left on the platform");
    }
}

/// Where they go, for settings that end with that table.
pub fn places(settings: &str, directory: &std::path::Path, ports: &Ports) -> String {
    if !settings.contains("[pooler.platform]") {
        return String::new();
    }
    let (dir, program) = (directory.join("q"), freehold_testkit::pooler_engine("1.24"));
    let (dir, program, first, last) = (dir.display(), program.display(), ports.first, ports.last);
    format!("data_dir = \"{dir}\"\nports = \"{first}-{last}\"\npgbouncer = \"{program}\"\n")
}

impl Rig {
    /// What is on record as running runs, once more where it was ended and its removal came to nothing.
    pub async fn poolers_are_back(&self) {
        let sql = "SELECT count(*) FROM pooler p JOIN pooler_service v ON v.pooler_id = p.id WHERE p.state IN ('active', 'cordoned')";
        until("poolers run that are to", async || {
            let running = self.poolers().iter().filter(|line| line.contains("agents=1 pgbouncers=1")).count();
            running >= 1 || self.count(sql).await == 0
        })
        .await;
    }

    pub fn pooler_dir(&self) -> std::path::PathBuf {
        self.directory().join("q")
    }

    /// Every pooler that is on the platform, with how many agents and PgBouncers it has.
    pub fn poolers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.pooler_dir()) else { return Vec::new() };
        let mut poolers: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| {
                let all = freehold_testkit::processes_under(&entry.path()).len();
                let of_pgbouncer = freehold_testkit::processes_under(&entry.path().join("run")).len();
                let has = |name: &str| entry.path().join(name).is_file();
                format!(
                    "pooler {} agents={} pgbouncers={of_pgbouncer} key={} record={}",
                    entry.file_name().to_string_lossy(),
                    all - of_pgbouncer,
                    has("key"),
                    has("service.json")
                )
            })
            .collect();
        poolers.sort();
        poolers
    }
}

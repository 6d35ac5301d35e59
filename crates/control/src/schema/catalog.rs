//! Templates, parsed: the current ones as a snapshot of a second, and the versions that were lately worked with, which
//! never change. A create reads no files and parses nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freehold_api::template::Template;
use freehold_durable::Failure;
use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::store;

const FRESH: Duration = Duration::from_secs(1);
/// Versions that are remembered. With more in use at once some are read again.
const VERSIONS: usize = 64;

/// By name; and whether stock of it is kept.
pub type Templates = BTreeMap<String, (Arc<Template>, bool)>;
/// By name and version.
type Versions = HashMap<(String, String), Arc<Template>>;

#[derive(Clone, Default)]
pub struct Catalog {
    snapshot: Arc<Mutex<Option<Snapshot>>>,
    versions: Arc<Mutex<Versions>>,
}

struct Snapshot {
    /// When it was last compared with the store.
    seen: Instant,
    templates: Arc<Templates>,
}

impl Catalog {
    pub async fn all(&self, store: &PgPool) -> sqlx::Result<Arc<Templates>> {
        let mut snapshot = self.snapshot.lock().await;
        if let Some(known) = snapshot.as_mut() {
            if known.seen.elapsed() < FRESH {
                return Ok(known.templates.clone());
            }
            if unchanged(store, &known.templates).await? {
                known.seen = Instant::now();
                return Ok(known.templates.clone());
            }
        }
        let mut templates = Templates::new();
        for row in store::current(store).await? {
            // What is in the store was valid when it came in; a release that no longer reads it must say so.
            match row
                .name
                .parse()
                .map_err(|e| format!("{e}"))
                .and_then(|name| Template::parse(name, row.files.0).map_err(|e| e.to_string()))
            {
                Ok(template) => {
                    templates.insert(row.name, (Arc::new(template), row.stocked));
                }
                Err(error) => tracing::error!(
                    template = row.name,
                    error,
                    "template cannot be read; creates that name it are refused"
                ),
            }
        }
        let templates = Arc::new(templates);
        *snapshot = Some(Snapshot { seen: Instant::now(), templates: templates.clone() });
        Ok(templates)
    }

    pub async fn find(&self, store: &PgPool, name: &str) -> sqlx::Result<Option<Arc<Template>>> {
        Ok(self.all(store).await?.get(name).map(|(template, _)| template.clone()))
    }

    /// Of whatever version, also one that is not current any more. None: there is none.
    pub async fn version(&self, store: &PgPool, name: &str, version: &str) -> Result<Option<Arc<Template>>, Failure> {
        let key = (name.to_owned(), version.to_owned());
        if let Some(known) = self.versions.lock().await.get(&key) {
            return Ok(Some(known.clone()));
        }
        let Some(row) = store::version(store, name, version).await? else { return Ok(None) };
        let invalid = |bad: String| Failure::permanent("template_invalid", bad);
        let name = row.name.parse().map_err(|bad| invalid(format!("{bad}")))?;
        let template = Arc::new(Template::parse(name, row.files.0).map_err(|bad| invalid(bad.to_string()))?);
        let mut versions = self.versions.lock().await;
        if versions.len() >= VERSIONS {
            versions.clear();
        }
        versions.insert(key, template.clone());
        Ok(Some(template))
    }

    pub async fn forget(&self) {
        *self.snapshot.lock().await = None;
    }
}

/// Compares versions only, so that the files cross the wire when they changed and not every second.
async fn unchanged(store: &PgPool, known: &Templates) -> sqlx::Result<bool> {
    let rows: Vec<(String, String, bool)> =
        sqlx::query_as("SELECT name, version, stocked FROM template WHERE current ORDER BY name")
            .fetch_all(store)
            .await?;
    let same = |(name, version, stocked): &(String, String, bool)| {
        known.get(name).is_some_and(|(template, was)| template.version == *version && was == stocked)
    };
    Ok(rows.len() == known.len() && rows.iter().all(same))
}

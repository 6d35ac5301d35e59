//! Lists and shows poolers.

use axum::extract::State;
use freehold_api::id::PoolerId;
use freehold_api::page::Page;
use freehold_api::pooler::{
    ExternalPooler, ListPoolers, Pooler, PoolerHealth, PoolerKind, PoolerManagement, PoolerPlatform, PoolerState,
};
use freehold_api::problem::Code;
use jiff_sqlx::Timestamp;

use super::store::{self, PoolerRow};
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};

/// List poolers
#[utoipa::path(get, path = "/v1/poolers", tag = "poolers", params(ListPoolers),
    responses((status = 200, description = "A page of poolers, by name", body = Page<Pooler>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<ListPoolers>) -> Answer<Json<Page<Pooler>>> {
    let limit = limit(query.limit)?;
    let after: Option<String> = cursor(query.cursor.as_deref())?;
    let mut rows = store::page(&plane.store, after.as_deref(), limit + 1).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|found| next_cursor(&found.id));
    Ok(Json(Page { items: rows.into_iter().map(Pooler::from).collect(), next_cursor: next }))
}

/// Show one pooler
#[utoipa::path(get, path = "/v1/poolers/{id}", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 200, description = "The pooler", body = Pooler)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<PoolerId>) -> Answer<Json<Pooler>> {
    Ok(Json(find(&plane.core, &id).await?.into()))
}

pub async fn find(core: &Core, id: &PoolerId) -> Answer<PoolerRow> {
    store::find(&core.store, id.as_str()).await?.ok_or_else(|| not_found(id))
}

pub fn not_found(id: &PoolerId) -> Refused {
    Refused::new(Code::NotFound, format!("there is no pooler {id}; `freehold pooler list` shows them"))
}

impl PoolerRow {
    pub fn is_external(&self) -> bool {
        self.management == PoolerManagement::External.as_str()
    }

    pub fn health(&self) -> PoolerHealth {
        match (self.observed_at, &self.error) {
            (None, _) => PoolerHealth::Unknown,
            (Some(_), _) if !self.fresh => PoolerHealth::Unhealthy,
            (Some(_), Some(_)) => PoolerHealth::Unhealthy,
            (Some(_), None) if self.observed_generation == Some(self.generation) => PoolerHealth::Healthy,
            (Some(_), None) => PoolerHealth::Behind,
        }
    }

    /// Why it is not healthy.
    pub fn message(&self) -> Option<String> {
        let seconds = |at: Timestamp| at.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        match (self.health(), &self.error, self.observed_at) {
            (PoolerHealth::Healthy, ..) => None,
            (PoolerHealth::Unhealthy, Some(error), _) if self.fresh => Some(error.clone()),
            (PoolerHealth::Unhealthy | PoolerHealth::Unknown, _, Some(at)) if self.is_external() => Some(format!(
                "no plane was at it since {}; see that `freehold serve` or `freehold worker` runs, and that the loop \
                 pooler_external is not frozen",
                seconds(at)
            )),
            (PoolerHealth::Unhealthy | PoolerHealth::Unknown, _, None) if self.is_external() => {
                Some("no plane was at it yet; it takes a moment".into())
            }
            (PoolerHealth::Unhealthy | PoolerHealth::Unknown, _, Some(at)) => {
                Some(format!("its agent was last heard of at {}; see that `freehold pooler agent` runs", seconds(at)))
            }
            (PoolerHealth::Unhealthy | PoolerHealth::Unknown, _, None) if self.platform.is_some() => {
                Some(match &self.reason {
                    Some(reason) => format!("it could not be started: {reason}"),
                    None => "its agent was not heard of yet".into(),
                })
            }
            (PoolerHealth::Unhealthy | PoolerHealth::Unknown, _, None) => {
                Some("its agent was never heard of; start `freehold pooler agent` beside it".into())
            }
            (PoolerHealth::Behind, ..) => {
                let seen = self.observed_generation.map_or("nothing".to_owned(), |seen| format!("generation {seen}"));
                Some(format!("it serves {seen} of {}", self.generation))
            }
        }
    }
}

impl From<PoolerRow> for Pooler {
    fn from(row: PoolerRow) -> Self {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        let few = |count: i64| u32::try_from(count).unwrap_or(0);
        // What is in the store was parsed when it came in.
        let id = row.id.parse().unwrap_or_else(|_| "invalid".parse::<PoolerId>().expect("a slug"));
        Self {
            id,
            kind: if row.kind == "pgcat" { PoolerKind::Pgcat } else { PoolerKind::Pgbouncer },
            management: if row.is_external() { PoolerManagement::External } else { PoolerManagement::Agent },
            platform: row.platform.as_deref().map(|platform| match platform {
                "docker" => PoolerPlatform::Docker,
                _ => PoolerPlatform::Process,
            }),
            state: match row.state.as_str() {
                "starting" => PoolerState::Starting,
                "cordoned" => PoolerState::Cordoned,
                "removing" => PoolerState::Removing,
                "failed" => PoolerState::Failed,
                _ => PoolerState::Active,
            },
            health: row.health(),
            message: row.message(),
            port: u16::try_from(row.port).unwrap_or(0),
            capacity: u32::try_from(row.capacity).unwrap_or(0),
            tenants: few(row.tenants),
            stock: few(row.stock),
            generation: count(row.generation),
            observed_generation: row.observed_generation.map(count),
            observed_at: row.observed_at.map(Timestamp::to_jiff),
            reloads: count(row.reloads),
            deaths: count(row.deaths),
            repaired: count(row.repaired),
            granted: u32::try_from(row.granted).unwrap_or(0),
            open: few(row.open),
            created_at: row.created_at.to_jiff(),
            external: row.file.zip(row.admin).map(|(file, admin)| ExternalPooler {
                file,
                users_file: row.users_file,
                admin,
                withheld: row.withheld.map(|withheld| withheld.0).unwrap_or_default(),
            }),
            host: row.host,
            sslmode: row.sslmode,
            version: row.version,
        }
    }
}

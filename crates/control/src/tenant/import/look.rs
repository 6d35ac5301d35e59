//! Goes and looks: at the source, reading catalogs alone, and at the server that its database would come to.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::id::TemplateName;
use freehold_api::import::Import;
use freehold_api::movability::MoveMethod;
use freehold_api::plan::Plan;
use freehold_api::template::Template;
use freehold_api::tenant::Labels;
use freehold_drivers::server::sql::movable::{Contents, Theirs};
use freehold_drivers::server::sql::moving::find_pg_dump;
use freehold_drivers::server::sql::{Admin, Dsn};
use freehold_durable::{Class, Failure};
use serde::{Deserialize, Serialize};

use super::judge::{self, Facts, Target, Verdict};
use super::source;
use crate::plane::Core;
use crate::server::hands::{self, Holder};
use crate::server::store::ServerRow;
use crate::server_pool::wait::{self, Asking, Awaited};
use crate::tenant::movability::judge::estimate;
use crate::tenant::movability::target::free_bytes;
use crate::tenant::placement::{self, Want};
use crate::tenant::store::TenantRow;
use crate::tenant::{create, place};

/// What one statement may take.
const STATEMENT: Duration = Duration::from_secs(15);
/// The oldest version whose catalogs are known.
pub const OLDEST: i32 = 120_000;

/// What the tenant is going to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub plan: String,
    pub template: String,
    pub region: Option<String>,
    pub labels: Labels,
}

impl Wanted {
    pub fn of(row: &TenantRow) -> Self {
        Self {
            plan: row.plan.clone(),
            template: row.template.clone(),
            region: row.region.clone(),
            labels: row.labels.0.clone(),
        }
    }

    pub async fn template(&self, core: &Core) -> Result<Arc<Template>, Failure> {
        let unknown = |_| Failure::permanent("unknown_template", "the template has no valid name");
        let name: TemplateName = self.template.parse().map_err(unknown)?;
        Ok(place::of(create::template_of(core, Some(&name)).await)?.0)
    }
}

pub struct Looked {
    pub version_num: i32,
    pub contents: Contents,
    pub verdict: Verdict,
    /// Where it would come to.
    pub server: Option<Arc<ServerRow>>,
    /// Else what it would wait for.
    pub awaited: Option<Awaited>,
}

/// Extensions that the admin makes: of all else, those that any tenant may make itself.
pub fn granted(plan: &Plan, template: &Template) -> Vec<String> {
    let of_template = template.manifest.extensions.iter().map(|extension| extension.name.clone());
    plan.extensions.iter().cloned().chain(of_template).collect()
}

pub fn major(version_num: i32) -> u16 {
    u16::try_from(version_num / 10_000).unwrap_or(0)
}

pub async fn look(
    core: &Core,
    holder: &impl Holder,
    dsn: &Dsn,
    wanted: &Wanted,
    asking: Asking,
) -> Result<Looked, Failure> {
    let admin = Admin::connect(dsn, None, &holder.application_name()).await.map_err(source::failure)?;
    admin.only_look(STATEMENT).await.map_err(source::failure)?;
    let version_num = admin.version_num();
    if version_num < OLDEST {
        let verdict = judge::too_old(version_num);
        return Ok(Looked { version_num, contents: Contents::default(), verdict, server: None, awaited: None });
    }
    let contents = admin.movable_contents(&[admin.user().to_owned()]).await.map_err(source::failure)?;
    let theirs: Theirs = admin.movable_theirs().await.map_err(source::failure)?;
    admin.close().await;
    let plan = core.plan(&wanted.plan);
    let template = wanted.template(core).await?;
    let want = Want {
        kind: plan.server,
        region: wanted.region.as_deref(),
        labels: &wanted.labels,
        template: &template,
        extensions: &plan.extensions,
        rules: &core.settings.placement,
    };
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let ranked = placement::rank(&want, &fleet);
    let has_all = |row: &ServerRow| contents.extensions.iter().all(|(name, _)| row.has_extension(name));
    let best = ranked.iter().find(|server| has_all(&server.row)).or(ranked.first());
    let server = best.map(|server| server.row.clone());
    let granted = granted(plan, &template);
    let dump = find_pg_dump(&[], version_num).err().map(|error| error.message().to_owned());
    let facts = Facts {
        version_num,
        contents: &contents,
        theirs: &theirs,
        no_pg_dump: dump.as_deref(),
        granted: &granted,
        quota: plan.storage_quota,
    };
    let (verdict, awaited) = match &server {
        Some(server) => {
            let there = hands::admin(core, holder, server, None).await?;
            there.only_look(STATEMENT).await.map_err(hands::failure)?;
            let names: Vec<String> = contents.extensions.iter().map(|(name, _)| name.clone()).collect();
            let host = there.movable_host(&names).await.map_err(hands::failure)?;
            let locale = there.has_locale(&contents.locale).await.map_err(hands::failure)?;
            let target =
                Target::There { name: &server.id, host: &host, locale: &locale, free_bytes: free_bytes(server) };
            (judge::judge(&facts, &target), None)
        }
        None => match place::of(wait::decide(core, &want, &fleet, asking).await) {
            Ok(awaited) => (judge::judge(&facts, &Target::ToBeMade(&awaited.message())), Some(awaited)),
            Err(failure) if failure.class == Class::Transient => return Err(failure),
            Err(failure) => (judge::judge(&facts, &Target::Nowhere(&failure.message)), None),
        },
    };
    Ok(Looked { version_num, contents, verdict, server, awaited })
}

impl Looked {
    pub fn report(self, tenant: &str, dsn: &Dsn) -> Result<Import, Failure> {
        let bad = |_| Failure::permanent("invalid", "an id is no id");
        let extensions = self.contents.extensions.iter().map(|(name, version)| format!("{name} {version}"));
        Ok(Import {
            tenant: tenant.parse().map_err(bad)?,
            from: dsn.public(),
            postgres: Some(major(self.version_num)).filter(|major| *major > 0),
            size_bytes: self.contents.size_bytes,
            tables: self.contents.tables.count,
            extensions: extensions.collect(),
            seconds: estimate(MoveMethod::Dump, &self.contents).seconds,
            server: self.server.and_then(|server| server.id.parse().ok()),
            refusals: self.verdict.refusals,
            notes: self.verdict.notes,
        })
    }
}

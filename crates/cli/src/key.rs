//! `freehold key …`. A key is shown once, when it is made.

use std::path::PathBuf;

use freehold_api::key::{ApiKey, CreateKey, CreatedKey, Scope};
use freehold_api::{KeyId, Page, TenantId};
use jiff::Timestamp;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::Rows;
use crate::value::{Moment, wire_name};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a key and print it: it is shown this once
    Create(Create),
    /// List keys, without the keys themselves
    List,
    /// Make a key worthless, at once
    Revoke {
        /// Its id, as `key list` shows it
        id: KeyId,
    },
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// What it is for
    name: String,
    /// admin, operate, provision, read or credentials; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = wire_name::<Scope>)]
    scopes: Vec<Scope>,
    /// The only tenants it may touch; may be repeated [default: all]
    #[arg(long = "tenant", value_name = "ID")]
    tenants: Vec<TenantId>,
    /// A length of time such as 30d, or a time [default: never]
    #[arg(long, value_name = "WHEN")]
    expires: Option<Moment>,
    /// On the server's side: write into the control store of these settings, without an API key (the first one)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl Create {
    /// The settings to write by, when the key is to be made without the API. The program that holds server code does it.
    pub(crate) fn server_side(&self, now: Timestamp) -> Option<Result<(PathBuf, CreateKey), Failure>> {
        let settings = self.settings.clone()?;
        Some(self.body(now).map(|body| (settings, body)))
    }

    fn body(&self, now: Timestamp) -> Result<CreateKey, Failure> {
        let expires_at = self.expires.as_ref().map(|moment| moment.after(now)).transpose();
        Ok(CreateKey {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            tenants: Some(self.tenants.clone()).filter(|tenants| !tenants.is_empty()),
            expires_at: expires_at.map_err(|error| Failure::usage(format!("--expires is out of range: {error}")))?,
        })
    }
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Create(args) => create(args, cx).await,
        Verb::List => list(cx).await,
        Verb::Revoke { id } => revoke(id, cx).await,
    }
}

async fn create(args: Create, cx: &mut Cx) -> Outcome {
    let body = args.body(cx.around.now)?;
    let reply = cx.client()?.send(Request::post(&["keys"]).body(&body)?).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    let created: CreatedKey = reply.parse()?;
    cx.out.fields(&[
        ("key id", Some(created.info.id.to_string())),
        ("name", Some(created.info.name)),
        ("scopes", Some(names(&created.info.scopes))),
        ("tenants", created.info.tenants.map(|tenants| join(&tenants))),
        ("expires", created.info.expires_at.map(|at| cx.out.time(at))),
        ("key", created.key.clone()),
    ]);
    match created.key {
        Some(_) => cx.out.note("keep it now: it is not shown again"),
        None => cx
            .out
            .note("the key was shown by the first answer to this request, which was lost; revoke it and make another"),
    }
    Ok(())
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["keys"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<ApiKey> = parse(&body)?;
    let rows = page.items.into_iter().map(|key| {
        let expired = key.expires_at.is_some_and(|at| at <= cx.around.now);
        let state = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(_)) if expired => "expired".to_owned(),
            (None, Some(at)) => format!("expires {}", cx.out.time(at)),
            (None, None) => "valid".to_owned(),
        };
        let used = key.last_used_at.map_or("never".to_owned(), |at| cx.out.time(at));
        let tenants = key.tenants.map_or("all".to_owned(), |tenants| join(&tenants));
        vec![key.id.to_string(), key.name, names(&key.scopes), tenants, state, used]
    });
    cx.out.table(Rows {
        header: &["ID", "NAME", "SCOPES", "TENANTS", "STATE", "USED"],
        rows: rows.collect(),
        empty: "no keys",
    });
    Ok(())
}

async fn revoke(id: KeyId, cx: &mut Cx) -> Outcome {
    let reply = cx.client()?.send(Request::delete(&["keys", &id.to_string()])).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    cx.out.line(&format!("key {id} is revoked"));
    Ok(())
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

fn join(tenants: &[TenantId]) -> String {
    tenants.iter().map(TenantId::as_str).collect::<Vec<_>>().join(",")
}

//! `freehold template …`. `new` and `check` work offline; `check` judges exactly as the control plane does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use freehold_api::server::Severity;
use freehold_api::template::{AddTemplate, Files, Template, TemplateInfo};
use freehold_api::{Page, TemplateName};
use include_dir::{Dir, include_dir};
use serde_json::json;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::{Rows, plain};

static SKELETON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/skeleton");

/// A template is text that people write. What is larger was put there by mistake.
const LARGEST: u64 = 8 << 20;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Write a small, commented template to start from
    New {
        /// A directory that does not exist yet
        dir: PathBuf,
    },
    /// Check a template here, without a control plane; exit 12 when it has faults
    Check(Source),
    /// Add a template, or a new version of it
    Add(Source),
    /// List templates
    List,
    /// Show one template
    Show {
        /// Its name
        name: TemplateName,
    },
}

#[derive(Debug, clap::Args)]
pub struct Source {
    /// The template's directory
    dir: PathBuf,
    /// What to call it [default: the directory's name]
    #[arg(long)]
    name: Option<TemplateName>,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::New { dir } => new(&dir, cx),
        Verb::Check(source) => check(source, cx),
        Verb::Add(source) => add(source, cx).await,
        Verb::List => list(cx).await,
        Verb::Show { name } => show(name, cx).await,
    }
}

fn new(dir: &Path, cx: &Cx) -> Outcome {
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot write {}: {error}", dir.display()));
    let taken = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        return Err(Failure::usage(format!(
            "{} is not empty; name a directory that does not exist yet",
            dir.display()
        )));
    }
    std::fs::create_dir_all(dir).map_err(cannot)?;
    SKELETON.extract(dir).map_err(cannot)?;
    cx.out.note(&format!("wrote {}; next: freehold template check {0}", plain(&dir.display().to_string())));
    Ok(())
}

fn check(source: Source, cx: &Cx) -> Outcome {
    let name = name_of(&source)?;
    let faults = match Template::parse(name.clone(), read_files(&source.dir)?) {
        Ok(template) if cx.out.wants_json() => {
            return cx.out.json(&json!({ "valid": true, "name": name, "version": template.version, "faults": [] }));
        }
        Ok(template) => {
            cx.out.fields(&[
                ("template", Some(name.to_string())),
                ("version", Some(short(&template.version))),
                ("migrations", Some(template.migrations.len().to_string())),
                ("claim.sql", template.claim.map(|_| "yes: runs at every claim".to_owned())),
            ]);
            return Ok(());
        }
        Err(bad) => bad.faults,
    };
    if cx.out.wants_json() {
        cx.out.json(&json!({ "valid": false, "name": name, "version": null, "faults": faults }))?;
    } else {
        faults.iter().for_each(|fault| cx.out.finding(Severity::High, fault));
    }
    Err(Failure::Findings(Severity::High))
}

async fn add(source: Source, cx: &mut Cx) -> Outcome {
    let name = name_of(&source)?;
    let body = AddTemplate { name, files: read_files(&source.dir)? };
    let reply = cx.client()?.send(Request::post(&["templates"]).body(&body)?).await?;
    tell(cx, &reply.body)
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["templates"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<TemplateInfo> = parse(&body)?;
    let rows = page.items.into_iter().map(|template| {
        vec![
            template.name.to_string(),
            short(&template.version),
            template.migrations.len().to_string(),
            template.tenants.to_string(),
            cx.out.time(template.created_at),
            template.manifest.description,
        ]
    });
    cx.out.table(Rows {
        header: &["NAME", "VERSION", "MIGRATIONS", "TENANTS", "ADDED", "DESCRIPTION"],
        rows: rows.collect(),
        empty: "no templates; `freehold template new DIR` starts one",
    });
    Ok(())
}

async fn show(name: TemplateName, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["templates", name.as_str()])).await?.body;
    tell(cx, &body)
}

fn tell(cx: &Cx, body: &serde_json::Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let template: TemplateInfo = parse(body)?;
    let manifest = template.manifest;
    let extensions = manifest.extensions.iter().map(|extension| match extension.required {
        true => extension.name.clone(),
        false => format!("{} (if installed)", extension.name),
    });
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    cx.out.fields(&[
        ("template", Some(template.name.to_string())),
        ("description", filled(manifest.description.clone())),
        ("version", Some(short(&template.version))),
        ("migrations", filled(template.migrations.join(", "))),
        ("claim.sql", template.has_claim.then(|| "yes: runs at every claim".to_owned())),
        ("extensions", filled(extensions.collect::<Vec<_>>().join(", "))),
        ("database", manifest.naming.database.clone()),
        ("login", manifest.naming.login.clone()),
        ("tenants", Some(template.tenants.to_string())),
        ("added", Some(cx.out.time(template.created_at))),
    ]);
    Ok(())
}

/// The first 12 characters name a version, as in a tenant's `template_version`.
fn short(version: &str) -> String {
    version.chars().take(12).collect()
}

fn name_of(source: &Source) -> Result<TemplateName, Failure> {
    if let Some(name) = &source.name {
        return Ok(name.clone());
    }
    let dir = std::path::absolute(&source.dir).unwrap_or_else(|_| source.dir.clone());
    let dir = dir.canonicalize().unwrap_or(dir);
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.parse().map_err(|error| Failure::usage(format!("{error}; the directory's name cannot serve, give --name")))
}

/// Every file below the directory but hidden ones. Links are refused: they could carry any file of this machine along.
fn read_files(dir: &Path) -> Result<Files, Failure> {
    let cannot = |path: &Path, why: String| Failure::usage(format!("cannot read {}: {why}", path.display()));
    let mut files = BTreeMap::new();
    let mut size = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(current) = dirs.pop() {
        let entries = std::fs::read_dir(&current).map_err(|error| cannot(&current, error.to_string()))?;
        for entry in entries {
            let entry = entry.map_err(|error| cannot(&current, error.to_string()))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| cannot(&path, error.to_string()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            if !kind.is_file() {
                return Err(cannot(&path, "it is a link or a device; a template holds plain files only".into()));
            }
            size += entry.metadata().map_err(|error| cannot(&path, error.to_string()))?.len();
            if size > LARGEST {
                return Err(cannot(dir, format!("it holds more than {} MiB; is it a template?", LARGEST >> 20)));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| cannot(&path, error.to_string()))?;
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, text);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_is_a_template_that_the_plane_accepts() {
        let files = ["template.toml", "migrations/0001_init.sql"]
            .map(|path| (path.to_owned(), SKELETON.get_file(path).unwrap().contents_utf8().unwrap().to_owned()));
        let template = Template::parse("shop".parse().unwrap(), files.into()).unwrap();
        assert!(!template.manifest.description.is_empty());
        assert_eq!(template.migrations.len(), 1);
    }
}

//! `freehold key create --settings FILE`: the first key, written by somebody who has the control store's settings.

use std::path::PathBuf;

use freehold_api::key::CreateKey;
use freehold_control::audit::record::Actor;
use freehold_control::key::create;
use freehold_control::settings::Settings;
use freehold_control::start;

use crate::prerequisite::Missing;
use crate::term;

pub async fn make(wanted: Result<(PathBuf, CreateKey), String>, json: bool) -> Result<(), Missing> {
    let (file, body) = wanted.map_err(Missing::new)?;
    let settings = Settings::load(Some(&file))?;
    let store = start::store(&settings).await?;
    let created =
        create::make(&store, &Actor::system(), &body).await.map_err(|refused| Missing::new(refused.0.to_string()))?;
    if json {
        term::line(&serde_json::to_string_pretty(&created)?);
    } else {
        // Only the key on stdout, so that it can be kept by a script.
        term::line(created.key.as_deref().unwrap_or_default());
    }
    Ok(())
}

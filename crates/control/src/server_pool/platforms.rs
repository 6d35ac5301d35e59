//! The platforms that the settings declare, ready to be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_drivers::platform::docker::Docker;
use freehold_drivers::platform::nomad::Nomad;
use freehold_drivers::platform::process::{Processes, ProcessesOptions};
use freehold_drivers::platform::{Platform, PlatformError};
use freehold_durable::Failure;

use crate::plane::Core;
use crate::server::hands;
use crate::settings::Platforms as Settings;

/// By name.
pub type Platforms = Arc<BTreeMap<String, Arc<dyn Platform>>>;

/// Needs a tokio runtime. What cannot be used at all is said now; an engine that does not answer, when it is asked.
pub fn of(settings: &Settings) -> Result<Platforms, PlatformError> {
    let mut platforms: BTreeMap<String, Arc<dyn Platform>> = BTreeMap::new();
    if let Some(process) = &settings.process {
        let mut options = ProcessesOptions::new(&process.data_dir);
        options.run_as.clone_from(&process.run_as);
        let engines = process.binaries.iter().filter_map(|(major, path)| Some((major.parse().ok()?, path.clone())));
        options.engines = engines.collect();
        platforms.insert("process".into(), Arc::new(Processes::new(options)?));
    }
    if let Some(docker) = &settings.docker {
        platforms.insert("docker".into(), Arc::new(Docker::new(docker.options())));
    }
    if let Some(nomad) = &settings.nomad {
        platforms.insert("nomad".into(), Arc::new(Nomad::new(nomad.options())));
    }
    Ok(Arc::new(platforms))
}

impl Core {
    pub fn platform(&self, name: &str) -> Result<&Arc<dyn Platform>, Failure> {
        self.platforms.get(name).ok_or_else(|| {
            let detail =
                format!("there is no [platform.{name}] in the settings of this process, and a server runs there");
            // Another process may have it, or the next version of the settings.
            Failure::transient("platform_missing", detail)
        })
    }
}

/// What an error of a platform means to an operation.
pub fn failure(error: PlatformError) -> Failure {
    let message = hands::chain(&error);
    match error.is_transient() {
        true => Failure::transient(error.code(), message),
        false => Failure::permanent(error.code(), message),
    }
}

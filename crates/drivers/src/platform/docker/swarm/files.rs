//! Secrets and configs: the files of a server. They cannot be changed, so each content has its own name; what no service
//! uses any more is removed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{
    ConfigSpec, SecretSpec, Service as Found, TaskSpecContainerSpecConfigs, TaskSpecContainerSpecFile,
    TaskSpecContainerSpecFile1, TaskSpecContainerSpecSecrets,
};
use bollard::query_parameters::{ListConfigsOptionsBuilder, ListSecretsOptionsBuilder};
use secrecy::ExposeSecret;

use super::super::connection::Connection;
use super::super::fault::{fault, gone};
use super::super::labels;
use crate::platform::{PlatformError, Program, Service, container};

#[derive(Default)]
pub(super) struct Mounted {
    pub secrets: Vec<TaskSpecContainerSpecSecrets>,
    pub configs: Vec<TaskSpecContainerSpecConfigs>,
}

impl Mounted {
    pub(super) fn names(&self) -> Vec<String> {
        let secrets = self.secrets.iter().filter_map(|secret| secret.secret_name.clone());
        secrets.chain(self.configs.iter().filter_map(|config| config.config_name.clone())).collect()
    }
}

pub(super) async fn ensure(connection: &Connection, service: &Service) -> Result<Mounted, PlatformError> {
    let client = connection.client().await?;
    let Program::Postgres(postgres) = &service.program;
    let there = all(connection, &service.name).await?;
    let mut mounted = Mounted::default();
    for file in container::files(postgres) {
        let name = format!("{}.{}", service.name, file.digest());
        let spec_labels = labels::belonging(connection, &service.name, "file");
        // Swarm keeps nothing that is empty.
        let text = match file.text.expose_secret() {
            "" => "\n",
            text => text,
        };
        let data = Some(STANDARD.encode(text));
        let doing = format!("keep {} of {}", file.name, service.name);
        let id = match there.get(&(file.is_secret, name.clone())) {
            Some(id) => id.clone(),
            None if file.is_secret => {
                let spec =
                    SecretSpec { name: Some(name.clone()), labels: Some(spec_labels), data, ..Default::default() };
                client.create_secret(spec).await.map_err(|error| fault(&doing, error))?.id
            }
            None => {
                let spec =
                    ConfigSpec { name: Some(name.clone()), labels: Some(spec_labels), data, ..Default::default() };
                client.create_config(spec).await.map_err(|error| fault(&doing, error))?.id
            }
        };
        let path = Some(format!("{}/{}", container::FILES, file.name));
        let owner = Some(container::USER.to_string());
        let mode = Some(0o400);
        if file.is_secret {
            mounted.secrets.push(TaskSpecContainerSpecSecrets {
                file: Some(TaskSpecContainerSpecFile { name: path, uid: owner.clone(), gid: owner, mode }),
                secret_id: Some(id),
                secret_name: Some(name),
            });
        } else {
            mounted.configs.push(TaskSpecContainerSpecConfigs {
                file: Some(TaskSpecContainerSpecFile1 { name: path, uid: owner.clone(), gid: owner, mode }),
                config_id: Some(id),
                config_name: Some(name),
                ..Default::default()
            });
        }
    }
    Ok(mounted)
}

/// What a service has mounted.
pub(super) fn names_in(found: &Found) -> Vec<String> {
    let spec = found.spec.as_ref().and_then(|spec| spec.task_template.as_ref()?.container_spec.as_ref());
    let Some(spec) = spec else { return Vec::new() };
    let secrets = spec.secrets.iter().flatten().filter_map(|secret| secret.secret_name.clone());
    secrets.chain(spec.configs.iter().flatten().filter_map(|config| config.config_name.clone())).collect()
}

/// Removes all of the service's but these.
pub(super) async fn tidy(connection: &Connection, service: &str, keep: &[String]) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    for ((is_secret, name), id) in all(connection, service).await? {
        if keep.contains(&name) {
            continue;
        }
        let removed = if is_secret { client.delete_secret(&id).await } else { client.delete_config(&id).await };
        gone(removed, &name)?;
    }
    Ok(())
}

/// Ids, by whether it is a secret and by name.
async fn all(connection: &Connection, service: &str) -> Result<HashMap<(bool, String), String>, PlatformError> {
    let client = connection.client().await?;
    let filters = labels::matching(&[(labels::OF, service), (labels::INSTANCE, &connection.options.instance)]);
    let doing = format!("list the files of {service}");
    let secrets = client.list_secrets(Some(ListSecretsOptionsBuilder::new().filters(&filters).build())).await;
    let secrets = secrets.map_err(|error| fault(&doing, error))?;
    let configs = client.list_configs(Some(ListConfigsOptionsBuilder::new().filters(&filters).build())).await;
    let configs = configs.map_err(|error| fault(&doing, error))?;
    let secrets = secrets.into_iter().filter_map(|secret| {
        let spec = secret.spec?;
        is_file(spec.labels.as_ref()).then_some(((true, spec.name?), secret.id?))
    });
    let configs = configs.into_iter().filter_map(|config| {
        let spec = config.spec?;
        is_file(spec.labels.as_ref()).then_some(((false, spec.name?), config.id?))
    });
    Ok(secrets.chain(configs).collect())
}

fn is_file(of: Option<&labels::Labels>) -> bool {
    labels::get(of, labels::KIND) == Some("file")
}

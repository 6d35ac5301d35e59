//! The way to an engine, opened once it is needed.

use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use futures::{Stream, StreamExt};
use secrecy::ExposeSecret;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::fault::{fault, words};
use super::options::DockerOptions;
use crate::platform::{Image, PlatformError, PlatformErrorKind};

pub(super) struct Connection {
    pub options: DockerOptions,
    client: OnceCell<Client>,
}

const REQUEST_SECONDS: u64 = 60;
/// Logs of a node that is away never end.
const LOGS: Duration = Duration::from_secs(10);

impl Connection {
    pub(super) fn new(options: DockerOptions) -> Self {
        Self { options, client: OnceCell::new() }
    }

    pub(super) async fn client(&self) -> Result<Client, PlatformError> {
        // A socket that is absent or forbidden is named, whenever that happens; a connection costs microseconds.
        if let Some(path) = self.options.host.strip_prefix("unix://") {
            knock(Path::new(path)).await?;
        }
        self.client.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<Client, PlatformError> {
        let DockerOptions { host, certificates, .. } = &self.options;
        let doing = format!("connect to {host}");
        let client = match (host.split_once("://"), certificates) {
            (Some(("unix", path)), _) => Client::connect_with_unix(path, REQUEST_SECONDS, API_DEFAULT_VERSION),
            (Some(("https", _)), Some(dir)) => {
                let [key, certificate, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| dir.join(name));
                Client::connect_with_ssl(host, &key, &certificate, &ca, REQUEST_SECONDS, API_DEFAULT_VERSION)
            }
            (Some(("https", _)), None) => {
                return Err(unsupported(format!("{doing}: platform.docker.certificates must name a directory")));
            }
            _ => return Err(unsupported(format!("{doing}: expected unix:///path or https://host:port"))),
        };
        let client = client.map_err(|error| fault(&doing, error))?;
        client.negotiate_version().await.map_err(|error| fault(&doing, error))
    }
}

fn unsupported(message: String) -> PlatformError {
    PlatformError::new(PlatformErrorKind::Unsupported, message)
}

async fn knock(path: &Path) -> Result<(), PlatformError> {
    let error = match timeout(Duration::from_secs(5), UnixStream::connect(path)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    let shown = path.display();
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (
            PlatformErrorKind::Unreachable,
            format!(
                "there is no socket {shown}: is Docker installed and running here? platform.docker.host names another"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            PlatformErrorKind::Denied,
            format!("socket {shown} is forbidden to this user: run Freehold as one of the socket's group (docker)"),
        ),
        _ => (PlatformErrorKind::Unreachable, format!("nobody answers on socket {shown}: is dockerd running?")),
    };
    Err(PlatformError::because(kind, message, error))
}

pub(super) fn credentials(image: &Image) -> Option<DockerCredentials> {
    let given = image.credentials.as_ref()?;
    // As Docker reads names: the part before the first slash is a registry if it looks like a host.
    let registry = image.reference.split_once('/').map(|(first, _)| first);
    let registry = registry.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    Some(DockerCredentials {
        username: Some(given.username.clone()),
        password: Some(given.password.expose_secret().to_owned()),
        serveraddress: registry.map(str::to_owned),
        ..DockerCredentials::default()
    })
}

/// The end of a log, as far as it comes in time.
pub(super) async fn text(
    stream: impl Stream<Item = Result<bollard::container::LogOutput, bollard::errors::Error>>,
) -> String {
    let mut stream = std::pin::pin!(stream);
    let mut text = String::new();
    let read = async {
        while let Some(next) = stream.next().await {
            match next {
                Ok(output) => text.push_str(&String::from_utf8_lossy(&output.into_bytes())),
                Err(error) => {
                    text.push_str(&format!("(the log cannot be read: {})\n", words(&error)));
                    break;
                }
            }
        }
    };
    if timeout(LOGS, read).await.is_err() {
        text.push_str("(the rest of the log did not come in time)\n");
    }
    text
}

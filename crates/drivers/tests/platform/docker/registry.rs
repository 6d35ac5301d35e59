//! A registry on loopback with one image, for whoever shows the password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_drivers::platform::docker::DockerMode;
use freehold_drivers::platform::{Image, PlatformErrorKind, RegistryCredentials};
use freehold_drivers::secrets::Password;
use sha2::{Digest, Sha256};

use super::world::Docker;
use crate::case::{Case, World};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Registry {
    password: Password,
    /// By digest, with its type.
    kept: HashMap<String, (&'static str, Vec<u8>)>,
    asked: Mutex<Vec<String>>,
}

impl Registry {
    /// An image of one file, never seen before. Also the manifest's digest.
    fn new() -> (Self, String) {
        let mut kept = HashMap::new();
        let mut keep = |kind, content: Vec<u8>| {
            let hex: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            let digest = format!("sha256:{hex}");
            let size = content.len();
            kept.insert(digest.clone(), (kind, content));
            (digest, size)
        };
        let mut layer = tar::Builder::new(Vec::new());
        let text = Password::random(32);
        let mut header = tar::Header::new_ustar();
        header.set_size(32);
        header.set_mode(0o644);
        layer.append_data(&mut header, "novel", text.expose().as_bytes()).unwrap();
        let (layer, layer_size) = keep("application/octet-stream", layer.into_inner().unwrap());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": "a test"}],
        });
        let (config, config_size) = keep("application/octet-stream", config.to_string().into_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config_size, "digest": config},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer_size, "digest": layer}],
        });
        let (manifest, _) = keep(MANIFEST, manifest.to_string().into_bytes());
        (Self { password: Password::random(24), kept, asked: Mutex::default() }, manifest)
    }
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = format!("Basic {}", STANDARD.encode(format!("puller:{}", registry.password.expose())));
    if shown != Some(&wanted) {
        let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"tests\"")], refusal)
            .into_response();
    }
    registry.asked.lock().unwrap().push(path.clone());
    if path == "/v2/" {
        return StatusCode::OK.into_response();
    }
    match path.rsplit('/').next().and_then(|digest| Some((digest, registry.kept.get(digest)?))) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((digest, (kind, content))) => {
            let digest = [("docker-content-digest", digest), ("content-type", kind)];
            (digest, content.clone()).into_response()
        }
    }
}

pub async fn an_image_by_digest_comes_from_a_registry_with_credentials(world: &Docker) {
    let (registry, digest) = Registry::new();
    let registry = Arc::new(registry);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(registry.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let platform = world.platform().await;
    let mut case = Case::new(world, "pulled");
    let reference = format!("{address}/freehold/novel@{digest}");
    let image = |password: Option<&str>| {
        let credentials = password
            .map(|password| RegistryCredentials { username: "puller".into(), password: password.to_owned().into() });
        Some(Image { reference: reference.clone(), credentials })
    };
    for wrong in [None, Some("wrong")] {
        case.service.image = image(wrong);
        let refused = platform.ensure(&case.service).await.unwrap_err();
        match world.mode {
            DockerMode::Engine => assert_eq!(refused.kind, PlatformErrorKind::Denied, "{refused}"),
            // A node says no more of it.
            DockerMode::Swarm => assert_eq!(refused.kind, PlatformErrorKind::ImageMissing, "{refused}"),
        }
        assert!(!format!("{refused:?}").contains("wrong\""), "{refused:?}");
    }
    assert!(registry.asked.lock().unwrap().is_empty());

    // The image has nothing to run; it came, and that is the point.
    case.service.image = image(Some(registry.password.expose()));
    let failed = platform.ensure(&case.service).await.unwrap_err();
    assert!(!matches!(failed.kind, PlatformErrorKind::Denied | PlatformErrorKind::ImageMissing), "{failed}");
    let asked = registry.asked.lock().unwrap().clone();
    assert!(asked.iter().any(|path| path.ends_with(&format!("/manifests/{digest}"))), "{asked:?}");
    assert!(world.docker(&["image", "inspect", "--format", "{{.RepoDigests}}", &reference]).contains(&digest));
    platform.remove("pulled").await.unwrap();
    world.docker(&["image", "rm", "--force", &reference]);
    server.abort();
}

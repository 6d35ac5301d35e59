//! The image is there before anything is stopped for it.

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;

use super::super::connection::{Connection, credentials};
use super::super::fault::{fault, is_missing, words};
use crate::platform::{Image, PlatformError, PlatformErrorKind, Service};

const POSTGRES: &str = "deploy/images/postgres/build";

pub(super) async fn ensure(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    let Some(image) = &service.image else { return Ok(()) };
    ensure_image(connection, image, POSTGRES).await
}

/// `script` makes such an image.
pub(in super::super) async fn ensure_image(
    connection: &Connection,
    image: &Image,
    script: &str,
) -> Result<(), PlatformError> {
    let reference = &image.reference;
    match connection.client().await?.inspect_image(reference).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => pull(connection, image, script).await,
        Err(error) => Err(fault(&format!("inspect image {reference}"), error)),
    }
}

async fn pull(connection: &Connection, image: &Image, script: &str) -> Result<(), PlatformError> {
    let (name, tag) = parts(&image.reference);
    let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    let client = connection.client().await?;
    let mut progress = std::pin::pin!(client.create_image(Some(options), None, credentials(image)));
    while let Some(next) = progress.next().await {
        let error = match next {
            Ok(info) => match info.error_detail.and_then(|detail| detail.message) {
                None => continue,
                Some(error) => bollard::errors::Error::DockerStreamError { error },
            },
            Err(error) => error,
        };
        let said = words(&error);
        let error = fault(&format!("pull image {}", image.reference), error);
        return Err(match error.kind {
            // What to do is not in what a registry says.
            PlatformErrorKind::Other | PlatformErrorKind::ImageMissing => missing_of(&image.reference, &said, script),
            _ => error,
        });
    }
    Ok(())
}

pub(in super::super) fn missing(reference: &str, said: &str) -> PlatformError {
    missing_of(reference, said, POSTGRES)
}

fn missing_of(reference: &str, said: &str, script: &str) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::ImageMissing,
        format!(
            "image {reference} is not there and cannot be pulled ({said}): build it with {script}, or correct the name of the image and the registry's credentials"
        ),
    )
}

/// `name@sha256:…`, `registry:5000/name:tag`, `name`.
fn parts(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn image_references_are_read_as_docker_reads_them() {
        assert_eq!(parts("postgres"), ("postgres", "latest"));
        assert_eq!(parts("r.example:5000/a/b"), ("r.example:5000/a/b", "latest"));
        assert_eq!(parts("r.example:5000/a/b:17"), ("r.example:5000/a/b", "17"));
        assert_eq!(parts("r.example/a@sha256:00ff"), ("r.example/a", "sha256:00ff"));
    }
}

//! A manager that is reached over TLS: the tests' own engine, behind a door that asks for a client's certificate.

use std::sync::Arc;

use freehold_drivers::platform::PlatformErrorKind;
use freehold_drivers::platform::docker::{Docker, DockerOptions};
use freehold_drivers::platform::{Phase, Platform};
use freehold_drivers::server::managed::Authority;
use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use secrecy::ExposeSecret;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::world;
use crate::case::{Case, now};

fn der(pem: &str) -> CertificateDer<'static> {
    rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap()
}

/// Authority, certificate and key of a client, in PEM.
fn client() -> [String; 3] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::default();
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = own.signed_by(&key, &Issuer::new(params, &authority_key)).unwrap();
    [authority.pem(), certificate.pem(), key.serialize_pem()]
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    rustls_pemfile::private_key(&mut pem.as_bytes()).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_behind_tls_is_reached_with_a_certificate_alone() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let world = world::Docker::engine(15);
    let authority = Authority::create(now(), SignedDuration::from_hours(240)).unwrap();
    let issued = authority.issue(&["localhost"], now(), SignedDuration::from_hours(120)).unwrap();
    let stranger = Authority::create(now(), SignedDuration::from_hours(240)).unwrap();
    let ([vouching, certificate, key_pem], other) = (client(), client());

    let mut roots = RootCertStore::empty();
    roots.add(der(&vouching)).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![der(&issued.certificate_pem)], key(issued.key_pem.expose_secret()))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = world.socket.clone();
    let door = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                if let (Ok(mut client), Ok(mut engine)) =
                    (acceptor.accept(stream).await, UnixStream::connect(&socket).await)
                {
                    let _ = copy_bidirectional(&mut client, &mut engine).await;
                }
            });
        }
    });

    let dir = tempfile::tempdir().unwrap();
    let platform = |ca: &str, certificate: &String, key: &String| {
        for (name, pem) in [("ca.pem", ca), ("cert.pem", certificate.as_str()), ("key.pem", key.as_str())] {
            std::fs::write(dir.path().join(name), pem).unwrap();
        }
        let certificates = Some(dir.path().to_owned());
        Docker::new(DockerOptions { host: format!("https://localhost:{port}"), certificates, ..world.options() })
    };
    let reached = platform(authority.certificate_pem(), &certificate, &key_pem);
    let case = Case::new(&world, "remote");
    reached.ensure(&case.service).await.unwrap();
    case.until(&reached, Phase::Running).await;
    reached.stop("remote").await.unwrap();

    for (ca, certificate, key) in
        [(stranger.certificate_pem(), &certificate, &key_pem), (authority.certificate_pem(), &other[1], &other[2])]
    {
        let refused = platform(ca, certificate, key).list().await.unwrap_err();
        assert_eq!(refused.kind, PlatformErrorKind::Unreachable, "{refused}");
        assert!(refused.message.contains(&format!("localhost:{port}")), "{refused}");
    }
    let options = DockerOptions { host: format!("https://localhost:{port}"), ..world.options() };
    let refused = Docker::new(options).list().await.unwrap_err();
    assert!(refused.message.contains("certificates"), "{refused}");
    door.abort();
}

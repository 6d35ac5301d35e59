//! An own certificate authority: it vouches for managed servers, so that clients can say `sslmode=verify-full`.
//!
//! Its certificate is never a server's own: rustls refuses such a server ([`CaUsedAsEndEntity`]), and whoever had the
//! server's key could vouch for others. Certificates are dated by whole days and begin a day early, because clocks differ.
//! Absent: revocation. A key that got out is answered with a new authority.
//!
//! [`CaUsedAsEndEntity`]: rustls::CertificateError

use std::net::IpAddr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use secrecy::{ExposeSecret, SecretString};

/// The authority's name in its own certificate. The same for all: clients compare keys.
const NAME: &str = "Freehold CA";

pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

/// A server's certificate and its key. What a server presents is the certificate alone: clients have the authority's.
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: SecretString,
    pub from: Timestamp,
    pub until: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a certificate needs the name of a host or an address")]
    NoName,
    #[error("{0:?} is neither the name of a host nor an address")]
    Name(String),
    #[error("a certificate's validity does not end in the calendar")]
    Validity,
    #[error("the authority's key is not a private key in PEM")]
    Key(#[source] rcgen::Error),
    #[error("the authority's certificate and key do not belong together")]
    Mismatch,
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
}

impl Authority {
    pub fn create(now: Timestamp, valid_for: SignedDuration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let mut params = authority_params();
        Days::of(now, valid_for)?.put_into(&mut params);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
        Ok(Self { certificate_pem: certificate.pem(), key })
    }

    /// One that was made before.
    pub fn load(certificate_pem: &str, key_pem: &SecretString) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem.expose_secret()).map_err(AuthorityError::Key)?;
        let mut pem = certificate_pem.as_bytes();
        let certificate =
            rustls_pemfile::certs(&mut pem).next().and_then(Result::ok).ok_or(AuthorityError::Mismatch)?;
        // The public key is in the certificate as it is; 65 bytes do not occur by chance.
        let public = key.public_key_raw();
        match certificate.windows(public.len()).any(|part| part == public) {
            true => Ok(Self { certificate_pem: certificate_pem.to_owned(), key }),
            false => Err(AuthorityError::Mismatch),
        }
    }

    /// What clients trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// To be sealed.
    pub fn key_pem(&self) -> SecretString {
        self.key.serialize_pem().into()
    }

    /// For a server that is reached by these names and addresses, all of which are in the certificate.
    pub fn issue(&self, names: &[&str], now: Timestamp, valid_for: SignedDuration) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let first = *names.first().ok_or(AuthorityError::NoName)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(first);
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect::<Result<_, _>>()?;
        let days = Days::of(now, valid_for)?;
        days.put_into(&mut params);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(authority_params(), &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(AuthorityError::Make)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem().into(),
            from: days.from,
            until: days.until,
        })
    }
}

/// Whether a certificate should be replaced: two thirds of its life are over.
pub fn is_due(from: Timestamp, until: Timestamp, now: Timestamp) -> bool {
    let (life, over) = (from.duration_until(until), from.duration_until(now));
    over.as_secs().saturating_mul(3) >= life.as_secs().saturating_mul(2)
}

/// The same each time: what an issuer signs names it by these.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    // A common name has room for 64 characters; what counts are the alternative names.
    named.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    named
}

fn alternative(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    };
    let bad = || AuthorityError::Name(name.to_owned());
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?)),
        false => Err(bad()),
    }
}

/// Midnights, in UTC.
struct Days {
    from: Timestamp,
    until: Timestamp,
}

impl Days {
    fn of(now: Timestamp, valid_for: SignedDuration) -> Result<Self, AuthorityError> {
        let bad = |_| AuthorityError::Validity;
        let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).start_of_day().map(|day| day.timestamp());
        let from = now.checked_sub(SignedDuration::from_hours(24)).and_then(day).map_err(bad)?;
        let until = now.checked_add(valid_for).and_then(day).map_err(bad)?;
        match now < until && until.to_zoned(TimeZone::UTC).year() < 9999 {
            true => Ok(Self { from, until }),
            false => Err(AuthorityError::Validity),
        }
    }

    fn put_into(&self, params: &mut CertificateParams) {
        let date = |at: Timestamp| {
            let date = at.to_zoned(TimeZone::UTC).date();
            let number = |n: i8| u8::try_from(n).unwrap_or(1);
            date_time_ymd(i32::from(date.year()), number(date.month()), number(date.day()))
        };
        (params.not_before, params.not_after) = (date(self.from), date(self.until));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{CertificateError, Error, RootCertStore};

    use super::*;

    const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap()
    }

    fn verify(authority: &Authority, certificate: &str, name: &str, at: Timestamp) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(der(authority.certificate_pem())).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().try_into().unwrap()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&der(certificate), &[], &name, &[], at).map(drop)
    }

    #[test]
    fn authority_vouches_for_the_names_it_was_told_and_for_as_long() {
        let made = Authority::create(now(), YEAR * 10).unwrap();
        // What is kept of it does for all that follows.
        let authority = Authority::load(made.certificate_pem(), &made.key_pem()).unwrap();
        let issued = authority.issue(&["db-1.internal", "10.1.2.3", "::1"], now(), YEAR).unwrap();
        for name in ["db-1.internal", "10.1.2.3", "::1"] {
            verify(&authority, &issued.certificate_pem, name, now()).unwrap();
            verify(&made, &issued.certificate_pem, name, issued.from).unwrap();
        }
        let late = issued.until + SignedDuration::from_secs(1);
        for (name, at) in [("db-2.internal", now()), ("db-1.internal", late)] {
            assert!(verify(&authority, &issued.certificate_pem, name, at).is_err(), "{name} {at}");
        }
        let other = Authority::create(now(), YEAR).unwrap();
        assert!(verify(&other, &issued.certificate_pem, "db-1.internal", now()).is_err());
        assert!(matches!(Authority::load(other.certificate_pem(), &made.key_pem()), Err(AuthorityError::Mismatch)));
        assert!(Authority::load(made.certificate_pem(), &"nonsense".into()).is_err());
    }

    #[test]
    fn authority_cannot_stand_in_for_a_server() {
        let authority = Authority::create(now(), YEAR).unwrap();
        let refused = verify(&authority, authority.certificate_pem(), "localhost", now()).unwrap_err();
        assert!(
            matches!(&refused, Error::InvalidCertificate(CertificateError::Other(why)) if why.to_string().contains("CaUsedAsEndEntity")),
            "{refused:?}"
        );
    }

    #[test]
    fn authority_refuses_what_is_no_name_and_no_time() {
        let authority = Authority::create(now(), YEAR).unwrap();
        for name in ["", "a b", "-a", "a..b", "*.x", "a/b", &"x".repeat(64)] {
            assert!(matches!(authority.issue(&[name], now(), YEAR), Err(AuthorityError::Name(_))), "{name}");
        }
        assert!(matches!(authority.issue(&[], now(), YEAR), Err(AuthorityError::NoName)));
        for valid_for in [SignedDuration::ZERO, YEAR * 20_000] {
            assert!(matches!(authority.issue(&["a"], now(), valid_for), Err(AuthorityError::Validity)));
        }
        assert!(!format!("{:?}", authority.key_pem()).contains("BEGIN"));
    }

    #[test]
    fn renewal_is_due_after_two_thirds() {
        let until = now() + SignedDuration::from_hours(300);
        for (hours, due) in [(0, false), (199, false), (200, true), (301, true)] {
            assert_eq!(is_due(now(), until, now() + SignedDuration::from_hours(hours)), due, "{hours}");
        }
    }
}

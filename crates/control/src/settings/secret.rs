//! A secret among the settings: it is deserialised, used, and shown to nobody.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// What stands for a secret wherever settings are printed.
pub const HIDDEN: &str = "•••";

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "password")]
pub struct Secret(SecretString);

impl Secret {
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_neither_by_debug_nor_by_serialisation() {
        let secret = Secret::from("hunter22".to_owned());
        let shown = format!("{secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(shown.contains(HIDDEN) && !shown.contains("hunter22"), "{shown}");
        assert_eq!(secret.expose_secret(), "hunter22");
    }
}

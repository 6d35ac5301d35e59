use std::path::PathBuf;

use crate::secrets::Password;

/// What the settings say of it.
#[derive(Debug, Clone)]
pub struct NomadOptions {
    /// Of any server or client of the region.
    pub url: String,
    /// Where its certificate is of an authority that this machine does not know: PEM.
    pub ca_file: Option<PathBuf>,
    /// A token that may, in the namespace, submit, read and list jobs, read logs, and write variables.
    pub token: Option<Password>,
    /// The same in a file, in place of it.
    pub token_file: Option<PathBuf>,
    pub namespace: String,
    /// The server's own when absent.
    pub region: Option<String>,
    /// `*` is every one of the region, from Nomad 1.5 on.
    pub datacenters: Vec<String>,
    /// Whose services these are, where several Freeholds share a namespace. Each sees its own alone.
    pub instance: String,
    /// What a core is worth in Nomad's unit.
    pub mhz_per_core: u32,
    /// How long directory and cluster may take to be made, the image's download included, in seconds.
    pub prepare_deadline_seconds: u32,
}

impl Default for NomadOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:4646".into(),
            ca_file: None,
            token: None,
            token_file: None,
            namespace: "default".into(),
            region: None,
            datacenters: vec!["*".into()],
            instance: "freehold".into(),
            mhz_per_core: 2000,
            prepare_deadline_seconds: 300,
        }
    }
}

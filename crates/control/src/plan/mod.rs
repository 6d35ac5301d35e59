//! Plans: what tenants may use. Declared in the settings; read-only here.

pub mod list;

//! SaaSOdoo's `DB_POOL_…`: what its environment says of pools is in force where a `[[server_pool]]` is silent.

use config::{Value, ValueKind};

use super::super::layer::Layer;
use super::Became;

/// The variable, the setting, and whether shared servers alone have it.
const OF_SAASODOO: [(&str, &str, bool); 3] = [
    ("DB_POOL_MAX_INSTANCES", "capacity", true),
    ("DB_POOL_CPU_LIMIT", "cpus", false),
    ("DB_POOL_MEMORY_LIMIT", "memory", false),
];

/// Of `[[server_pool]]`, before it is read. A value of `var` has the variable as its origin.
pub(in crate::settings) fn fill_in(pools: &mut Value, var: impl Fn(&str) -> Option<Value>) {
    let ValueKind::Array(pools) = &mut pools.kind else { return };
    for pool in pools {
        let ValueKind::Table(pool) = &mut pool.kind else { continue };
        let is_shared =
            pool.get("kind").is_none_or(|kind| matches!(&kind.kind, ValueKind::String(kind) if kind == "shared"));
        for (variable, setting, of_shared) in OF_SAASODOO {
            if !pool.contains_key(setting)
                && (is_shared || !of_shared)
                && let Some(value) = var(variable)
            {
                pool.insert(setting.to_owned(), value);
            }
        }
    }
}

/// Whether a pool has it from this name.
pub(super) fn became(whole: &Layer, setting: &str, name: &str) -> Became {
    let pools = match whole.0.get("server_pool").map(|pools| &pools.kind) {
        Some(ValueKind::Array(pools)) => pools.as_slice(),
        _ => &[],
    };
    let of_name = |pool: &&Value| match &pool.kind {
        ValueKind::Table(pool) => pool.get(setting).and_then(Value::origin) == Some(name),
        _ => false,
    };
    match pools.iter().filter(of_name).count() {
        0 => Became::Nobody { because: format!("no [[server_pool]] leaves its {setting} open") },
        _ => Became::Setting { setting: format!("server_pool.{setting}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ServerPool, Size};

    #[test]
    fn settings_of_pools_are_filled_in_from_the_environment_where_they_are_silent() {
        let said = |name: &str| match name {
            "DB_POOL_MAX_INSTANCES" => Some("30"),
            "DB_POOL_CPU_LIMIT" => Some("1.5"),
            "DB_POOL_MEMORY_LIMIT" => Some("2G"),
            _ => None,
        };
        let pool = |more: &str, said: &dyn Fn(&str) -> Option<&'static str>| {
            let text = format!("name = \"a\"\nplatform = \"process\"\npostgres = 18\n{more}");
            let table: config::Map<String, Value> = toml::from_str(&text).unwrap();
            let mut pools = Value::from(vec![Value::from(table)]);
            fill_in(&mut pools, |name| said(name).map(|said| Value::new(Some(&name.to_owned()), said)));
            pools.try_deserialize::<Vec<ServerPool>>().map(|mut pools| pools.remove(0))
        };
        let silent = pool("", &said).unwrap();
        assert_eq!((silent.slots(), silent.cpus, silent.memory), (30, Some(1.5), Some(Size(2 << 30))));
        let told = pool("capacity = 5\ncpus = 1\nmemory = \"1G\"", &said).unwrap();
        assert_eq!((told.slots(), told.cpus, told.memory), (5, Some(1.0), Some(Size(1 << 30))));
        let dedicated = pool("kind = \"dedicated\"", &said).unwrap();
        assert_eq!((dedicated.slots(), dedicated.cpus), (1, Some(1.5)));
        let error = pool("", &|name| (name == "DB_POOL_MAX_INSTANCES").then_some("many")).unwrap_err().to_string();
        assert!(error.contains("DB_POOL_MAX_INSTANCES"), "{error}");
    }
}

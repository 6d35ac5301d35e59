//! The JSON schema of a settings file, from the types that read it. `docs/settings.schema.json` is what it prints.
//!
//! Everything is in its place, without references: what reads it (`keys.rs`, editors) need not look anything up.

use serde_json::{Map, Value as Json, json};
use utoipa::{PartialSchema, ToSchema};

use super::Settings;

/// With the default of each setting, and a `…_file` beside each secret.
pub fn document() -> Json {
    let mut schema = plain();
    finish(&mut schema, Some(&example()), false);
    // Names of other platforms, which `names.rs` knows.
    let text = json!({ "type": ["string", "integer", "boolean"] });
    schema["properties"]["compat"]["patternProperties"] = json!({ "^[A-Z]": text });
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Freehold's settings",
    });
    let (Json::Object(document_fields), Json::Object(schema)) = (&mut document, schema) else { return Json::Null };
    document_fields.extend(schema);
    document
}

/// As the types say it: what is required is required, also where a variable may give it.
pub(super) fn plain() -> Json {
    let mut parts = Vec::new();
    <Settings as ToSchema>::schemas(&mut parts);
    let parts: Map<String, Json> = parts.into_iter().map(|(name, part)| (name, in_json(&part))).collect();
    resolved(&in_json(&Settings::schema()), &parts)
}

/// One of everything that may be left out, with nothing said but what must be: its values are the defaults.
pub(super) fn example() -> Json {
    let text = "\
        [store]\nurl = \"\"\n[[plan]]\nname = \"x\"\n[platform.process]\ndata_dir = \"\"\n\
        [platform.docker]\n[platform.nomad]\n[[server_pool]]\nname = \"x\"\nplatform = \"\"\npostgres = 18\n\
        [pooler.platform]\nkind = \"process\"\n[[edge]]\nkind = \"saasodoo\"\n";
    let settings: Settings = toml::from_str(text).expect("the shortest settings are complete");
    serde_json::to_value(settings).expect("settings are JSON")
}

fn in_json(schema: &impl serde::Serialize) -> Json {
    serde_json::to_value(schema).expect("a schema is JSON")
}

/// References replaced by what they lead to, and null by nothing: TOML has none.
fn resolved(schema: &Json, parts: &Map<String, Json>) -> Json {
    match schema {
        Json::Array(items) => items.iter().map(|item| resolved(item, parts)).collect(),
        Json::Object(fields) => {
            let mut fields = fields.clone();
            let named = fields.remove("$ref");
            let found = named.as_ref().and_then(Json::as_str).and_then(|path| parts.get(path.rsplit('/').next()?));
            let mut whole = match found.map(|found| resolved(found, parts)) {
                Some(Json::Object(found)) => found,
                _ => Map::new(),
            };
            // Optional parts are one of null and the part; described ones are all of the part alone.
            for of in ["oneOf", "allOf"] {
                if let Some(Json::Array(of)) = fields.remove(of) {
                    let parts_of = of.iter().filter(|part| part["type"] != "null").map(|part| resolved(part, parts));
                    whole.extend(parts_of.filter_map(|part| part.as_object().cloned()).flatten());
                }
            }
            if let Some(Json::Array(types)) = fields.get("type") {
                let first = types.iter().find(|kind| *kind != "null").cloned();
                fields.insert("type".into(), first.unwrap_or(Json::Null));
            }
            // What is said at the field goes above what is said at its type.
            whole.extend(fields.iter().map(|(name, value)| (name.clone(), resolved(value, parts))));
            Json::Object(whole)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => schema.clone(),
    }
}

fn finish(schema: &mut Json, default: Option<&Json>, in_list: bool) {
    let Json::Object(schema) = schema else { return };
    if schema.get("format").is_some_and(|format| format == "bytes, 4G") {
        schema.insert("type".into(), json!(["integer", "string"]));
    }
    if schema.get("default").is_some_and(|default| default.is_null() || default == &json!({})) {
        schema.remove("default");
    }
    // A variable may give what is required, but for what is in a list.
    let required = schema.get("required").cloned();
    if !in_list {
        schema.remove("required");
    }
    if let Some(item) = schema.get_mut("items") {
        finish(item, default.and_then(|list| list.get(0)), true);
    }
    let Some(Json::Object(properties)) = schema.get_mut("properties") else { return };
    let secrets: Vec<String> = properties
        .iter()
        .filter(|(name, of)| of["format"] == "password" && !properties.contains_key(&format!("{name}_file")))
        .map(|(name, _)| name.clone())
        .collect();
    for (name, of) in properties.iter_mut() {
        let default = default.and_then(|defaults| defaults.get(name));
        let is_required = required.as_ref().and_then(Json::as_array).is_some_and(|names| names.contains(&json!(name)));
        if let (Some(default), Json::Object(of)) = (default, &mut *of)
            && !is_required
            && !of.contains_key("properties")
            && !of.contains_key("items")
            && !matches!(default, Json::Null | Json::Object(_))
        {
            of.insert("default".into(), default.clone());
        }
        finish(of, default, false);
    }
    for name in secrets {
        let description = format!("A file that holds `{name}`, in place of it.");
        let file = json!({ "type": "string", "format": "path", "description": description });
        properties.insert(format!("{name}_file"), file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_knows_the_settings_with_their_defaults() {
        let document = document();
        let of = |path: &str| document.pointer(path).unwrap_or_else(|| panic!("no {path} in {document:#}"));
        let listen = of("/properties/listen");
        assert_eq!((&listen["type"], &listen["default"]), (&json!("string"), &json!("127.0.0.1:8400")));
        assert_eq!(of("/properties/environment/enum"), &json!(["production", "development"]));
        assert_eq!(of("/properties/store/properties/connections/default"), 20);
        assert_eq!(of("/properties/store/properties/url_file/format"), "path");
        assert_eq!(of("/properties/store/properties/url").get("default"), None);
        assert_eq!(of("/properties/platform/properties/process/properties/ports/default"), "8600-8799");
        assert_eq!(of("/properties/server_pool/items/required"), &json!(["name", "platform", "postgres"]));
        assert_eq!(of("/properties/server_pool/items/properties/memory/type"), &json!(["integer", "string"]));
        assert_eq!(of("/properties/store/additionalProperties"), false);
        assert_eq!(of("/properties/compat/patternProperties/^[A-Z]/type/0"), "string");
        let text = document.to_string();
        for gone in ["$ref", "\"default\":null", "\"type\":\"null\""] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        // Two types of one name would be taken for each other.
        assert_eq!(of("/properties/pooler/properties/platform/properties/maximum_poolers/default"), 4);
    }
}

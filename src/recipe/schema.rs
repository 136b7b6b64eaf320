//! The JSON Schema of a recipe, made of the table of keys, for editors: completion, hover texts and
//! red lines.
//!
//! It is a little wider than the reader where a string may hold `{{ }}`, because any text can come
//! out of that.

use serde_json::{Map, Value, json};

use super::keys;
use super::parse::matrix::EXCLUDE;
use super::workspace_keys::{WORKSPACE, WORKSPACE_DEFAULTS, WORKSPACE_DOC, WORKSPACE_VARS_DOC};
use crate::schema::{Check, Section, Shape};
use crate::step::LIMIT;

/// Returns the whole schema, draft 2020-12.
pub(crate) fn schema() -> Value {
    let mut properties = Map::new();
    for name in keys::TOP {
        let value = match (*name, keys::table(name)) {
            ("vars", _) => vars(),
            ("matrix", _) => matrix(),
            ("step", _) => list(keys::STEP_DOC, "step", keys::kinds()),
            ("stage", _) => stages(),
            ("test", _) => list(keys::TEST_DOC, "test", keys::checks()),
            ("output", _) => {
                let kinds = [&keys::OUTPUT, &keys::PUSH];
                let kinds = kinds.map(|kind| json!({ "$ref": format!("#/$defs/{}", kind.name) }));
                json!({ "description": keys::OUTPUT_DOC, "type": "array",
                    "items": { "oneOf": kinds } })
            }
            (_, Some(section)) => json!({ "$ref": format!("#/$defs/{}", section.name) }),
            (_, None) => continue,
        };
        properties.insert((*name).to_owned(), value);
    }
    let mut defs = Map::new();
    for (name, section) in keys::tables() {
        defs.insert(name, table(section));
    }
    // Which keys exist is the same for every base; that exactly one of these is there is stated
    // separately.
    if let Some(base) = defs.get_mut("base").and_then(Value::as_object_mut) {
        base.insert("oneOf".into(), json!(keys::BASES.map(|kind| json!({ "required": [kind] }))));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bake recipe",
        "description": "What `bake build` makes an image of.",
        "type": "object",
        "properties": properties,
        "required": ["image", "base"],
        "additionalProperties": false,
        "$defs": defs,
    })
}

/// Returns the schema of a workspace file.
pub(crate) fn workspace_schema() -> Value {
    let mut schema = table(&WORKSPACE);
    schema["properties"]["vars"] = vars();
    schema["properties"]["vars"]["description"] = WORKSPACE_VARS_DOC.into();
    let mut defaults = table(&WORKSPACE_DEFAULTS);
    // A reference would be to a part of the recipe's schema.
    defaults["properties"][LIMIT.name] = table(&LIMIT);
    schema["properties"]["defaults"] = defaults;
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bake workspace",
        "description": WORKSPACE_DOC,
    });
    let mut whole = head.as_object().cloned().unwrap_or_default();
    whole.extend(schema.as_object().cloned().unwrap_or_default());
    Value::Object(whole)
}

fn table(section: &Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        let mut value = shape(key.shape);
        if let Some(object) = value.as_object_mut() {
            object.insert("description".into(), key.doc.into());
            object.insert("$comment".into(), section.effect_of(key).sentence().into());
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required = |of_one| {
        let keys = section.keys.iter().filter(move |key| key.required && key.of_one == of_one);
        keys.map(|key| key.name).collect::<Vec<_>>()
    };
    let mut table = json!({
        "description": section.doc,
        "type": "object",
        "properties": properties,
        "required": required(false),
        "additionalProperties": false,
    });
    if !required(true).is_empty() {
        let targets = json!({ section.name: { "type": "object" } });
        table["if"] = json!({ "properties": targets });
        table["else"] = json!({ "required": required(true) });
    }
    table
}

/// A list of tables, each of one of the kinds.
fn list(doc: &str, name: &str, kinds: impl Iterator<Item = &'static Section>) -> Value {
    let kinds: Vec<Value> =
        kinds.map(|kind| json!({ "$ref": format!("#/$defs/{name}-{}", kind.name) })).collect();
    json!({ "description": doc, "type": "array", "items": { "oneOf": kinds } })
}

fn stages() -> Value {
    let mut properties = Map::new();
    for name in keys::STAGE {
        let value = match *name {
            "step" => list(keys::STEP_DOC, "step", keys::kinds()),
            other => json!({ "$ref": format!("#/$defs/{other}") }),
        };
        properties.insert((*name).to_owned(), value);
    }
    json!({
        "description": keys::STAGES_DOC,
        "type": "object",
        "propertyNames": { "pattern": "^[a-z][a-z0-9_-]{0,63}$" },
        "additionalProperties": {
            "description": keys::STAGE_DOC,
            "type": "object",
            "properties": properties,
            "required": ["base"],
            "additionalProperties": false,
        },
    })
}

fn vars() -> Value {
    let scalar = json!(["string", "integer", "boolean"]);
    let mut properties = Map::new();
    for key in keys::VAR.keys {
        let mut value = match key.name {
            "default" => json!({ "type": scalar }),
            "values" => json!({ "type": "array", "items": { "type": scalar }, "minItems": 1 }),
            _ => shape(key.shape),
        };
        value["description"] = key.doc.into();
        properties.insert(key.name.to_owned(), value);
    }
    let long = json!({ "description": keys::VAR.doc, "type": "object",
        "properties": properties, "additionalProperties": false });
    json!({
        "description": keys::VARS_DOC,
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": { "anyOf": [{ "type": scalar }, long] },
    })
}

fn matrix() -> Value {
    let scalar = json!(["string", "integer", "boolean"]);
    let values = json!({ "type": "array", "items": { "type": scalar }, "minItems": 1 });
    let left_out = json!({ "type": "object", "additionalProperties": { "type": scalar } });
    json!({
        "description": keys::MATRIX_DOC,
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "properties": {
            EXCLUDE: { "description": keys::EXCLUDE_DOC, "type": "array", "items": left_out },
        },
        "additionalProperties": values,
    })
}

fn shape(shape: Shape) -> Value {
    const FILLED: &str = r"\{\{";
    match shape {
        Shape::Text(check) => text(check),
        Shape::List(check) => json!({ "type": "array", "items": text(check) }),
        Shape::OneOrMany(check) => {
            json!({ "anyOf": [text(check), { "type": "array",
                "items": text(check), "minItems": 1 }] })
        }
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Yes => json!({ "type": "boolean", "const": true }),
        Shape::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Shape::Choice(choices) => {
            json!({ "anyOf": [{ "enum": choices }, { "type": "string", "pattern": FILLED }] })
        }
        Shape::Command => {
            json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array",
                "items": { "type": "string" }, "minItems": 1 }] })
        }
        Shape::Shell => json!({ "anyOf": [
            { "enum": ["sh", "bash"] },
            { "type": "string", "pattern": FILLED },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Shape::Network => json!({ "anyOf": [
            { "type": "boolean" },
            { "const": "host" },
            { "type": "string", "pattern": FILLED },
            { "type": "array", "items": text(Check::Reachable) },
        ] }),
        Shape::Map(check) => {
            let value = json!({ "type": ["string", "integer"] });
            let mut map = json!({ "type": "object", "additionalProperties": value });
            if check == Check::EnvName {
                map["propertyNames"] = json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
            }
            map
        }
        Shape::Lists(_, what) => {
            let several = json!({ "type": "array", "items": text(what), "minItems": 1 });
            json!({
                "type": "object",
                "minProperties": 1,
                "additionalProperties": { "anyOf": [text(what), several] },
            })
        }
        Shape::Data => json!({ "type": "object" }),
        Shape::Vars => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": { "type": ["string", "integer", "boolean"] },
        }),
        Shape::Stage => text(Check::Filled),
        Shape::From => json!({ "anyOf": [text(Check::Filled), { "$ref": "#/$defs/from" }] }),
        Shape::Targets(targets) => {
            let mut what = vec![text(targets.what)];
            if targets.many {
                what.push(json!({ "type": "array", "items": text(targets.what), "minItems": 1 }));
            }
            json!({ "anyOf": [self::shape(targets.one), {
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": "^(/|\\{\\{)" },
                "additionalProperties": { "anyOf": what },
            }] })
        }
        Shape::Mounts => json!({
            "type": "object",
            "propertyNames": { "pattern": "^/" },
            "additionalProperties": {
                "anyOf": [text(Check::Context), { "$ref": "#/$defs/mount" }],
            },
        }),
        Shape::Caches => json!({ "type": "array", "minItems": 1, "items": {
            "anyOf": [text(Check::MountPoint), { "$ref": "#/$defs/cache" }],
        } }),
        Shape::Ports => json!({ "type": "array", "items": { "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65535 },
            { "type": "string", "pattern": r"^[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$|\{\{" },
        ] } }),
        Shape::Sha256 => {
            let digest =
                json!({ "type": "string", "pattern": r"^(sha256:)?[0-9A-Fa-f]{64}$|\{\{" });
            json!({ "anyOf": [digest, { "type": "object", "additionalProperties": digest }] })
        }
        Shape::Start => {
            let words = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
            let one = json!([{ "const": true }, { "type": "string", "minLength": 1 }, words]);
            let several = json!({ "type": "array", "items": { "anyOf": one }, "minItems": 1 });
            let named = json!({
                "type": "object",
                "minProperties": 1,
                "additionalProperties": { "anyOf": one },
            });
            let mut all = one.as_array().cloned().unwrap_or_default();
            all.extend([several, named]);
            json!({ "anyOf": all })
        }
        Shape::Table(section) => json!({ "$ref": format!("#/$defs/{}", section.name) }),
    }
}

fn text(check: Check) -> Value {
    match check.pattern() {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table of keys in the schema is closed, and everything that an editor can show a text
    /// for has one.
    fn walk(value: &Value, path: &str) {
        let Some(object) = value.as_object() else { return };
        if let Some(properties) = object.get("properties").and_then(Value::as_object) {
            // The variables of a matrix are the recipe's own.
            let closed = object.get("additionalProperties") == Some(&json!(false));
            assert!(closed || path == "recipe.matrix", "{path} is open");
            for (name, property) in properties {
                let described =
                    property.get("description").is_some() || property.get("$ref").is_some();
                assert!(described, "{path}.{name} has no description");
                walk(property, &format!("{path}.{name}"));
            }
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = object.get(key) {
                walk(inner, &format!("{path}.{key}"));
            }
        }
        for key in ["anyOf", "oneOf"] {
            for inner in object.get(key).and_then(Value::as_array).into_iter().flatten() {
                walk(inner, &format!("{path}.{key}"));
            }
        }
    }

    #[test]
    fn the_schema_is_closed_and_described() {
        let schema = schema();
        walk(&schema, "recipe");
        let defs = schema["$defs"].as_object().unwrap();
        for (name, def) in defs {
            walk(def, name);
        }
        let text = schema.to_string();
        for (at, _) in text.match_indices("#/$defs/") {
            let name = text[at + 8..].split('"').next().unwrap();
            assert!(defs.contains_key(name), "{name} is not defined");
        }
    }

    #[test]
    fn the_schema_of_a_workspace_is_closed_and_has_every_key() {
        let schema = workspace_schema();
        walk(&schema, "workspace");
        assert!(!schema.to_string().contains("$ref"), "it stands alone");
        let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, crate::recipe::workspace_keys::workspace_top().collect::<Vec<_>>());
    }

    #[test]
    fn the_schema_has_the_table_of_keys() {
        let schema = schema();
        let names = |value: &Value| {
            value["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&schema), keys::TOP);
        for (name, section) in keys::tables() {
            let def = &schema["$defs"][name];
            assert_eq!(names(def), section.keys.iter().map(|k| k.name).collect::<Vec<_>>());
        }
    }
}

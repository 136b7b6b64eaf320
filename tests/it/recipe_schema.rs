//! The schema takes what the reader takes, and refuses keys and types that the reader refuses.

use std::fs;
use std::path::Path;

use bake::recipe;
use serde_json::Value;

/// The few words of JSON Schema that bake uses; patterns are left to real validators.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(target) = schema["$ref"].as_str() {
        return fits(root, root.pointer(target.trim_start_matches('#')).expect("defined"), value);
    }
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let typed = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|n| is(n.as_str().unwrap())),
        _ => true,
    };
    let count = |key: &str| {
        schema[key].as_array().map(|list| list.iter().filter(|s| fits(root, s, value)).count())
    };
    let listed = schema["enum"].as_array().is_none_or(|list| list.contains(value))
        && (schema["const"].is_null() || schema["const"] == *value);
    let bounded = value.as_i64().is_none_or(|n| {
        schema["minimum"].as_i64().is_none_or(|low| n >= low)
            && schema["maximum"].as_i64().is_none_or(|high| n <= high)
    });
    let entries = value.as_array().is_none_or(|list| {
        list.len() as u64 >= schema["minItems"].as_u64().unwrap_or(0)
            && (schema["items"].is_null() || list.iter().all(|v| fits(root, &schema["items"], v)))
    });
    let keys = value.as_object().is_none_or(|object| {
        let required = schema["required"]
            .as_array()
            .is_none_or(|names| names.iter().all(|n| object.contains_key(n.as_str().unwrap())));
        required
            && object.iter().all(|(name, v)| {
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(open)) => *open,
                    (Value::Null, Value::Null) => true,
                    (Value::Null, rest) => fits(root, rest, v),
                    (property, _) => fits(root, property, v),
                }
            })
    });
    let branch = schema["if"].is_null()
        || fits(root, &schema["if"], value)
        || fits(root, &schema["else"], value);
    typed
        && branch
        && listed
        && bounded
        && entries
        && keys
        && count("anyOf").is_none_or(|n| n > 0)
        && count("oneOf").is_none_or(|n| n == 1)
}

fn valid(text: &str) -> bool {
    let table: toml::Table = text.parse().unwrap();
    let schema = recipe::schema();
    fits(&schema, &schema, &serde_json::to_value(table).unwrap())
}

#[test]
fn good_recipes_fit() {
    for entry in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/good")).unwrap()
    {
        let file = entry.unwrap().path();
        assert!(valid(&fs::read_to_string(&file).unwrap()), "{}", file.display());
    }
}

#[test]
fn bad_recipes_do_not() {
    let with =
        |rest: &str| format!("[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n{rest}");
    assert!(valid(&with("")));
    assert!(valid(&with("[[step]]\ncopy = { '/a' = 'x', '/b/' = ['y', 'z'] }")));
    assert!(valid(&with("[[test]]\nstart = { web = true, db = 'x' }\ntcp = 'a:1'")));
    for rest in [
        "[[step]]\nrun = 5",
        "[[step]]\nrun = 'x'\ncopy = 'y'\nto = '/z'",
        "[[step]]\nname = 'x'",
        "[[step]]\nrun = 'x'\nto = '/z'",
        "[[step]]\ncopy = 'x'",
        "[[step]]\ncopy = { '/a' = 1 }",
        "[[step]]\nsymlink = { '/a' = ['x'] }",
        "[[step]]\nrun = 'x'\nenv.A = true",
        "[[step]]\nrun = 'x'\ncache = 5",
        "[step]\nrun = 'x'",
        "[config]\nports = [0]",
        "[config.healthcheck]\ncmd = 'x'\ncommand = 'y'",
        "[vars]\na = 1.5",
        "[vars]\na = { defualt = 1 }",
    ] {
        assert!(!valid(&with(rest)), "{rest}");
    }
    assert!(!valid("[image]\nname = 'x'\n[base]\nscratch = true\npath = 'x'\n"));
    assert!(!valid("[image]\nname = 'x'\n[base]\nvariant = 'slim'\n"));
}

//! Functions of HCL2 that are the same whenever they are called.

use super::value::Value;
use crate::convert::text::Text;

/// Returns what a function returns; `None` where that is not known here, or the arguments are none
/// of it. Of texts with variables of the recipe most functions take what they are by default.
pub(super) fn call(name: &str, mut values: Vec<Value>) -> Option<Value> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.value()),
        _ => None,
    };
    match (name, values.as_slice()) {
        ("lower", [one]) => Some(Value::plain(text(one)?.to_lowercase())),
        ("upper", [one]) => Some(Value::plain(text(one)?.to_uppercase())),
        ("trimspace", [one]) => Some(Value::plain(text(one)?.trim())),
        ("trimprefix", [one, end]) => {
            let (one, end) = (text(one)?, text(end)?);
            Some(Value::plain(one.strip_prefix(&end).unwrap_or(&one)))
        }
        ("trimsuffix", [one, end]) => {
            let (one, end) = (text(one)?, text(end)?);
            Some(Value::plain(one.strip_suffix(&end).unwrap_or(&one)))
        }
        ("tostring" | "tonumber" | "tobool", [_]) => values.pop().filter(|v| text(v).is_some()),
        ("toset" | "tolist", [Value::List(_)]) => values.pop(),
        // A pattern between slashes is a regular expression.
        ("replace", [one, from, to]) => {
            let (one, from, to) = (text(one)?, text(from)?, text(to)?);
            let pattern = from.len() > 1 && from.starts_with('/') && from.ends_with('/');
            let long = one.len().saturating_mul(to.len() + 1) > 1 << 20;
            (!pattern && !long && !from.is_empty()).then(|| Value::plain(one.replace(&from, &to)))
        }
        ("join", [Value::Text(between), lists @ ..]) => {
            let mut out = Text::default();
            let mut first = true;
            for list in lists {
                let Value::List(all) = list else { return None };
                for one in all {
                    let Value::Text(one) = one else { return None };
                    if !std::mem::take(&mut first) {
                        out.push(between);
                    }
                    out.push(one);
                }
            }
            Some(Value::Text(out))
        }
        ("split", [between, one]) => {
            let (between, one) = (text(between)?, text(one)?);
            let parts = one.split(between.as_str()).map(Value::plain);
            (!between.is_empty()).then(|| Value::List(parts.collect()))
        }
        ("format", [Value::Text(format), rest @ ..]) => formatted(&format.value(), rest),
        ("concat", _) => {
            let mut all = vec![];
            for value in values {
                let Value::List(more) = value else { return None };
                all.extend(more);
            }
            Some(Value::List(all))
        }
        ("flatten", [Value::List(all)]) => {
            let mut out = vec![];
            for one in all {
                match one {
                    Value::List(more) => out.extend(more.iter().cloned()),
                    other => out.push(other.clone()),
                }
            }
            Some(Value::List(out))
        }
        ("compact", [Value::List(all)]) => {
            let full = |one: &&Value| text(one).is_some_and(|text| !text.is_empty());
            Some(Value::List(all.iter().filter(full).cloned().collect()))
        }
        ("length", [one]) => Some(Value::plain(match one {
            Value::List(all) => all.len().to_string(),
            Value::Map(all) => all.len().to_string(),
            Value::Text(text) => text.value().chars().count().to_string(),
            Value::Null => return None,
        })),
        ("coalesce", all) => {
            let full = |one: &&Value| text(one).is_some_and(|text| !text.is_empty());
            all.iter().find(full).cloned()
        }
        ("merge", _) => {
            let mut out: Vec<(String, Value)> = vec![];
            for value in values {
                let Value::Map(more) = value else { return None };
                for (name, value) in more {
                    out.retain(|(one, _)| *one != name);
                    out.push((name, value));
                }
            }
            Some(Value::Map(out))
        }
        ("keys", [Value::Map(all)]) => {
            Some(Value::List(all.iter().map(|(name, _)| Value::plain(name.clone())).collect()))
        }
        ("lookup", [Value::Map(all), key, rest @ ..]) => {
            let key = text(key)?;
            let found = all.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
            found.or_else(|| rest.first().cloned())
        }
        ("element", [Value::List(all), at]) if !all.is_empty() => {
            Some(all[text(at)?.parse::<usize>().ok()? % all.len()].clone())
        }
        ("basename", [one]) => Some(Value::plain(text(one)?.rsplit('/').next()?.to_owned())),
        ("dirname", [one]) => {
            let one = text(one)?;
            Some(Value::plain(one.rsplit_once('/').map_or(".", |(above, _)| above)))
        }
        _ => None,
    }
}

/// `format` with `%s`, `%d`, `%v`, `%q` and `%%`.
fn formatted(format: &str, values: &[Value]) -> Option<Value> {
    let mut out = Text::default();
    let mut rest = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push_plain(c.encode_utf8(&mut [0; 4]));
            continue;
        }
        match chars.next()? {
            '%' => out.push_plain("%"),
            's' | 'd' | 'v' => match rest.next()? {
                Value::Text(text) => out.push(text),
                _ => return None,
            },
            _ => return None,
        }
    }
    rest.next().is_none().then_some(Value::Text(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(words: &[&str]) -> Vec<Value> {
        words.iter().map(|word| Value::plain(*word)).collect()
    }

    #[test]
    fn functions_are_those_of_hcl() {
        for (name, words, expected) in [
            ("lower", &["A"][..], Some("a")),
            ("upper", &["a"], Some("A")),
            ("trimspace", &[" a\n"], Some("a")),
            ("replace", &["a-b", "-", "."], Some("a.b")),
            ("replace", &["a-b", "/-/", "."], None),
            ("format", &["%s-%d%%", "a", "2"], Some("a-2%")),
            ("format", &["%s"], None),
            ("format", &["%05d", "2"], None),
            ("coalesce", &["", "b"], Some("b")),
            ("length", &["é"], Some("1")),
            ("basename", &["a/b"], Some("b")),
            ("templatefile", &["a"], None),
            ("lower", &[], None),
        ] {
            let found = call(name, all(words));
            assert_eq!(found, expected.map(Value::plain), "{name} {words:?}");
        }
        let list = Value::List(all(&["a", "b"]));
        assert_eq!(call("join", vec![Value::plain(","), list.clone()]), Some(Value::plain("a,b")));
        assert_eq!(call("length", vec![list.clone()]), Some(Value::plain("2")));
        let twice = call("concat", vec![list.clone(), list]);
        assert_eq!(twice.and_then(|all| call("length", vec![all])), Some(Value::plain("4")));
    }
}

//! The environment of `shell` provisioners, secrets in it included.

use super::lower::Lower;
use super::node::{Block, Kind, Node};
use super::value::{Why, short};
use crate::convert::document::Options;
use crate::convert::text::Text;

/// The line of an entry, its name and value, and the secrets that it uses.
type Found = (u32, Result<(String, Text), Why>, Vec<String>);

impl Lower<'_, '_> {
    /// Fills in the environment of a step.
    pub(super) fn environment(&mut self, block: &Block, options: &mut Options) {
        let mut found: Vec<Found> = vec![];
        if let Some(node) = block.get("environment_vars") {
            // One by one, for one that cannot be had not to take the others with it.
            let each: Vec<&Node> = match &node.kind {
                Kind::List(all) => all.iter().collect(),
                _ => vec![node],
            };
            for one in each {
                match self.in_shell(|scope| scope.texts(one)) {
                    Err(why) => found.push((one.line, Err(why), vec![])),
                    Ok((texts, used)) => {
                        let pairs = texts.iter().map(|text| (one.line, pair(text), used.clone()));
                        found.extend(pairs);
                    }
                }
            }
        }
        if let Some(Node { kind: Kind::Object(entries), .. }) = block.get("env") {
            for (name, node) in entries {
                match self.in_shell(|scope| scope.text(node)) {
                    Err(why) => found.push((node.line, Err(why), vec![])),
                    Ok((text, used)) => found.push((node.line, Ok((name.clone(), text)), used)),
                }
            }
        } else if let Some(node) = block.get("env") {
            let why = Why::Left("it is not written as a table".to_owned());
            found.push((node.line, Err(why), vec![]));
        }
        for (line, one, used) in found {
            self.flush();
            match one {
                Err(Why::Left(why) | Why::Open(_, why)) => {
                    let message = format!("a variable of the environment is left out: {why}");
                    self.stage.remark(line, "env", message);
                }
                Ok((name, value)) => {
                    let whole =
                        used.iter().find(|secret| value.value() == format!("${{{secret}}}"));
                    let part = used
                        .iter()
                        .find(|secret| value.value().contains(&format!("${{{secret}}}")));
                    if let Some(secret) = whole {
                        let message =
                            format!("whoever builds gives the secret: --secret {secret}=…");
                        self.stage.note(line, "secret", message);
                        options.secret_env.insert(name, secret.clone());
                    } else if let Some(secret) = part {
                        let message = format!(
                            "`{name}` is left out: a part of it is the secret `{secret}`, and a \
                                recipe has secrets as wholes"
                        );
                        self.stage.remark(line, "secret", message);
                    } else {
                        options.env.insert(name, value.written());
                    }
                }
            }
        }
        let fits = |name: &String| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        let wrong: Vec<String> = options
            .env
            .keys()
            .chain(options.secret_env.keys())
            .filter(|n| !fits(n))
            .cloned()
            .collect();
        for name in wrong {
            let message = format!("`{}` is left out: no variable is called so", short(&name));
            self.stage.remark(block.line, "env", message);
            options.env.remove(&name);
            options.secret_env.remove(&name);
        }
    }
}

/// Splits `NAME=value`, of which the name is plain.
fn pair(text: &Text) -> Result<(String, Text), Why> {
    text.split_once('=')
        .ok_or_else(|| Why::Left(format!("`{}` is not `NAME=value`", short(&text.value()))))
}

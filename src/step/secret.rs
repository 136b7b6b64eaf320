//! `secrets` and `secret_env`: what they say wrong together, and with `env`.

use super::kind::Findings;
use crate::schema::{Check, Fields, Mistake};

/// Finds what is wrong with the secrets of a step.
pub(super) fn check_secrets(fields: &Fields, findings: &mut Findings<'_>) {
    let Some(field) = fields.get("secret_env") else { return };
    let env = fields.map("env");
    for (variable, name) in fields.map("secret_env") {
        if let Err(mistake) = Check::SecretName.test(&name) {
            findings.add(field.span.clone(), mistake);
        }
        if env.contains_key(&variable) {
            let mistake = Mistake::new(format!("`{variable}` is in `env` and in `secret_env`"));
            findings.add(field.key.clone(), mistake.label("it has two values"));
        }
    }
}

//! `FROM`: where a stage starts, and what it finds there.

use std::collections::BTreeSet;

use super::arguments::platform;
use super::bases;
use super::document::Value;
use super::fault::Fault;
use super::fill::Filler;
use super::instruction::{Instruction, Kind};
use super::lowered::{Lowered, Wanted};
use super::stage::{Shared, Stage, flag};
use super::state::{Origin, State};
use super::text::{Text, is_used};
use crate::image::RemoteName;

/// Fills in a word outside of any stage.
pub(super) fn fill(
    line: u32,
    word: &str,
    escape: char,
    globals: &[(String, Text)],
) -> Result<Text, Fault> {
    let mut look = |name: &str, _: bool| {
        let found = globals.iter().rfind(|(one, _)| one == name);
        found.map(|(_, text)| text.clone()).or_else(|| platform(name))
    };
    let mut filler = Filler { escape, look: &mut look, quotes: true, fixed: vec![] };
    filler.fill(word).map_err(|why| Fault::new(line, why))
}

/// Where a stage starts.
pub(super) struct Start {
    pub(super) base: Vec<(&'static str, Value)>,
    pub(super) state: State,
    pub(super) above: Option<usize>,
    pub(super) needs: BTreeSet<usize>,
    pub(super) on_build: Vec<Instruction>,
    pub(super) scratch: bool,
}

pub(super) fn start(
    shared: &Shared<'_>,
    index: usize,
    image: &Text,
    before: &[Lowered],
    wanted: &Wanted<'_>,
) -> Start {
    let value = image.value();
    let lower = value.to_ascii_lowercase();
    let stages = &shared.stages[..index];
    let fresh = |base, state, scratch| {
        let (needs, on_build) = (BTreeSet::new(), vec![]);
        Start { base, state, above: None, needs, on_build, scratch }
    };
    if let Some(at) = stages.iter().rposition(|one| one.name.as_deref() == Some(&lower)) {
        let below = &before[at];
        let mut state = below.state.clone();
        state.config.own_cmd = false;
        let on_build = below.on_build.clone();
        // An image that starts from a stage inherits nothing of how the image below is started: it
        // has the same steps on the same image instead, which are run once.
        if matches!(state.origin, Origin::Image { .. }) {
            let (base, needs) = (below.root.base.clone(), below.needs.clone());
            return Start { base, state, above: Some(at), needs, on_build, scratch: false };
        }
        state.steps.clear();
        let base = vec![("stage", Value::text(&*stages[at].title))];
        return Start { base, state, above: None, needs: [at].into(), on_build, scratch: false };
    }
    if value == "scratch" {
        return fresh(vec![("scratch", Value::Yes)], State::new(Origin::Made, false), true);
    }
    if let Some((suite, slim)) = bases::debian(&value).filter(|_| wanted.debian) {
        let mut base = vec![("debian", Value::Text(suite))];
        if slim {
            base.push(("variant", Value::text("slim")));
        }
        return fresh(base, State::new(Origin::Made, true), false);
    }
    let known = bases::known(&value);
    let plain_apt = known.as_ref().is_some_and(|known| known.debian);
    let state = State::new(Origin::Image { name: value, known }, plain_apt);
    fresh(vec![("oci", Value::Text(image.written()))], state, false)
}

/// Whether the name of an image says that it is one of Windows.
pub(super) fn is_windows(image: &str) -> bool {
    ["nanoserver", "windowsservercore", "mcr.microsoft.com/windows"]
        .iter()
        .any(|sign| image.contains(sign))
}

/// Whether instructions go by the user or the directory that the image sets.
pub(super) fn inherits(body: &[Instruction]) -> bool {
    let (mut user, mut directory) = (false, false);
    for one in body {
        match &one.kind {
            Kind::User(_) => user = true,
            Kind::Workdir(path) => {
                directory |= path.starts_with('/');
                if !user || !directory {
                    return true;
                }
            }
            Kind::Run(_) if !user || !directory => return true,
            Kind::Copy(words) | Kind::Add(words) => {
                let to = words.last().map(String::as_str).unwrap_or_default();
                if !directory && !to.starts_with(['/', '$']) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Makes variables required without which an image has no name, and returns them.
pub(super) fn nameless(
    shared: &mut Shared<'_>,
    base: &[(&str, Value)],
    image: &Text,
) -> Vec<String> {
    let named = image.value().parse::<RemoteName>().is_ok();
    if named || image.is_plain() || !base.iter().any(|(key, _)| *key == "oci") {
        return vec![];
    }
    let written = image.written();
    let mut found = vec![];
    for one in &mut shared.arguments.variables {
        if one.value.as_deref() == Some("") && is_used(&written, &one.name) {
            one.value = None;
            found.push(one.name.clone());
        }
    }
    found
}

/// Returns the platform that a stage is built for, where the Dockerfile names one.
pub(super) fn built_for(
    stage: &mut Stage<'_, '_>,
    from: &Instruction,
    globals: &[(String, Text)],
) -> Result<Option<String>, Fault> {
    let Some(text) = flag(from, "platform") else { return Ok(None) };
    if text.contains("BUILDPLATFORM") {
        let message = "`--platform=$BUILDPLATFORM` is left out: a stage is built for the \
            platform of the image";
        stage.note(from.line, "platform", message);
        return Ok(None);
    }
    let text = fill(from.line, text, stage.shared.escape, globals)?;
    Ok(Some(text.written()).filter(|_| text.is_plain()))
}

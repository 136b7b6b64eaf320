//! What a recipe starts from: the image of a container, a Debian, or what whoever builds names.

use super::base::{disk, size, suite};
use super::lower::Lower;
use super::node::Node;
use super::value::Why;
use crate::convert::bases;
use crate::convert::document::{Step, Value};
use crate::convert::lowered::Wanted;
use crate::convert::state::{Origin, State};
use crate::convert::text::{Text, is_used};

/// What a machine needs besides what is installed in it.
const MACHINE: &[&str] = &[
    "linux-image-cloud-{{ arch }}",
    "systemd-sysv",
    "systemd-boot-efi",
    "udev",
    "dbus",
    "systemd-resolved",
];

impl Lower<'_, '_> {
    /// Returns the base, and sets up the state that steps find on it.
    pub(super) fn base(&mut self, wanted: &Wanted<'_>) -> Vec<(&'static str, Value)> {
        let (line, kind) = (self.candidate.block.line, self.candidate.kind.clone());
        if self.container
            && let Some(image) = self.candidate.block.get("image").cloned()
        {
            match self.scope.text(&image) {
                Ok(image) => return self.image(line, &image, wanted.debian),
                Err(Why::Left(why) | Why::Open(_, why)) => {
                    self.stage.remark(line, "base", format!("the image is not known: {why}"));
                }
            }
            return self.unknown(line);
        }
        let texts = self.scope.look(&self.candidate.block);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let Some(suite) = suite(&texts) else { return self.unknown(line) };
        self.stage.state = State::new(Origin::Made, true);
        let format = self.candidate.block.get("format").and_then(Node::as_plain);
        let message = match disk(&kind, format.as_deref()) {
            Some(_) => format!(
                "`{kind}` starts from an installed machine, or from an installer: the recipe \
                    starts from packages of {suite}, with a kernel and what a machine needs to \
                    start; users, partitions and what else the installer or the image brings is \
                    not converted"
            ),
            None => format!(
                "`{kind}` starts from another root: the recipe starts from packages of {suite}, \
                    and what else that root has is not converted"
            ),
        };
        self.stage.remark(line, "base", message);
        if self.sudo {
            let message = format!(
                "commands are those of `{}`, who becomes root by sudo: here all of them are \
                    root's, `sudo` in front of them is left out, and scripts that call it need \
                    the package",
                self.user
            );
            self.stage.remark(line, "sudo", message);
        }
        if let Some(format) = disk(&kind, format.as_deref()) {
            let packages = MACHINE.iter().map(|name| (*name).to_owned()).collect();
            let pending = std::mem::take(&mut self.stage.pending);
            self.stage.pending = vec![
                "A kernel, an init, what firmware starts, and what finds devices and names."
                    .to_owned(),
            ];
            self.stage.add(Step::new(vec![("packages", Value::List(packages))]));
            self.stage.pending = pending;
            let mut machine = vec![];
            if let Some(name) = self.candidate.block.get("vm_name").and_then(Node::as_plain) {
                let host = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if !name.is_empty() && name.len() < 64 && name.chars().all(host) {
                    machine.push(("hostname", Value::Text(name)));
                }
            }
            self.tables.push(("[machine]", machine));
            let end = if format == "disk" { "raw" } else { format };
            let mut keys = vec![
                ("format", Value::text(format)),
                ("path", Value::Text(format!("{{{{ name }}}}_{{{{ version }}}}.{end}"))),
            ];
            let given = self.candidate.block.get("disk_size");
            let given = given.and_then(|node| self.scope.text(node).ok());
            keys.extend(
                given.and_then(|text| size(&text.value())).map(|size| ("size", Value::Text(size))),
            );
            self.tables.push(("[[output]]", keys));
        }
        vec![("debian", Value::text(suite))]
    }

    fn image(&mut self, line: u32, image: &Text, debian: bool) -> Vec<(&'static str, Value)> {
        let value = image.value();
        if let Some((suite, slim)) = bases::debian(&value).filter(|_| debian) {
            self.stage.state = State::new(Origin::Made, true);
            let mut base = vec![("debian", Value::Text(suite))];
            if slim {
                base.push(("variant", Value::text("slim")));
            }
            return base;
        }
        let known = bases::known(&value);
        let plain_apt = known.as_ref().is_some_and(|known| known.debian);
        if known.is_none() {
            let name = if value.is_empty() { image.written() } else { value.clone() };
            let message = format!(
                "which user and directory {name} sets is not known: steps run as root and in /"
            );
            self.stage.remark(line, "base", message);
        }
        self.stage.state = State::new(Origin::Image { name: value.clone(), known }, plain_apt);
        if value.is_empty() {
            // A variable without a default: whoever builds has to give it one.
            for one in &mut self.scope.arguments.variables {
                if is_used(&image.written(), &one.name) {
                    one.value = None;
                }
            }
            if image.is_plain() {
                return self.unknown(line);
            }
        }
        vec![("oci", Value::Text(image.written()))]
    }

    /// A base that only whoever builds can name.
    fn unknown(&mut self, line: u32) -> Vec<(&'static str, Value)> {
        let message = format!(
            "what `{}.{}` starts from is nothing that a recipe can start from: give an image, \
                --var base=IMAGE, or write another [base]",
            self.candidate.kind, self.candidate.name
        );
        self.stage.remark(line, "base", message);
        let comments = ["An image to start from.".to_owned()];
        let base = self.scope.arguments.declare("base", &Text::default(), &comments);
        let called = base.expression();
        let mut all = self.scope.arguments.variables.iter_mut();
        if let Some(one) = all.find(|one| one.name == called) {
            one.value = None;
        }
        let origin = Origin::Image { name: "the base".to_owned(), known: None };
        self.stage.state = State::new(origin, false);
        vec![("oci", Value::Text(base.written()))]
    }
}

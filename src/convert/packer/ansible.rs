//! `ansible` and `ansible-local` provisioners as `ansible` steps.

use super::lower::Lower;
use super::node::Block;
use super::value::Why;
use crate::convert::document::Value;

/// Options of Ansible that are about the way to a machine, each with a value behind it.
const WAY: &[&str] = &["--ssh-extra-args", "--scp-extra-args", "--ssh-common-args"];

/// What is about the way to a machine as well, or about where files lie while Packer runs.
const NOTHING: &[&str] = &[
    "user",
    "use_proxy",
    "staging_directory",
    "clean_staging_directory",
    "host_alias",
    "command",
    "local_port",
    "ssh_host_key_file",
    "ssh_authorized_key_file",
    "sftp_command",
    "keep_inventory_file",
    "skip_version_check",
    "ansible_ssh_extra_args",
];

impl Lower<'_, '_> {
    /// Converts a provisioner that runs a playbook.
    pub(super) fn ansible(&mut self, block: &Block) -> Result<(), Why> {
        let Some(node) = block.get("playbook_file") else {
            return Err(Why::Left("it has no `playbook_file`".to_owned()));
        };
        let playbook = self.scope.text(node)?;
        let playbook = self.below(&playbook)?;
        let mut keys = vec![("ansible", Value::Text(playbook.written()))];
        for entry in &block.entries {
            let line = entry.line;
            match entry.name.as_str() {
                "playbook_file" => {}
                name @ ("groups" | "extra_arguments") => {
                    let texts = self.scope.texts(&entry.value)?;
                    let mut words = vec![];
                    let mut rest = texts.iter();
                    while let Some(one) = rest.next() {
                        let value = one.value();
                        if WAY.contains(&value.as_str()) {
                            rest.next();
                        } else if !WAY.iter().any(|way| value.starts_with(&format!("{way}="))) {
                            words.push(one.written());
                        }
                    }
                    if !words.is_empty() {
                        let key = if name == "groups" { "groups" } else { "args" };
                        keys.push((key, Value::List(words)));
                    }
                }
                name if NOTHING.contains(&name) => {
                    let message =
                        format!("`{name}` is left out: the playbook runs against the root itself");
                    self.stage.note(line, "ansible", message);
                }
                name => {
                    let message =
                        format!("`{name}` is left out: see the keys of an `ansible` step");
                    self.stage.remark(line, "ansible", message);
                }
            }
        }
        self.configured(keys);
        Ok(())
    }
}
